"""What is requested: subjects, prompts, slots, reference photographs and the ids that name them."""
