"""The base class of settings from YAML files and the command line, with rules for numbers."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args

from annotated_types import Le, Lt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

LARGEST_WHOLE, LARGEST = 10**9, 1e38
"""The largest integer and the largest other number, unless a field sets its own bound; both fit into float32."""


class Settings(BaseModel):
    """Base class of settings: unknown keys, infinite or huge numbers, booleans as numbers and empty texts are refused.

    A field of type `Any` accepts everything. Raises ValidationError, which `yaml_file.sentence` describes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_notation(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds(cls, info)
        if Any in kinds:
            return value
        for item in _scalars(value):
            if {int, float} & kinds and bool not in kinds and isinstance(item, bool):
                raise ValueError(f"{str(item).lower()} is not a number; give a number")
            if float in kinds and isinstance(item, str) and vanishes(item):
                raise ValueError(f"{item} is too small and would become 0; give 0 or a larger number")
            if item == "" and (Path in kinds or {str, NoneType} <= kinds):
                raise ValueError("the text is empty; give a text or remove the key")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _check_magnitude(cls, value: Any, info: ValidationInfo) -> Any:
        bounded = any(isinstance(limit, (Le, Lt)) for limit in cls.model_fields[str(info.field_name)].metadata)
        for item in () if bounded or Any in _kinds(cls, info) else _scalars(value):
            largest = LARGEST_WHOLE if type(item) is int else LARGEST
            if type(item) in (int, float) and abs(item) > largest:
                raise ValueError(f"the number exceeds the maximum of {largest:g}; give a smaller one")
        return value


def _none_for_infinity(norm: float) -> float | None:
    return None if math.isinf(norm) else norm


GradientNorm = Annotated[float, Field(gt=0, allow_inf_nan=True), AfterValidator(_none_for_infinity)] | None
"""Largest norm of a gradient; None or infinity, which is read as None, means no limit."""


def _kinds(model: type[BaseModel], info: ValidationInfo) -> set[Any]:
    """The types in a field's annotation."""
    found: set[Any] = set()
    waiting = [model.model_fields[str(info.field_name)].annotation]
    while waiting:
        annotation = waiting.pop()
        inner = get_args(annotation)
        waiting += inner
        found |= set() if inner else {annotation}
    return {kind for kind in found if isinstance(kind, type) or kind is Any}


def _scalars(value: Any) -> Iterator[Any]:
    """A value, or the items of a list at any depth; mappings and models check their own values."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _scalars(item)
    elif not isinstance(value, (dict, BaseModel)):
        yield value


def vanishes(text: str) -> bool:
    """Whether the text of a nonzero number becomes 0 as a float."""
    try:
        return float(text) == 0 and any(digit in "123456789" for digit in text.lower().partition("e")[0])
    except ValueError:
        return False
