"""Errors whose message is written for the person at the command line."""


class UserError(Exception):
    """Something the caller can put right; the message is one sentence: what is wrong, where, and what to do."""
