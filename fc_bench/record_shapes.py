"""What the records of a run are like: the fields that its readers rely on, checked cheaply enough for a million lines.

The names and types of a record's fields are its signature. A signature is looked at field by field when it is first
seen; a record with a known one costs a look into a set, and at what it does not tell (texts in a list, ranges).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Told = str | None
"""What is wrong, as the end of a sentence about a line, or None."""

STATUSES = ("ok", "error")
ANCHOR, ANCHOR_ROWS = "anchor:", ("ceiling", "floor")
"""How the ids of scores begin that the suite's own photographs have, and the rows they make."""
MOST_SIGNATURES = 1000
"""Kept of one kind of record: a writer has a few, a file made to fill the memory any number."""
_TEXT, _NUMBER, _WHOLE, _NOTHING = (str,), (int, float), (int,), (type(None),)
_WORDS = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "a mapping", type(None): "null"}
LARGEST = 1e100
"""No measured number is larger; sums of so large ones would be infinite."""
_MOST_INDEX, _MOST_SEED, _MOST = 2**31, 2**53, 2**62
_value_kinds: set[tuple[type, ...]] = set()
"""Types of the values of scores that were looked at: floats and nothings."""


class Shape:
    """The fields of one kind of record, each with its types (None: it may be absent), and what else has to hold."""

    def __init__(self, fields: Mapping[str, tuple[type, ...]], further: Callable[[Mapping[str, Any]], Told]) -> None:
        self._fields, self._further = fields, further
        self._known: set[tuple[Any, ...]] = set()

    def problem(self, record: Mapping[str, Any]) -> Told:
        """What is wrong with a record; None where its readers find all they need."""
        signature = (*record, *map(type, record.values()))
        if signature not in self._known:
            for name, kinds in self._fields.items():
                if type(record.get(name)) not in kinds:
                    return _told(record, name, kinds)
            if len(self._known) < MOST_SIGNATURES:
                self._known.add(signature)
        return self._further(record)


def _told(record: Mapping[str, Any], name: str, wanted: tuple[type, ...]) -> str:
    if name not in record:
        return f'it has no "{name}"'
    words = list(dict.fromkeys(_WORDS[kind] for kind in wanted if kind is not float or int not in wanted))
    if int in wanted and float in wanted:
        words = ["a number" if word == "a whole number" else word for word in words]
    return f'its "{name}" is not {" or ".join(words)}'


def _names(subjects: Sequence[Any] | None) -> Told:
    if not subjects:
        return 'its "subjects" are none'
    for name in subjects:
        if type(name) is not str:
            return 'its "subjects" are not all text'
    return None


def _planned(record: Mapping[str, Any]) -> Told:
    seed = record.get("seed")
    if not 0 <= record["index"] < _MOST_INDEX:
        return 'its "index" is out of range'
    if seed is not None and not 0 <= seed < _MOST_SEED:
        return 'its "seed" is out of range'
    return _names(record["subjects"])


def _sample(record: Mapping[str, Any]) -> Told:
    status, get = record["status"], record.get
    if status not in STATUSES:
        return 'its "status" is neither "ok" nor "error"'
    if status == "ok" and get("image") is None:
        return 'it is "ok" and has no "image"'
    seconds, peak = get("seconds"), get("peak_memory_bytes")
    if (seconds is not None and not -_MOST < seconds < _MOST) or (peak is not None and not -_MOST < peak < _MOST):
        return 'its "seconds" or "peak_memory_bytes" are out of range'
    return _planned(record)


def _job(record: Mapping[str, Any]) -> Told:
    if record["status"] not in STATUSES:
        return 'its "status" is neither "ok" nor "error"'
    if record["status"] == "ok":
        for name in _MEASURED_OF_JOBS:
            if record.get(name) is None:
                return f'it is "ok" and has no "{name}"'
    return _in_range(record, ("shared_seconds", "seconds_per_step", *_MEASURED_OF_JOBS))


def _score(record: Mapping[str, Any]) -> Told:
    status, values = record["status"], record.get("values")
    if status not in STATUSES:
        return 'its "status" is neither "ok" nor "error"'
    if values is not None:
        kinds = (*map(type, values.values()),)
        if kinds not in _value_kinds:
            for name, value in values.items():
                if type(value) not in (*_NUMBER, type(None)) or (value is not None and abs(value) > LARGEST):
                    return f'its value of "{name}" is not a number that something is measured as'
            if int not in kinds and len(_value_kinds) < MOST_SIGNATURES:
                _value_kinds.add(kinds)
    elif status == "ok":
        return 'it is "ok" and has no "values"'
    return _anchor(record, values) if record["sample"].startswith(ANCHOR) and status == "ok" else None


def _anchor(record: Mapping[str, Any], values: Mapping[str, Any] | None) -> Told:
    if any(abs(value) > LARGEST for value in (values or {}).values() if value is not None):
        return "a value of it is larger than any measured one"
    if record.get("row") not in ANCHOR_ROWS:
        return f'its "row" is none of {", ".join(ANCHOR_ROWS)}'
    return _names(record.get("subjects"))


def _in_range(record: Mapping[str, Any], names: tuple[str, ...]) -> Told:
    for name in names:
        value = record.get(name)
        if value is not None and not -_MOST < value < _MOST:
            return f'its "{name}" is out of range'
    return None


_MEASURED_OF_JOBS = ("seconds", "steps", "peak_memory_bytes", "artefact_bytes")
_PLANNED = {
    **dict.fromkeys(("id", "method", "category", "template", "prompt", "shared_key"), _TEXT),
    "subjects": (list,),
    "index": _WHOLE,
    "seed": (*_WHOLE, *_NOTHING),
}
_SAMPLE = {
    **_PLANNED,
    "status": _TEXT,
    **dict.fromkeys(("image", "same_image_as", "attention", "generated_prompt", "finished"), (*_TEXT, *_NOTHING)),
    "seconds": (*_NUMBER, *_NOTHING),
    "peak_memory_bytes": (*_WHOLE, *_NOTHING),
    "batch": (*_WHOLE, *_NOTHING),
    "error": (dict, *_TEXT, *_NOTHING),
}
_JOB = {
    **dict.fromkeys(("method", "set", "status"), _TEXT),
    **dict.fromkeys(("seconds", "load_seconds", "shared_seconds", "seconds_per_step"), (*_NUMBER, *_NOTHING)),
    **dict.fromkeys(("peak_memory_bytes", "steps", "artefact_bytes"), (*_WHOLE, *_NOTHING)),
    "artefact_sha256": (*_TEXT, *_NOTHING),
    "details": (dict, *_NOTHING),
    "error": (dict, *_TEXT, *_NOTHING),
}
_SCORE = {
    **dict.fromkeys(("sample", "metric", "status"), _TEXT),
    **dict.fromkeys(("values", "details"), (dict, *_NOTHING)),
    **dict.fromkeys(("subjects", "siblings"), (list, *_NOTHING)),
    "row": (*_TEXT, *_NOTHING),
    "error": (*_TEXT, dict, *_NOTHING),
}

SHAPES: dict[str, Shape] = {
    "plan.jsonl": Shape(_PLANNED, _planned),
    "samples.jsonl": Shape(_SAMPLE, _sample),
    "jobs.jsonl": Shape(_JOB, _job),
    "scores.jsonl": Shape(_SCORE, _score),
}
"""By the name of the file."""
