"""From a plan to images: who customizes, who generates, in which batches, on which machines."""
