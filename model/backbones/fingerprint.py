"""Content hashes of weights, which a run records and which show whether two runs used the same weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".onnx")
READ_SUFFIXES = (*WEIGHT_SUFFIXES, ".json", ".txt", ".model")


def files_of(path: Path) -> Iterator[Path]:
    """The files below `path` that libraries can load, in a stable order; `path` itself if it is a file."""
    if path.is_file():
        yield path
        return
    yield from sorted(file for file in path.rglob("*") if file.is_file() and file.suffix in READ_SUFFIXES)


def sha256_of(path: Path) -> str:
    """sha256 of a file's content (hexadecimal); raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(path: Path, files: Iterable[Path] | None = None) -> str:
    """sha256 of the relative names and contents of files (hexadecimal); unchanged files are read once.

    The files are those of `files_of(path)`, unless they are given.
    """
    states = [(file, file.stat()) for file in (files_of(path) if files is None else files)]
    return _fingerprint(path, tuple((file, state.st_size, state.st_mtime_ns) for file, state in states))


@lru_cache(maxsize=256)
def _fingerprint(path: Path, states: tuple[tuple[Path, int, int], ...]) -> str:
    listing = [(file.relative_to(path).as_posix(), sha256_of(file)) for file, _, _ in states]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()
