"""What the model packages say about bad input."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ModelInputError(ValueError):
    """Bad input, told in one sentence: what is wrong, where, and what to do."""


class MissingWeightsError(ModelInputError):
    """Weights that are not here: what is missing, and on a line of its own the command that fetches it."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message} {remedy}")
        self.message, self.remedy = message, remedy


NO_HUB_CACHE = "the user has no home folder for the Hugging Face cache; set HF_HOME to a folder"


def lacks_home(error: BaseException) -> bool:
    """Whether pathlib raised it for a user without a home folder, as it does from within libraries."""
    return isinstance(error, RuntimeError) and "home directory" in str(error)


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Tell as a ModelInputError that libraries fail to load `what` inside the block.

    Where `what` has the hub id `owner/name` of a model that is not here, with the command that fetches it.
    """
    from safetensors import SafetensorError

    try:
        yield
    except ModelInputError:
        raise
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError):
            if not lacks_home(error):
                raise
            raise ModelInputError(f"{what} cannot be loaded ({NO_HUB_CACHE})") from None
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        hub = _hub_id(what) if isinstance(error, OSError) else None
        if hub is None:
            raise ModelInputError(f"{what} cannot be loaded ({reason}): check that its folder is complete") from error
        why = "the network is not to be used" if os.environ.get("HF_HUB_OFFLINE") == "1" else reason
        raise ModelInputError(
            f"{what} cannot be loaded ({why}): {hub} is no folder here and not whole in the local cache; "
            f"fetch it with: hf download {hub}"
        ) from error


def _hub_id(what: str) -> str | None:
    """The first word that reads `owner/name` and is no path here."""
    words = (word.strip("()") for word in what.split())
    return next((word for word in words if re.fullmatch(r"\w[\w.-]*/[\w.-]+", word) and not Path(word).exists()), None)
