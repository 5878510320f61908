"""JSON-lines files: records appended one at a time, each on disk before the next, and read however many they are.

A last line without its end (the process was killed while writing) is cut off when the file is opened for writing, and
ignored when it is read. Every other line that is no record, or lacks what a record of its file has (`record_shapes`),
is named in the error.
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
"""What is wrong with a record, as the end of a sentence about its line; None where its readers find all they need."""


def stream_lines(path: Path, wrong: Wrong | None = None) -> Iterator[dict[str, Any]]:
    """The records of a JSON-lines file (none when it does not exist), one at a time, so that any number fits in memory.

    An unfinished last line is left out. Raises UserError naming file and line when any other line is damaged, or lacks
    what a record of this file has (its kind's fields, or what `wrong` says).
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
    """What readers of a million records need of each: its kind's fields, some thousand records at a time.

    With them come the bytes at which their lines begin, for `records_at`. Errors are those of `stream_lines`, told
    before anything of their block is given.
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
    """The same, one record at a time."""
    for _, records in stream_blocks(path, kind):
        yield from records


def records_at(path: Path, places: Iterable[int]) -> Iterator[dict[str, Any]]:
    """The records whose lines begin at these bytes; raises UserError where one is damaged or the file has changed."""
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
    """The number of the line that begins at a byte."""
    with path.open("rb") as file:
        return 1 + sum(block.count(b"\n") for block in _blocks(file, place))


def _blocks(file: BinaryIO, length: int) -> Iterator[bytes]:
    """So many bytes of a file, a piece at a time."""
    while length > 0 and (block := file.read(min(length, BLOCK))):
        yield block
        length -= len(block)


def _decoded_singly(path: Path, before: int, lines: list[bytes], kind: type[Kind]) -> Iterator[Kind]:
    """Lines of which at least one is damaged, unfinished, or needs another parser."""
    wrong = _wrong_as(kind)
    for number, line in enumerate(lines, start=before + 1):
        record = _record(path, number, line, wrong)
        if record is not None:
            yield msgspec.convert(record, kind)


def _record(path: Path, number: int, line: bytes, wrong: Wrong | None) -> dict[str, Any] | None:
    """The record of a line, None of an unfinished one."""
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
    """What a line says, None where it is no JSON."""
    try:
        return msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return _parsed_otherwise(line)


def _parsed_otherwise(line: bytes) -> Any:
    """What msgspec refuses and JSON allows (half surrogates), or None."""
    try:
        return json.loads(line, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        return None


def _no_number(text: str) -> float:
    """NaN and the infinities are no JSON; Python's reader would let them in."""
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


class LineWriter:
    """Appends records to a JSON-lines file; each is on disk when `append` returns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab+")
        self._mend()

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record and sync it."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False)
        self._file.write(line.encode("utf-8", "backslashreplace") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _mend(self) -> None:
        """Complete a whole last line that lacks its newline; cut off half a record."""
        start, last = self._last_line()
        if not last:
            return
        if isinstance(_parsed(last), dict):
            self._file.write(b"\n")
        else:
            self._file.truncate(start)
        self._file.flush()

    def _last_line(self) -> tuple[int, bytes]:
        """What stands behind the last newline, and where it begins: read from the end, however long the file is."""
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
