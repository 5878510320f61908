"""Files of a judge's answers: JSON lines or a table, and which image of a run a row is about."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from fc_bench.errors import UserError
from fc_bench.metrics.judged import Question
from fc_bench.model.text_file import encoding_of
from fc_bench.run_folder.json_lines import stream_fields
from fc_bench.run_folder.record_shapes import Planned, Sampled
from fc_bench.run_folder.records import PLAN, SAMPLES, RunFolder

REQUEST = ("method", "subjects", "prompt", "index")
"""The columns that say which image is meant, where it is not named by its id or path."""
KNOWN = ("image", *REQUEST, "question", "answer", "repetition", "numbers")
LARGEST_FILE = 1 << 30
"""Largest size in bytes of a file of answers."""
LARGEST_WHOLE = 10**6


class Images:
    """The finished images of a run, by everything that may name them in a file of answers."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        planned = {one.id for one in stream_fields(folder.path / PLAN, Planned)}
        self.planned = len(planned)
        last = {one.id: one for one in stream_fields(folder.path / SAMPLES, Sampled) if one.id in planned}
        self.finished = {name: one for name, one in last.items() if one.status == "ok"}
        self._root = folder.path.resolve()
        self._by_image: dict[str, list[str]] = {}
        for one in self.finished.values():
            self._by_image.setdefault(str(one.image), []).append(one.id)

    @cached_property
    def _by_request(self) -> dict[tuple[str, str, str, int], str]:
        """(method, subjects, prompt as template or as text, index) -> the sample."""
        return {
            (one.method, "+".join(one.subjects), _even(text), one.index): one.id
            for one in self.finished.values()
            for text in (one.template, one.prompt)
        }

    def of_row(self, row: Mapping[str, Any], question: Question, where: str) -> list[str]:
        """The samples that a row of a file is about; raises UserError if there is none."""
        text = str(row.get("image") or "").strip()
        return self._named(text, question, where) if text else [self._requested(row, where)]

    def _named(self, text: str, question: Question, where: str) -> list[str]:
        """The samples of an id or of an image's path, below the run folder or with it.

        An image that several samples share stands for all of them, unless the question is also about the references,
        which these do not share: raises UserError then, and for an image that is not there.
        """
        if text in self.finished:
            return [text]
        found = self._by_image.get(text) or self._by_image.get(self._below(text))
        if found is None:
            raise UserError(
                f"{where}: {self.folder.path} has no finished image \"{text[:200]}\"; give a sample's id, an image's "
                "path in the run folder, or method, subjects, prompt and index."
            )
        if len(found) > 1 and question.shows_references:
            raise UserError(
                f'{where}: {len(found)} samples share the image "{text[:200]}", and {question.name} is about their '
                "references; give the sample's id."
            )
        return found

    def _requested(self, row: Mapping[str, Any], where: str) -> str:
        """The sample of a method, subjects, prompt (template or text) and index; raises UserError for none."""
        index = whole(row.get("index") or 0, "index", 0, where)
        key = (
            str(row["method"]),
            "+".join(map(str.strip, str(row["subjects"]).split("+"))),
            _even(str(row["prompt"])),
            index,
        )
        if key not in self._by_request:
            raise UserError(
                f"{where}: {self.folder.path} has no finished image {index} of {key[0]}, {key[1]}, "
                f'"{str(row["prompt"])[:200]}"; correct method, subjects, prompt or index.'
            )
        return self._by_request[key]

    def _below(self, text: str) -> str:
        """A path as recorded, if it is one inside the run folder."""
        try:
            return Path(text).resolve().relative_to(self._root).as_posix()
        except (ValueError, OSError, RuntimeError):
            return ""


def read_rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a file of answers with their positions; raises UserError for a file without its columns."""
    readers = {".jsonl": _json_rows, ".csv": _table_rows}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise UserError(f"The answers {file} are neither JSON lines (.jsonl) nor a table (.csv); rename or convert it.")
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise UserError(f"{file} is larger than {LARGEST_FILE >> 30} GiB; split it.")
        for where, row in reader(file):
            for needed in ("question", "answer"):
                if needed not in row:
                    raise UserError(_missing(where, needed, row))
            if "image" not in row or not row["image"]:
                for needed in REQUEST[:-1]:
                    if not row.get(needed):
                        raise UserError(_missing(where, "image", row))
            yield where, row
    except UnicodeError as error:
        reason = f"{error.reason} at byte {error.start}" if isinstance(error, UnicodeDecodeError) else str(error)
        raise UserError(f"{file} is not UTF-8 text ({reason}); save it in UTF-8.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); correct --answers.") from None


def _missing(where: str, name: str, row: Mapping[str, Any]) -> str:
    found = ", ".join(key for key, value in row.items() if key and value not in ("", None))
    instead = f" (or one of {', '.join(REQUEST[:-1])})" if name == "image" else ""
    return f'{where}: the column "{name}"{instead} is missing; found: {found or "none"}.'


def _json_rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with file.open(encoding=encoding_of(file)) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{file}:{number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}: the line is not JSON ({error}); correct it.") from None
            if not isinstance(row, dict):
                raise UserError(f"{where}: the line is not a JSON object; write one with image, question and answer.")
            yield where, row


def _table_rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a CSV table; the separator (comma, semicolon or tab) is the one that yields most known columns."""
    number = 1
    try:
        with file.open(encoding=encoding_of(file), newline="") as lines:
            names, separator = _header(lines.readline())
            for name in KNOWN:
                if names.count(name) > 1:
                    raise UserError(f'{file}:1: the column "{name}" occurs {names.count(name)} times; keep one.')
            number = 2
            reader = csv.reader(lines, delimiter=separator, strict=True)
            for fields in reader:
                where, number = f"{file}:{number}", reader.line_num + 2
                if not any(field.strip() for field in fields):
                    continue
                if len(fields) != len(names):
                    raise UserError(
                        f"{where}: the row has {len(fields)} fields, the header {len(names)}; quote fields that hold a "
                        "separator or a line break."
                    )
                yield where, dict(zip(names, fields, strict=True))
    except csv.Error as error:
        raise UserError(f"{file}:{number}: not a row of a CSV table ({error}); correct it.") from None


def _header(line: str) -> tuple[list[str], str]:
    """The names of the columns, and the separator that yields most known ones."""
    split = {
        separator: [name.strip().lower() for name in next(csv.reader([line], delimiter=separator), [])]
        for separator in ",;\t"
    }
    separator = max(split, key=lambda one: sum(name in KNOWN for name in split[one]))
    return split[separator], separator


def whole(value: Any, name: str, least: int, where: str) -> int:
    """A whole number, also as text; raises UserError for anything else."""
    text = str(value).strip()
    if (
        isinstance(value, bool)
        or not (text.isascii() and text.isdigit())
        or not least <= int(text[:9]) <= LARGEST_WHOLE
    ):
        raise UserError(f'{where}: the {name} "{text[:40]}" is not a whole number from {least} on; correct it.')
    return int(text)


def _even(text: str) -> str:
    """A text with normalized blanks and accents."""
    return " ".join(unicodedata.normalize("NFC", text).split())
