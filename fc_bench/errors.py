"""Errors with messages for the user at the command line, and failures as they are recorded."""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fc_bench.model.errors import ModelInputError


class UserError(Exception):
    """An error that the user can fix; the message is one sentence: what is wrong, where, and what to do."""


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Turn an OSError of the block, which writes the folder of `--out`, into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror or error}); name another folder with --out."
        ) from None


DISK_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Error numbers of a disk that accepts no more data: no space, over quota, read-only."""


def raise_if_disk_refuses(error: BaseException) -> None:
    """Raise if an exception was caused by a full disk, so that it ends the run instead of one job.

    An OSError is raised; an error that is meant for the user is raised unchanged.
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
    """The error number in messages of libraries written in Rust (safetensors)."""
    found = re.search(r"\(os error (\d+)\)", message)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class Failure:
    """An exception as recorded: text alone, so that its objects do not stay in memory."""

    type: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The record of an exception: the message of a UserError, the type and first line of others."""
        if isinstance(error, (UserError, ModelInputError)):
            message = " ".join(str(error).split())
        else:
            lines = str(error).strip().splitlines()
            message = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return cls(type(error).__name__, message, "".join(traceback.format_exception(error)))

    def record(self) -> dict[str, Any]:
        """The fields of a failed record."""
        return {"status": "error", "error": asdict(self)}
