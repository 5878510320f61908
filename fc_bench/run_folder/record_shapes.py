"""The fields of a run's records that readers rely on; they are checked when a line is decoded."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

ANCHOR, ANCHOR_ROWS = "anchor:", ("ceiling", "floor")
"""Prefix of the ids of scores of the suite's own photographs, and the rows that these form."""
LARGEST = 1e100
"""Largest absolute value of a measured number; sums of larger ones could be infinite."""
_MOST = 2**62

# The descriptions end the sentence that says what a field is not.
Text = Annotated[str, Meta(description="text")]
Status = Annotated[Literal["ok", "error"], Meta(description='"ok" or "error"')]
Subjects = Annotated[
    list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1, description="a list of at least one name")
]
Seconds = Annotated[float, Meta(gt=-_MOST, lt=_MOST, description="a number of seconds")]
Count = Annotated[int, Meta(gt=-_MOST, lt=_MOST, description="a whole number")]
Number = Annotated[int, Meta(ge=1, lt=2**31, description="a whole number from 1 to 2^31")]
Index = Annotated[int, Meta(ge=0, lt=2**31, description="a whole number from 0 to 2^31")]
Seed = Annotated[int, Meta(ge=0, lt=2**53, description="a whole number from 0 to 2^53")]
Values = Annotated[
    dict[str, Annotated[float, Meta(ge=-LARGEST, le=LARGEST)] | None],
    Meta(description=f"a mapping of columns to numbers up to {LARGEST:g}"),
]
Listed = Annotated[list[Any], Meta(description="a list")]
Mapped = Annotated[dict[str, Any], Meta(description="a mapping")]


class Planned(msgspec.Struct, gc=False, kw_only=True):
    """A line of plan.jsonl."""

    id: Text
    method: Text
    subjects: Subjects
    category: Text
    template: Text
    prompt: Text
    index: Index
    seed: Seed | None = None
    shared_key: Text
    conditions: Mapped | None = None


class Sampled(Planned, gc=False, kw_only=True):
    """A line of samples.jsonl."""

    status: Status
    image: Text | None = None
    same_image_as: Text | None = None
    attention: Text | None = None
    generated_prompt: Text | None = None
    finished: Text | None = None
    seconds: Seconds | None = None
    peak_memory_bytes: Count | None = None
    batch: Count | None = None
    error: Mapped | Text | None = None

    def __post_init__(self) -> None:
        if self.image is None and self.status == "ok":
            raise ValueError('it is "ok" and has no "image"')


class Customized(msgspec.Struct, gc=False, kw_only=True):
    """A line of jobs.jsonl."""

    method: Text
    set: Text
    status: Status
    seconds: Seconds | None = None
    load_seconds: Seconds | None = None
    shared_seconds: Seconds | None = None
    seconds_per_step: Seconds | None = None
    steps: Count | None = None
    peak_memory_bytes: Count | None = None
    artefact_bytes: Count | None = None
    artefact_sha256: Text | None = None
    details: Mapped | None = None
    error: Mapped | Text | None = None
    reported: bool = False
    """Whether the maker of the images reported it; some fields may then be missing."""

    def __post_init__(self) -> None:
        for name in ("seconds", "steps", "peak_memory_bytes", "artefact_bytes"):
            if self.status == "ok" and not self.reported and getattr(self, name) is None:
                raise ValueError(f'it is "ok" and has no "{name}"')


class Measured(msgspec.Struct, gc=False, kw_only=True):
    """The fields of a line of scores.jsonl that tables need: all but the details, which take most of it."""

    sample: Text
    metric: Text
    status: Status
    values: Values | None = None
    subjects: Listed | None = None
    siblings: Listed | None = None
    row: Text | None = None
    error: Mapped | Text | None = None

    def __post_init__(self) -> None:
        if self.status == "ok":
            if self.values is None:
                raise ValueError('it is "ok" and has no "values"')
            if self.sample.startswith(ANCHOR):
                if self.row not in ANCHOR_ROWS:
                    raise ValueError(f'its "row" is none of {", ".join(ANCHOR_ROWS)}')
                if not self.subjects or any(type(name) is not str for name in self.subjects):
                    raise ValueError('its "subjects" are not a list of at least one name')


class Scored(Measured, gc=False, kw_only=True):
    """A line of scores.jsonl."""

    details: Mapped | None = None


class Answered(msgspec.Struct, gc=False, kw_only=True):
    """A line of answers.jsonl: the raw text that a judge gave to a question about a sample's image."""

    sample: Text
    protocol: Text
    judge: Text
    question: Text
    repetition: Number
    answer: Text
    numbers: Number | None = None
    """How many numbers the answer should hold, where a question asks for several."""
    same_answer_as: Text | None = None
    """The sample whose image, question and references are the same, so that it was asked once for both."""
    seconds: Seconds | None = None
    finished: Text | None = None


KINDS: dict[str, type[msgspec.Struct]] = {
    "plan.jsonl": Planned,
    "samples.jsonl": Sampled,
    "jobs.jsonl": Customized,
    "scores.jsonl": Scored,
    "answers.jsonl": Answered,
}
"""Record type by file name."""


def problem(record: Mapping[str, Any], kind: type[msgspec.Struct]) -> str | None:
    """The error of a record, as the end of a sentence; None if the record is valid."""
    try:
        msgspec.convert(record, kind)
    except (ValueError, RecursionError) as error:
        for field in msgspec.structs.fields(kind):
            if field.name not in record:
                if field.required:
                    return f'it has no "{field.name}"'
                continue
            try:
                msgspec.convert(record[field.name], field.type)
            except (ValueError, RecursionError):
                return f'its "{field.name}" is not {_words(field.type)}'
        return str(error)
    return None


@cache
def _words(hint: Any) -> str:
    """A type in the words of its description."""
    if hint is type(None):
        return "null"
    if typing.get_origin(hint) is Annotated:
        return next(meta.description for meta in hint.__metadata__ if meta.description)
    assert typing.get_origin(hint) in (typing.Union, types.UnionType), hint
    return " or ".join(map(_words, typing.get_args(hint)))
