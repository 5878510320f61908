"""Errors whose message is written for the person at the command line, and failures as they are recorded."""

from __future__ import annotations

import traceback
from dataclasses import asdict, dataclass
from typing import Any

from fc_bench.model.errors import ModelInputError


class UserError(Exception):
    """Something the caller can put right; the message is one sentence: what is wrong, where, and what to do."""


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
