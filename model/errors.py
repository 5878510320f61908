"""What the model packages say about bad input."""


class ModelInputError(ValueError):
    """Bad input, told in one sentence: what is wrong, where, and what to do."""
