"""A benchmark as its user has it: what a suite needs of it, and the checked reading of its metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from fc_bench.errors import UserError
from fc_bench.layouts.layout import read_json
from fc_bench.model.backbones.fingerprint import sha256_of
from fc_bench.model.yaml_file import nearest
from fc_bench.protocols import fill
from fc_bench.suites.slugs import LONGEST_ID, id_of, is_id


@dataclass(frozen=True)
class BenchmarkSubject:
    """A subject: id, class noun, photographs relative to the benchmark's folder, and what is known of it."""

    id: str
    noun: str
    photographs: tuple[str, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BenchmarkPrompt:
    """A prompt of the benchmark, in its order: the ids of its subjects, its template, its target's file, its name.

    A prompt without a name is known by its number.
    """

    subjects: tuple[str, ...]
    category: str
    template: str
    target: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """What a suite is made of; remarks say what was decided or left out."""

    name: str
    description: str
    license: str
    source: str
    citation: str
    seed: int
    metrics: tuple[str, ...]
    subjects: Sequence[BenchmarkSubject]
    prompts: Sequence[BenchmarkPrompt]
    images_per_prompt: int = 1
    resolution: int | None = None
    remarks: tuple[str, ...] = ()


FACES = ("identity", "prompt-consistency")
"""Metrics of benchmarks of people, beside their own."""
THINGS = ("image-similarity", "prompt-consistency")
"""Metrics of benchmarks that hold other subjects than people, whose photographs show no face."""


_ADVICE = "; this is no metadata of that benchmark, or of another version of it."


class Record:
    """An item of a benchmark's metadata, with its place for messages."""

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        self.content, self.where = content, where

    def text(self, *names: str) -> str:
        """The text under the first of these names that there is, on one line."""
        value = self._value(names)
        if not isinstance(value, str) or not value.strip():
            raise UserError(f'{self.where}: "{names[0]}" is no text{_ADVICE}')
        return " ".join(value.split())

    def texts(self, *names: str) -> list[str]:
        """The list of at least one text under the first of these names that there is."""
        value = self._value(names)
        if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
            raise UserError(f'{self.where}: "{names[0]}" is no list of texts{_ADVICE}')
        return value

    def items(self, name: str) -> list[Record]:
        """The list of at least one mapping under this name."""
        value = self._value((name,))
        if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
            raise UserError(f'{self.where}: "{name}" is no list of mappings{_ADVICE}')
        return [Record(one, f"{self.where}, {name} {number}") for number, one in enumerate(value)]

    def _value(self, names: Sequence[str]) -> Any:
        for name in names:
            if name in self.content:
                return self.content[name]
        raise UserError(f'{self.where}: "{names[0]}" is missing{_ADVICE}')


def records_in(file: Path) -> list[Record]:
    """The items of a JSON list, or of a file with one JSON mapping a line; raises UserError for anything else."""
    content = _lines(file) if file.suffix == ".jsonl" else read_json(file)
    if not isinstance(content, list) or not content:
        raise UserError(f"{file} holds no list of items{_ADVICE}")
    for number, one in enumerate(content):
        if not isinstance(one, dict):
            raise UserError(f"{file}, item {number} (from 0) is no mapping{_ADVICE}")
    return [Record(one, f"{file}, item {number} (from 0)") for number, one in enumerate(content)]


def _lines(file: Path) -> list[Any]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise UserError(f"{file} cannot be read ({error}); put it there or make it readable.") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{file}:{number}: not valid JSON ({error}); restore the file.") from None
    return found


def first_file(folder: Path, *names: str) -> Path:
    """The first of these files below a folder that there is; raises UserError if there is none."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} has no {names[0]}; give the folder of the benchmark, as its authors publish it.")


def chosen_subset(subset: str | None, known: Sequence[str], default: str | None = None) -> str:
    """The chosen subset; raises UserError if it is unknown, or if one has to be named."""
    if subset is None and default is not None:
        return default
    if subset is None:
        raise UserError(
            f"The benchmark has the parts {', '.join(known)}, which are suites of their own; give --subset."
        )
    if subset not in known:
        raise UserError(f'The benchmark has no part "{subset}", {nearest(subset, known)}')
    return subset


def content_of(file: Path) -> str:
    """What is equal for equal files: the sha256, or the path of a file that is not there."""
    try:
        return sha256_of(file)
    except OSError:
        return str(file)


def subject_id(text: str, where: str) -> str:
    """The id of a subject from a name; raises UserError if it gives none."""
    found = id_of(text)
    if not is_id(found):
        raise UserError(f'{where}: "{text[:80]}" gives no id of a subject (at most {LONGEST_ID} bytes); rename it.')
    return found


def with_slots(text: str, nouns: Sequence[str], occurrences: Sequence[int] | None = None) -> tuple[list[int], str]:
    """The order in which a text names subjects of these nouns, and the text with slots in their places.

    `occurrences` says which of a noun's places (from 1) is the subject's; otherwise equal nouns take theirs in turn.
    A text that does not name all of them stays as it is, with the subjects in the given order.
    """
    given = list(range(len(nouns)))
    counted: dict[str, int] = {}
    places: list[tuple[int, int, int]] = []
    for number, noun in enumerate(nouns):
        word = noun.casefold()
        counted[word] = counted.get(word, 0) + 1
        wanted = occurrences[number] if occurrences else counted[word]
        found = list(re.finditer(rf"(?<!\w){re.escape(noun)}(?!\w)", text, re.IGNORECASE))
        free = found if occurrences else [one for one in found if not _overlaps(one.span(), places, nouns, word)]
        if len(free) < wanted:
            return given, text
        places.append((*free[wanted - 1].span(), number))
    places.sort()
    if any(before[1] > after[0] for before, after in pairwise(places)) or "{" in text:
        return given, text
    template, end = "", 0
    for slot, (start, stop, _) in enumerate(places, start=1):
        template += f"{text[end:start]}{{{slot}}}"
        end = stop
    template += text[end:]
    order = [number for _, _, number in places]
    if fill(template, [nouns[number] for number in order]).casefold() != text.casefold():
        return given, text
    return order, template


def _overlaps(span: tuple[int, int], places: Iterable[tuple[int, int, int]], nouns: Sequence[str], word: str) -> bool:
    """Whether a place is part of one that is taken by another noun."""
    return any(span[0] < stop and start < span[1] for start, stop, number in places if nouns[number].casefold() != word)
