"""Errors whose message is written for the person who has to act on it."""


class ModelInputError(ValueError):
    """Input a model cannot work with; the message is one sentence: what is wrong, where, and what to do."""
