"""JSON-lines files: records are appended one at a time and synced to disk, and read without holding all in memory.

An incomplete last line (from a process killed while writing) is cut off when the file is opened for writing, and
ignored when it is read. Every other line that is not a valid record (`record_shapes`) is named in the error.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from fc_bench.errors import UserError
from fc_bench.run_folder.record_shapes import KINDS, problem

Kind = TypeVar("Kind", bound=msgspec.Struct)

BLOCK = 1 << 16
"""Bytes of lines that are read at a time."""

Wrong = Callable[[Mapping[str, Any]], "str | None"]
"""The error of a record, as the end of a sentence about its line; None if the record is valid."""


def stream_lines(path: Path, wrong: Wrong | None = None) -> Iterator[dict[str, Any]]:
    """The records of a JSON-lines file (none if it does not exist), one at a time.

    An incomplete last line is left out. Raises UserError naming file and line if any other line is damaged or lacks a
    field of its kind, or if `wrong` reports an error.
    """
    if not path.exists():
        return
    kind = KINDS.get(path.name)
    if wrong is None and kind is not None:
        wrong = _wrong_as(kind)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            record = _record(path, number, line, wrong)
            if record is not None:
                yield record


def read_lines(path: Path, wrong: Wrong | None = None) -> list[dict[str, Any]]:
    """All records of a JSON-lines file at once; otherwise as `stream_lines`."""
    return list(stream_lines(path, wrong))


def stream_blocks(path: Path, kind: type[Kind]) -> Iterator[tuple[list[int], list[Kind]]]:
    """The fields that readers of a million records need, in blocks of some thousand records.

    The offsets in bytes of their lines are given as well, for `records_at`. Errors are those of `stream_lines`, raised
    before any record of the block is given.
    """
    if not path.exists():
        return
    decode, number, place = msgspec.json.Decoder(kind).decode, 0, 0
    with path.open("rb") as file:
        while lines := file.readlines(BLOCK):
            try:
                if not all(map(bytes.isascii, lines)):
                    b"".join(lines).decode()  # what the decoder skips may be no text
                records = list(map(decode, lines))
            except (ValueError, RecursionError):
                records = list(_decoded_singly(path, number, lines, kind))
            places = list(accumulate(map(len, lines), initial=place))
            number, place = number + len(lines), places.pop()
            yield places[: len(records)], records


def stream_fields(path: Path, kind: type[Kind]) -> Iterator[Kind]:
    """As `stream_blocks`, one record at a time."""
    for _, records in stream_blocks(path, kind):
        yield from records


def records_at(path: Path, places: Iterable[int]) -> Iterator[dict[str, Any]]:
    """The records whose lines start at these byte offsets; raises UserError if one is damaged or has changed."""
    kind = KINDS.get(path.name)
    wrong = None if kind is None else _wrong_as(kind)
    with path.open("rb") as file:
        for place in places:
            file.seek(place)
            record = _parsed(file.readline())
            message = wrong(record) if wrong is not None and isinstance(record, dict) else None
            if message is not None:
                raise _damaged(path, line_at(path, place), message)
            if not isinstance(record, dict):
                raise UserError(f"{path} was changed while it was read; repeat the command.")
            yield record


def line_at(path: Path, place: int) -> int:
    """The number of the line that starts at an offset in bytes."""
    with path.open("rb") as file:
        return 1 + sum(block.count(b"\n") for block in _blocks(file, place))


def _blocks(file: BinaryIO, length: int) -> Iterator[bytes]:
    """The first bytes of a file, in blocks."""
    while length > 0 and (block := file.read(min(length, BLOCK))):
        yield block
        length -= len(block)


def _decoded_singly(path: Path, before: int, lines: list[bytes], kind: type[Kind]) -> Iterator[Kind]:
    """The records of lines of which at least one is damaged, incomplete, or needs another parser."""
    wrong = _wrong_as(kind)
    for number, line in enumerate(lines, start=before + 1):
        record = _record(path, number, line, wrong)
        if record is not None:
            yield msgspec.convert(record, kind)


def _record(path: Path, number: int, line: bytes, wrong: Wrong | None) -> dict[str, Any] | None:
    """The record of a line; None if it is incomplete."""
    record = _parsed(line)
    if isinstance(record, dict):
        message = wrong(record) if wrong is not None else None
    elif line.endswith(b"\n"):
        message = "this line is not a record"
    else:
        return None
    if message is not None:
        raise _damaged(path, number, message)
    return record


def _damaged(path: Path, number: int, message: str) -> UserError:
    return UserError(f"{path}:{number}: {message}; restore the file or remove the line to redo it.")


def _wrong_as(kind: type[msgspec.Struct]) -> Wrong:
    return lambda record: problem(record, kind)


def _parsed(line: bytes) -> Any:
    """The JSON value of a line; None if it is not JSON."""
    try:
        return msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return _parsed_otherwise(line)


def _parsed_otherwise(line: bytes) -> Any:
    """A value that JSON allows and msgspec refuses (half surrogates), or None."""
    try:
        return json.loads(line, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        return None


def _no_number(text: str) -> float:
    """Refuse NaN and infinities: they are not JSON, but Python's reader accepts them."""
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


class LineWriter:
    """Appends records to a JSON-lines file; each is on disk when `append` or, without `sync`, `sync` returns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab+")
        self._mend()

    def append(self, record: Mapping[str, Any], sync: bool = True) -> None:
        """Write one record and sync it; without `sync` it survives a killed process, but not a power failure."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False)
        self._file.write(line.encode("utf-8", "backslashreplace") + b"\n")
        self._file.flush()
        if sync:
            self.sync()

    def sync(self) -> None:
        """Sync all records to disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _mend(self) -> None:
        """Complete a whole last line that lacks its newline; cut off an incomplete record."""
        start, last = self._last_line()
        if not last:
            return
        if isinstance(_parsed(last), dict):
            self._file.write(b"\n")
        else:
            self._file.truncate(start)
        self._file.flush()

    def _last_line(self) -> tuple[int, bytes]:
        """The text after the last newline and its offset, read from the end of the file."""
        size = self._file.seek(0, os.SEEK_END)
        length = 1
        while True:
            length = min(length, size)
            self._file.seek(size - length)
            tail = self._file.read(length)
            newline = tail.rfind(b"\n")
            if newline >= 0 or length == size:
                start = size - length + newline + 1
                return start, tail[newline + 1 :]
            length *= 64
