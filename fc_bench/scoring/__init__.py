"""From images to scores: the models that metrics share, and the scoring of a run."""
