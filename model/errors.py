"""Errors of the model packages about bad input."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ModelInputError(ValueError):
    """Bad input; its text is one sentence with what is wrong, where, and what to do."""


class MissingWeightsError(ModelInputError):
    """Missing weights; `message` says what is missing, and `remedy` how to get it (often a shell command)."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message} {remedy}")
        self.message, self.remedy = message, remedy


NO_HUB_CACHE = "the user has no home folder for the Hugging Face cache; set HF_HOME to a folder"


def is_missing_home(error: BaseException) -> bool:
    """Whether pathlib raised the error because the user has no home folder; libraries pass such errors on."""
    return isinstance(error, RuntimeError) and "home directory" in str(error)


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Turn loading errors of libraries inside the block into a ModelInputError about `what`.

    If `what` has a hub id `owner/name`, the error names the command that downloads it.
    """
    from safetensors import SafetensorError

    try:
        yield
    except ModelInputError:
        raise
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError):
            if not is_missing_home(error):
                raise
            raise ModelInputError(f"{what} cannot be loaded ({NO_HUB_CACHE})") from None
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        hub = _hub_id(what) if isinstance(error, OSError) else None
        if hub is None:
            raise ModelInputError(f"{what} cannot be loaded ({reason}): check that its folder is complete") from error
        why = "network access is disabled" if os.environ.get("HF_HUB_OFFLINE") == "1" else reason
        raise ModelInputError(
            f"{what} cannot be loaded ({why}): {hub} is not a local folder, and the local cache does not have all of "
            f"it; download it with: hf download {hub}"
        ) from error


def _hub_id(what: str) -> str | None:
    """The first word of the form `owner/name` that is not a local path."""
    words = (word.strip("()") for word in what.split())
    return next((word for word in words if re.fullmatch(r"\w[\w.-]*/[\w.-]+", word) and not Path(word).exists()), None)
