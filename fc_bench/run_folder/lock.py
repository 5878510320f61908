"""The lock of a folder: one process at a time writes into it."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fc_bench.errors import UserError

LOCK, PART = ".lock", ".part"
"""Name of the locked file, and suffix of files that are being written."""


@contextmanager
def held(folder: Path, mark: str | None = None) -> Iterator[None]:
    """Lock the folder (created if absent) for this process until the context ends.

    Raises UserError if another process holds the lock, if the folder cannot be written or locked, or if it holds other
    files but not the file named `mark`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = sorted(item.name for item in folder.iterdir() if item.name != LOCK and item.suffix != PART)
        if mark is not None and found and not (folder / mark).is_file():
            raise UserError(
                f'The folder {folder} holds something else (it has "{found[0]}" but no {mark}); choose another with '
                "--out."
            )
        lock = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be written ({error.strerror}); choose another with --out."
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise UserError(
                f"Another process is working in {folder} (process {holder}); wait for it or choose another folder "
                "with --out."
            ) from None
        except OSError as error:
            raise UserError(
                f"The folder {folder} cannot be locked ({error.strerror}); choose one on another file system with "
                "--out."
            ) from None
        try:
            lock.truncate(0)
            lock.write(f"{os.getpid()} on {socket.gethostname()}")
            lock.flush()
        except OSError as error:
            raise UserError(
                f"The folder {folder} cannot be written ({error.strerror}); make room or choose another with --out."
            ) from None
        try:
            yield
        finally:
            with suppress(OSError):
                lock.truncate(0)
