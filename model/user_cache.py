"""Where what can be made again lies: the user's cache folder, and what is made there once."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fc_bench.model.errors import ModelInputError
from fc_bench.model.whole import made_in_whole


def expanded(path: str | Path) -> Path:
    """The path with a home folder in the place of `~`; raises ModelInputError where the user has none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ModelInputError(f"The home folder in {path} is not known here; write the path out.") from None


def cache_folder() -> Path:
    """`FC_BENCH_CACHE`, else `~/.cache/fc-bench`; raises ModelInputError where the user has no home folder."""
    try:
        return Path(os.environ.get("FC_BENCH_CACHE") or "~/.cache/fc-bench").expanduser()
    except RuntimeError:
        raise ModelInputError(
            "There is no place for the cache, the user has no home folder: set FC_BENCH_CACHE to a folder."
        ) from None


def made_once(kind: str, stem: str, decides: Any, make: Callable[[Path], None]) -> Path:
    """The folder of that kind in the cache, named by a hash of everything that decides it; made where it is not there.

    Raises OSError when it cannot be written, or holds what cannot be read.
    """
    name = f"{stem}-{hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]}"
    folder = cache_folder() / kind / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with made_in_whole(folder) as part:
            make(part)
    for file in (folder, *folder.rglob("*")):
        if not os.access(file, os.R_OK | os.X_OK if file.is_dir() else os.R_OK):
            raise PermissionError(errno.EACCES, "files of another user there cannot be read", str(file))
    return folder


def describe_refusal(error: OSError) -> str:
    """A file or folder that this user cannot use, as a sentence with what to do."""
    place = Path(os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename))
    try:
        cached = place.is_relative_to(cache_folder())
    except ModelInputError:
        cached = False
    remedy = (
        "set FC_BENCH_CACHE to a folder of yours" if cached else "correct its rights, make room or name another place"
    )
    return f"{place} cannot be used ({error.strerror}); {remedy}."


@contextmanager
def writing_to_cache(kind: str, told: str) -> Iterator[None]:
    """Turns an OSError into a ModelInputError: `told` (in) the folder of that kind, and what to do."""
    try:
        yield
    except OSError as error:
        raise ModelInputError(
            f"{told} {cache_folder() / kind} ({error.strerror or error}); make room or set FC_BENCH_CACHE to another "
            "folder."
        ) from None
