"""The shared code of the tuned methods: training data, class images, the training loop and their base class."""
