"""Errors whose message is written for the person at the command line, and failures as they are recorded."""

from __future__ import annotations

import errno
import os
import re
import traceback
from dataclasses import asdict, dataclass
from typing import Any

from fc_bench.model.errors import ModelInputError


class UserError(Exception):
    """Something the caller can put right; the message is one sentence: what is wrong, where, and what to do."""


DISK_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""No space, over quota, read-only: nothing that follows could be written either."""


def raise_if_disk_refuses(error: BaseException) -> None:
    """Raise when a disk that takes no more is behind an exception, so that it ends the run instead of one job.

    What was raised is an OSError, except that an error meant for the user goes up as it is.
    """
    cause: BaseException | None = error
    while cause is not None:
        number = cause.errno if isinstance(cause, OSError) else _number_in(str(cause))
        if number is not None and number in DISK_REFUSES:
            if isinstance(error, (OSError, UserError, ModelInputError)):
                raise error
            raise OSError(number, os.strerror(number)) from error
        cause = cause.__cause__ or cause.__context__


def _number_in(message: str) -> int | None:
    """The error number that libraries written in Rust (safetensors) have in their text alone."""
    found = re.search(r"\(os error (\d+)\)", message)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class Failure:
    """An exception as recorded: text alone, so that nothing it had in hand stays in memory."""

    type: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """What to record of an exception; one that is meant for the user speaks for itself, others give their type."""
        if isinstance(error, (UserError, ModelInputError)):
            message = " ".join(str(error).split())
        else:
            lines = str(error).strip().splitlines()
            message = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return cls(type(error).__name__, message, "".join(traceback.format_exception(error)))

    def record(self) -> dict[str, Any]:
        """The fields of a record that failed."""
        return {"status": "error", "error": asdict(self)}
