"""The fields of a line of measurements.jsonl that figures are computed from; other fields are allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fc_bench.model.yaml_file import sentence

Seconds = Annotated[float, Field(ge=0, lt=1e12)]
Whole = Annotated[int, Field(ge=0, lt=2**62)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Memory(_Part):
    allocated_bytes: Whole | None = None
    rss_bytes: Whole | None = None


class _Loaded(_Part):
    seconds: Seconds
    memory: _Memory


class _Drawn(_Part):
    seconds: Seconds
    steps: int = Field(ge=1, lt=2**62)
    step_seconds: list[Seconds]


class _Tuned(_Part):
    seconds: Seconds
    steps: Whole | None
    step_seconds: list[Seconds]
    shared_seconds: Seconds
    seconds_per_step: Seconds | None


class _Surroundings(_Part):
    seconds: Seconds
    cores: int = Field(ge=1)
    others_cpu_seconds: Seconds
    steal_seconds: Seconds | None
    throttled_periods: Whole | None
    device_throttle_reasons: Whole | None
    device_other_processes: Whole | None
    energy_joules: Seconds | None


class _ClassImages(_Part):
    used: int = Field(ge=1)
    asked: Whole


class _Artefact(_Part):
    bytes: Whole
    dtypes: list[str]


class _Error(_Part):
    message: str


class _Head(_Part):
    method: str
    phase: Literal["customize", "step", "first_image", "image"]
    status: Literal["ok", "out of memory", "error", "not measured"]
    budget_seconds: Seconds
    options_changed: dict[str, Any] = {}


class _Failed(_Head):
    used_bytes: Whole | None = None
    error: _Error


class _Measured(_Head):
    calls: list[_Drawn] = Field(min_length=1)
    load: _Loaded
    restore: _Loaded | None
    memory: _Memory
    surroundings: _Surroundings
    steps_asked: Whole
    startup_seconds: Seconds


class _Customized(_Head):
    calls: list[_Tuned] = Field(min_length=1)
    load: _Loaded
    restore: None
    memory: _Memory
    surroundings: _Surroundings
    steps_asked: Whole | None
    step_period: int = Field(ge=1)
    class_images: _ClassImages | None
    artefact: _Artefact
    startup_seconds: Seconds

    @model_validator(mode="after")
    def _counted(self) -> _Customized:
        if any((call.steps is None) != (self.steps_asked is None) for call in self.calls):
            raise ValueError("steps are counted in some places and not in others")
        return self


def problem(record: Mapping[str, Any]) -> str | None:
    """The error of a measurement's record, as the end of a sentence; None if the record is valid."""
    if record.get("status") != "ok":
        schema: type[BaseModel] = _Failed
    else:
        schema = _Customized if record.get("phase") == "customize" else _Measured
    try:
        schema.model_validate(record)
    except ValidationError as error:
        return f"it is not a measurement ({sentence(error, schema).rstrip('.')})"
    return None
