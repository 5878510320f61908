"""Files and folders that take their names when they are whole: an interruption leaves nothing half-made under them."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(file: Path, content: bytes) -> None:
    """Write a file that replaces the one that is there; raises OSError."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    part.write_bytes(content)
    os.replace(part, file)


@contextmanager
def made_in_whole(folder: Path) -> Iterator[Path]:
    """A folder to fill that takes its name when it is whole; another process that was faster has the name."""
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
