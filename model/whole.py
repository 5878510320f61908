"""Atomic creation of files and folders: an interruption leaves no incomplete file or folder under the final name."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(file: Path, content: bytes) -> None:
    """Write a file atomically and replace an existing one; raises OSError."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    part.write_bytes(content)
    os.replace(part, file)


@contextmanager
def made_in_whole(folder: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `folder` when the block ends.

    If another process has created `folder` meanwhile, that folder is kept. Raises OSError.
    """
    part = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    part.mkdir()
    try:
        yield part
        try:
            os.rename(part, folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
