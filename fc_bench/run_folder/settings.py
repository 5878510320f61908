"""The required fields of run.json, by kind of run; other fields are allowed."""

from __future__ import annotations

import shlex
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fc_bench.model.kernels import AttentionKind, MemoryFormat

RESERVED = (
    "sample", "run", "label", "recorded", "method", "set", "subjects", "category", "template", "prompt", "index",
    "seed", "status", "seconds", "peak_memory_bytes", "image", "same_image_as", "attention",
)  # fmt: skip
"""Names of a sample's own columns, which no metric may use."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Subject(_Part):
    id: str
    noun: str
    photographs: list[Any] | None


class _Photographs(_Part):
    count: int


class _Suite(_Part):
    name: str
    version: str
    description: str
    license: str
    source: str
    citation: str
    seed: int
    subjects: list[_Subject]
    photographs: _Photographs
    photograph_digests: dict[str, str]


class _Column(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    title: str
    higher_is_better: bool | None
    description: str
    digits: int = Field(3, ge=0, le=17)
    headline: bool = False
    of_image_alone: bool = False
    significant: bool = False
    bounds: list[float | None] = Field([None, None], min_length=2, max_length=2)

    @field_validator("name")
    @classmethod
    def _own_name(cls, name: str) -> str:
        if name in RESERVED:
            raise ValueError(f'a column of a metric cannot be called "{name}"')
        return name


class _Sampler(_Part):
    scheduler: str
    steps: int
    guidance_scale: float
    resolution: int


class _Kernels(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    attention: AttentionKind
    unet: MemoryFormat
    vae: MemoryFormat


class _Method(_Part):
    name: str
    options: dict[str, Any]
    weights: dict[str, str]


class _Code(_Part):
    commit: str | None = None
    dirty: bool | None = None


class _Worker(_Part):
    processor: str | None = None
    cores: int | None = None
    torch_threads: int | None = None
    accelerators: list[str] | None = None


class _Hardware(_Worker):
    system: str | None = None
    memory_bytes: int | None = None


class Provenance(_Part):
    """The machine of a command; missing facts are unknown (`states`)."""

    code: _Code | None = None
    versions: dict[str, str | None] | None = None
    hardware: _Hardware | None = None
    workers: list[_Worker] | None = None
    """The machines, or the processes of one machine, that did the work."""
    face_providers: list[str] = []
    added_results: bool = True


class _Generation(_Part):
    workers: int = 1


class _Command(Provenance):
    command: str
    started: str
    generation: _Generation = _Generation()
    finished: str | None = None
    shared_prefixes: list[str] = []

    @field_validator("command")
    @classmethod
    def _words(cls, command: str) -> str:
        shlex.split(command)
        return command


class _Remark(_Part):
    method: str
    subjects: int
    text: str


class _Finding(_Part):
    kind: str
    text: str
    photographs: list[str]


class _Crop(_Part):
    center: list[float] = Field(min_length=2, max_length=2)
    side: float
    degrees: float


class _Inspection(_Part):
    version: int
    faces: str | None
    findings: list[_Finding]
    crops: dict[str, _Crop]


class _Metric(_Part):
    missing_columns: dict[str, str] = {}
    photographs_left_out: dict[str, str] = {}
    scorers: list[str] = []


class _JudgingModel(_Part):
    kind: str
    dtype: str
    sha256: str


class _Wordings(_Part):
    whose: str


class _Answering(_Part):
    model: _JudgingModel
    prompts: _Wordings


class _Judged(_Part):
    protocol: str
    judge: str
    arithmetic: str
    made_by: _Answering | None
    """The model that was asked, and the wording of the questions; None of answers that came in a file."""
    answers: int
    unreadable: int
    commands: list[Any]


class QualitySettings(_Part):
    """run.json of a run that generated or scored images."""

    suite: _Suite
    backbone: str
    scorers: dict[str, str] = {}
    faces: dict[str, Any] | list[dict[str, Any]] | None
    columns: dict[str, list[_Column]]
    sampler: _Sampler | None
    device: str
    dtype: str | None
    kernels: _Kernels | None = None
    """Attention and memory formats; runs of earlier versions have none."""
    methods: dict[str, _Method] = Field(min_length=1)
    metrics: dict[str, _Metric]
    judged: dict[str, _Judged] = {}
    """Metrics that a judge's answers give (`fc-bench judge`), beside those of the suite."""
    photographs: _Inspection | None = None
    """The result of the inspection of the photographs; runs of earlier versions have none."""
    references: dict[str, int] = {}
    left_out: list[str]
    remarks: list[_Remark] = []
    commands: list[_Command] = Field(min_length=1)

    @model_validator(mode="after")
    def _agree(self) -> QualitySettings:
        names = [column.name for own in self.columns.values() for column in own]
        if not names:
            raise ValueError("no metric has a column")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'the column "{name}" occurs twice')
        for name in self.judged:
            if name not in self.columns:
                raise ValueError(f'the judged metric "{name}" has no columns')
        for name, made in self.metrics.items():
            if name.partition("@")[0] == "identity":
                _refuse_strange_models(name, made)
        return self


def _refuse_strange_models(name: str, made: _Metric) -> None:
    """Check that tables can name the face models and their providers."""
    extra = made.model_extra or {}
    models = extra.get("models", {})
    fits = isinstance(models, dict) and all(
        isinstance(model, dict)
        and isinstance(model.get("providers"), list)
        and all(isinstance(provider, str) for provider in model["providers"])
        for model in models.values()
    )
    if not fits or not isinstance(extra.get("embedder"), (str, type(None))):
        raise ValueError(f'the face models of the metric "{name}" are not recorded completely')


class _CostMethod(_Part):
    name: str
    options: dict[str, Any]
    personalizes: bool
    shared_weights_bytes: int


class _CostCommand(Provenance):
    command: str
    started: str


class _Machine(_Part):
    processor: str
    cores: int
    torch_threads: int
    accelerators: list[str]


class _Libraries(_Part):
    torch: str | None


class _Provider(_Part):
    virtual_machine: bool | None


class CostSettings(_Part):
    """run.json of a run that measured cost."""

    backbone: str
    random_weights: bool
    sampler: _Sampler
    device: str
    dtype: str
    machine: _Machine
    libraries: _Libraries
    provider: _Provider
    numerics: dict[str, Any]
    methods: dict[str, _CostMethod] = Field(min_length=1)
    commands: list[_CostCommand] = Field(min_length=1)
