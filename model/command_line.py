"""The border of every command: standard streams that cannot make it fail, and what its exit code means.

0 done, 1 the gate of `fc-bench compare` found a regression, 2 the caller can put it right, 3 runs that cannot be
compared, 4 incomplete, and the codes below.
"""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TextIO

from fc_bench.model.errors import MissingWeightsError, ModelInputError
from fc_bench.model.user_cache import describe_refusal

Arguments = ParamSpec("Arguments")

EXIT_USAGE = 2
EXIT_DEFECT = 70
"""An exception that nobody expected (EX_SOFTWARE of sysexits.h)."""
EXIT_OUTPUT = 74
"""The work is done, standard output or error took no more, as on a full disk (EX_IOERR)."""
EXIT_INTERRUPTED = 130
EXIT_CLOSED_PIPE = 141
"""The work is done, nobody reads standard output or error any more; what shells show for SIGPIPE."""
EXIT_TERMINATED = 143
INTERRUPTED = "interrupted; the same command continues."

_PLACE_REFUSES = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.EIO, errno.ESTALE,
)  # fmt: skip
"""Rights, space, length of a name, a broken disk or share."""


class PassedOnError(Exception):
    """Carries an exception past a library that would turn it into an exit code of its own."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class _Output(io.FileIO):
    """A standard stream that keeps its first failure and goes on to the null device.

    What cannot be shown must not stop what is computed and recorded, whichever thread or library shows it.
    """

    trouble: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            while (written := super().write(data)) is None:  # somebody made it non-blocking
                select.select([], [self.fileno()], [])
            return written
        except OSError as error:
            self.trouble = error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return len(data)


def open_streams() -> None:
    """Make standard output and error take every character and fail nobody.

    A character that the encoding lacks is replaced; a stream that was closed from the start is the null device.
    Streams that somebody put in their place (a test, a notebook) stay as they are.
    """
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:  # or the next file opened would be standard output
        os.set_inheritable(free, True)
    os.close(free)
    sys.stdout = _tolerant(sys.stdout, sys.__stdout__, "replace")
    sys.stderr = _tolerant(sys.stderr, sys.__stderr__, "backslashreplace")


def _tolerant(stream: TextIO | None, original: TextIO | None, errors: str) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8", errors=errors)
    if stream is not original:
        return stream
    buffer = io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False))
    line_buffering = bool(getattr(stream, "line_buffering", False))
    return io.TextIOWrapper(buffer, stream.encoding, errors, line_buffering=line_buffering)


def exit_code_of(
    command: Callable[[], int | None],
    tell: Callable[[str], None],
    refusals: tuple[type[Exception], ...] = (ModelInputError,),
    interrupted: str = INTERRUPTED,
) -> int:
    """Run a command to its exit code; `tell` shows a line that says why it is not 0.

    An exception among `refusals`, or a place that cannot be used, is one line (2); Ctrl-C and SIGTERM give
    `interrupted` (130, 143); what nobody expected is a traceback (70). Output that was not delivered turns 0 into
    `EXIT_OUTPUT` or `EXIT_CLOSED_PIPE`.
    """
    open_streams()
    terminated: list[int] = []

    def terminate(number: int, _: object) -> None:
        terminated.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminate)
    lines: list[str] = []
    try:
        code = command() or 0
    except BaseException as raised:
        error = raised.error if isinstance(raised, PassedOnError) else raised
        if isinstance(error, SystemExit) and error.code in (None, 0, EXIT_USAGE):
            code = EXIT_USAGE if error.code else 0
        elif isinstance(error, KeyboardInterrupt):
            lines, code = [interrupted], EXIT_TERMINATED if terminated else EXIT_INTERRUPTED
        elif lines := _refusal(error, refusals):
            code = EXIT_USAGE
        else:
            traceback.print_exception(error)
            lines, code = ["this is a defect, no verdict; what was recorded before it is whole."], EXIT_DEFECT
    sys.stdout.flush()
    for line in lines:
        tell(line)
    return code or _undelivered(tell)


def as_command(
    main: Callable[Arguments, int],
    interrupted: str = INTERRUPTED,
    refusals: tuple[type[Exception], ...] = (ModelInputError,),
) -> Callable[Arguments, int]:
    """A main of `python -m ...` that returns the exit code, whatever happens in it; see `exit_code_of`."""

    @wraps(main)
    def command(*arguments: Arguments.args, **named: Arguments.kwargs) -> int:
        def tell(line: str) -> None:
            print(f"error: {line}", file=sys.stderr)

        return exit_code_of(lambda: main(*arguments, **named), tell, refusals, interrupted)

    return command


def _refusal(error: BaseException, refusals: tuple[type[Exception], ...]) -> list[str]:
    """What to say of an exception that the caller can put right, line by line; empty for any other."""
    if isinstance(error, MissingWeightsError):
        return [error.message, error.remedy]
    if isinstance(error, refusals):
        return [str(error)]
    if isinstance(error, OSError) and error.errno in _PLACE_REFUSES and error.filename is not None:
        return [describe_refusal(error)]
    if isinstance(error, OSError) and str(error.strerror).startswith("No usable temporary"):
        return ["no folder for temporary files can be written; set TMPDIR to one."]
    if isinstance(error, OSError) and "MPLCONFIGDIR" in str(error):
        return ["no cache folder of Matplotlib can be written; set MPLCONFIGDIR to one, or TMPDIR."]
    if isinstance(error, UnicodeEncodeError) and sys.getfilesystemencoding() != "utf-8":
        return [f"this locale has no file names with {error.object[error.start]!a}; set PYTHONUTF8=1 and repeat."]
    return []


def _undelivered(tell: Callable[[str], None]) -> int:
    """0, or the code for output that was not delivered; whether it was is known once it is flushed."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        trouble = getattr(getattr(getattr(stream, "buffer", None), "raw", None), "trouble", None)
        if isinstance(trouble, BrokenPipeError):
            return EXIT_CLOSED_PIPE
        if trouble is not None:
            tell(f"the output could not be written ({trouble.strerror}); everything else is done.")
            return EXIT_OUTPUT
    return 0
