"""From images to scores: the models that metrics share and the order in which they are applied."""
