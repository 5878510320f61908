"""Exit codes and standard streams of every command; a failing stream never stops a command.

Exit codes: 0 done, 1 the gate of `fc-bench compare` found a regression, 2 an error that the caller can correct, 3 the
runs cannot be compared, 4 incomplete, and the codes below.
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
"""An unexpected exception (EX_SOFTWARE of sysexits.h)."""
EXIT_OUTPUT = 74
"""The work is done, but standard output or error could not be written, as on a full disk (EX_IOERR)."""
EXIT_INTERRUPTED = 130
EXIT_CLOSED_PIPE = 141
"""The work is done, but the reader of standard output or error is gone; shells show this code for SIGPIPE."""
EXIT_TERMINATED = 143
INTERRUPTED = "interrupted; the same command continues."

_ACCESS_ERRORS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.EIO, errno.ESTALE,
)  # fmt: skip
"""Errors of permissions, disk space, name length, and broken disks or network shares."""


class PassedOnError(Exception):
    """A wrapper that carries an exception past a library that would turn it into its own exit code."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class _Output(io.FileIO):
    """A standard stream that keeps its first failure and then writes to the null device.

    A failure of the output must not stop the computation, whichever thread or library writes.
    """

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            while (written := super().write(data)) is None:  # the stream is non-blocking
                select.select([], [self.fileno()], [])
            return written
        except OSError as error:
            self.failure = error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return len(data)


def open_streams() -> None:
    """Make standard output and error accept every character and never raise.

    Characters outside the encoding are replaced. A stream that was closed from the start becomes the null device.
    Streams that a test or a notebook has replaced stay as they are.
    """
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:  # otherwise the next opened file would become standard output
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
    """Run a command and return its exit code; `tell` prints a line that explains a code other than 0.

    An exception among `refusals`, or an inaccessible file, gives one line (2). Ctrl-C and SIGTERM give `interrupted`
    (130, 143). An unexpected exception gives a traceback (70). If output was lost, `EXIT_OUTPUT` or `EXIT_CLOSED_PIPE`
    replaces 0.
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
            lines, code = ["this is a bug, not a result; everything recorded before it is intact."], EXIT_DEFECT
    sys.stdout.flush()
    for line in lines:
        tell(line)
    return code or _code_of_lost_output(tell)


def as_command(
    main: Callable[Arguments, int],
    interrupted: str = INTERRUPTED,
    refusals: tuple[type[Exception], ...] = (ModelInputError,),
) -> Callable[Arguments, int]:
    """Wrap the main function of `python -m ...` so that it always returns an exit code; see `exit_code_of`."""

    @wraps(main)
    def command(*arguments: Arguments.args, **named: Arguments.kwargs) -> int:
        def tell(line: str) -> None:
            print(f"error: {line}", file=sys.stderr)

        return exit_code_of(lambda: main(*arguments, **named), tell, refusals, interrupted)

    return command


def _refusal(error: BaseException, refusals: tuple[type[Exception], ...]) -> list[str]:
    """The lines to print for an exception that the caller can correct; empty for any other exception."""
    if isinstance(error, MissingWeightsError):
        return [error.message, error.remedy]
    if isinstance(error, refusals):
        return [str(error)]
    if isinstance(error, OSError) and error.errno in _ACCESS_ERRORS and error.filename is not None:
        return [describe_refusal(error)]
    if isinstance(error, OSError) and str(error.strerror).startswith("No usable temporary"):
        return ["no folder for temporary files is writable; set TMPDIR to a writable folder."]
    if isinstance(error, OSError) and "MPLCONFIGDIR" in str(error):
        return ["no cache folder of Matplotlib is writable; set MPLCONFIGDIR or TMPDIR to a writable folder."]
    if isinstance(error, UnicodeEncodeError) and sys.getfilesystemencoding() != "utf-8":
        return [f"this locale does not allow {error.object[error.start]!a} in file names; set PYTHONUTF8=1 and repeat."]
    return []


def _code_of_lost_output(tell: Callable[[str], None]) -> int:
    """0, or the exit code if output was lost, which is known only after a flush."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        failure = getattr(getattr(getattr(stream, "buffer", None), "raw", None), "failure", None)
        if isinstance(failure, BrokenPipeError):
            return EXIT_CLOSED_PIPE
        if failure is not None:
            tell(f"the output could not be written ({failure.strerror}); everything else is done.")
            return EXIT_OUTPUT
    return 0
