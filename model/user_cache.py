"""The user's cache folder, for files that can be created again."""

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
    """The path with `~` replaced by the home folder; raises ModelInputError when the user has no home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ModelInputError(f"The home folder in {path} is unknown; write the path out in full.") from None


def cache_folder() -> Path:
    """`FC_BENCH_CACHE`, else `~/.cache/fc-bench`; raises ModelInputError when the user has no home folder."""
    try:
        return Path(os.environ.get("FC_BENCH_CACHE") or "~/.cache/fc-bench").expanduser()
    except RuntimeError:
        raise ModelInputError(
            "There is no place for the cache, because the user has no home folder: set FC_BENCH_CACHE to a folder."
        ) from None


def made_once(kind: str, stem: str, decides: Any, make: Callable[[Path], None]) -> Path:
    """A folder of this kind in the cache, which `make` fills if it does not exist.

    Its name has a hash of `decides`, everything that its content depends on. Raises OSError when the folder cannot be
    written or has unreadable files.
    """
    name = f"{stem}-{hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]}"
    folder = cache_folder() / kind / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with made_in_whole(folder) as part:
            make(part)
    for file in (folder, *folder.rglob("*")):
        if not os.access(file, os.R_OK | os.X_OK if file.is_dir() else os.R_OK):
            raise PermissionError(errno.EACCES, "it belongs to another user and cannot be read", str(file))
    return folder


def describe_refusal(error: OSError) -> str:
    """A sentence about a file or folder that the user cannot access, with what to do."""
    place = Path(os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename))
    try:
        cached = place.is_relative_to(cache_folder())
    except ModelInputError:
        cached = False
    remedy = (
        "set FC_BENCH_CACHE to a folder of yours"
        if cached
        else "change its permissions, make room or choose another place"
    )
    return f"{place} cannot be used ({error.strerror}); {remedy}."


@contextmanager
def writing_to_cache(kind: str, problem: str) -> Iterator[None]:
    """Turn an OSError inside the block into a ModelInputError; `problem` starts the sentence, before the folder."""
    try:
        yield
    except OSError as error:
        raise ModelInputError(
            f"{problem} {cache_folder() / kind} ({error.strerror or error}); make room or set FC_BENCH_CACHE to "
            "another folder."
        ) from None
