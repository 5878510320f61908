"""Settings as people write them, in a YAML file or on the command line: what a number may be."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args

from annotated_types import Le, Lt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

LARGEST_WHOLE, LARGEST = 10**9, 1e38
"""No whole number and no other number is larger, unless its field sets a bound of its own; float32 holds both."""


class Settings(BaseModel):
    """A mapping of known keys; a number is finite, not too large, and neither true nor false, a given text not empty.

    A field of the type `Any` takes everything. Raises ValidationError, for which `yaml_file.sentence` has words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_numbers_are_written(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds(cls, info)
        if Any in kinds:
            return value
        for item in _scalars(value):
            if {int, float} & kinds and bool not in kinds and isinstance(item, bool):
                raise ValueError(f"{str(item).lower()} is no number; give one")
            if float in kinds and isinstance(item, str) and vanishes(item):
                raise ValueError(f"{item} is too small a number to be told from 0; give 0 or a larger one")
            if item == "" and (Path in kinds or {str, NoneType} <= kinds):
                raise ValueError("the text is empty; give one, or leave the key out")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _as_large_as_can_be_run(cls, value: Any, info: ValidationInfo) -> Any:
        bounded = any(isinstance(limit, (Le, Lt)) for limit in cls.model_fields[str(info.field_name)].metadata)
        for item in () if bounded or Any in _kinds(cls, info) else _scalars(value):
            largest = LARGEST_WHOLE if type(item) is int else LARGEST
            if type(item) in (int, float) and abs(item) > largest:
                raise ValueError(f"the number is beyond {largest:g}, the largest that is accepted; give a smaller one")
        return value


def _none_for_infinity(norm: float) -> float | None:
    return None if math.isinf(norm) else norm


GradientNorm = Annotated[float, Field(gt=0, allow_inf_nan=True), AfterValidator(_none_for_infinity)] | None
"""Largest norm of a gradient. None: there is no limit; infinity means the same and is read as None."""


def _kinds(model: type[BaseModel], info: ValidationInfo) -> set[Any]:
    """The types that a field's annotation is made of."""
    found: set[Any] = set()
    waiting = [model.model_fields[str(info.field_name)].annotation]
    while waiting:
        annotation = waiting.pop()
        inner = get_args(annotation)
        waiting += inner
        found |= set() if inner else {annotation}
    return {kind for kind in found if isinstance(kind, type) or kind is Any}


def _scalars(value: Any) -> Iterator[Any]:
    """A value, or what a list holds at any depth; mappings and models check their own."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _scalars(item)
    elif not isinstance(value, (dict, BaseModel)):
        yield value


def vanishes(text: str) -> bool:
    """Whether a number's text is not 0 and its float is."""
    try:
        return float(text) == 0 and any(digit in "123456789" for digit in text.lower().partition("e")[0])
    except ValueError:
        return False
