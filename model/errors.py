"""What the model packages say about bad input."""

from collections.abc import Iterator
from contextlib import contextmanager


class ModelInputError(ValueError):
    """Bad input, told in one sentence: what is wrong, where, and what to do."""


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Tell as a ModelInputError that libraries fail to load `what` inside the block."""
    from safetensors import SafetensorError

    try:
        yield
    except ModelInputError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelInputError(f"{what} cannot be loaded ({reason}): check that its folder is complete") from error
