"""Planning: which images a run consists of, each under an id that says exactly what it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from fc_bench import registry
from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.model.backbones.fingerprint import fingerprint
from fc_bench.model.yaml_file import nearest, sentence
from fc_bench.protocols import Method, Setting, fill, seed_from, seed_of
from fc_bench.suites.suite import Prompt, SubjectSet, Suite, digest, digests_of_each


@dataclass(frozen=True)
class MethodRow:
    """A method with its options resolved: one row of the result table.

    `label` is the name, with the options that differ from their defaults; `weights` maps what the method reads to its
    sha256.
    """

    label: str
    name: str
    options: Mapping[str, Any]
    weights: Mapping[str, str]

    @property
    def folder(self) -> str:
        """The label as a folder name; one that has to be changed for that ends with its hash: no two are the same."""
        name = "".join(character if character.isalnum() or character in "-._=" else "_" for character in self.label)
        return name if name == self.label else f"{name}-{digest(self.label)[:8]}"


@dataclass(frozen=True)
class Sample:
    """One image asked for; all fields are recorded.

    `id` is a content hash of suite name and version, sampler, number format, method with resolved options, weights,
    subject set (with its photographs), prompt and seed. `shared_key` is equal for samples whose image must be equal.
    The seed of an image made elsewhere is not known.
    """

    id: str
    method: str
    subjects: tuple[str, ...]
    category: str
    template: str
    prompt: str
    index: int
    seed: int | None
    shared_key: str


@dataclass(frozen=True)
class PlannedSamples:
    """The samples that a suite asks of one method and subject set, made anew whenever they are gone through.

    A plan of a million samples then holds none of them. `seeds` maps each prompt's template to the seeds of its images,
    `identity` is what the ids hash beside prompt and seed, `image_inputs` what decides the images beside them.
    """

    method: str
    subject_set: SubjectSet
    prompts: Sequence[Prompt]
    seeds: Mapping[str, Sequence[int]]
    identity: Sequence[Any]
    image_inputs: Sequence[Any]

    def __len__(self) -> int:
        return sum(len(self.seeds[prompt.template]) for prompt in self.prompts)

    def __iter__(self) -> Iterator[Sample]:
        ids = tuple(subject.id for subject in self.subject_set.subjects)
        for prompt, text in zip(self.prompts, self.texts(), strict=True):
            seeds = self.seeds[prompt.template]
            names = digests_of_each([*self.identity, prompt.template], seeds)
            keys = digests_of_each([*self.image_inputs, text], seeds)
            for index, (seed, name, key) in enumerate(zip(seeds, names, keys, strict=True)):
                yield Sample(name[:20], self.method, ids, prompt.category, prompt.template, text, index, seed, key[:20])

    def ids(self) -> Iterator[str]:
        """The samples' ids alone, in order."""
        for prompt in self.prompts:
            for name in digests_of_each([*self.identity, prompt.template], self.seeds[prompt.template]):
                yield name[:20]

    def texts(self) -> list[str]:
        """The prompts with class nouns filled in."""
        nouns = [subject.noun for subject in self.subject_set.subjects]
        return [fill(prompt.template, nouns) for prompt in self.prompts]


@dataclass(frozen=True)
class Job:
    """A method customized to one subject set, with all its samples: the unit of scheduling."""

    row: MethodRow
    subject_set: SubjectSet
    samples: PlannedSamples | tuple[Sample, ...]
    seed: int
    """Of the customization: decided by the suite's seed, the method and the subjects."""
    parts: tuple[Job, ...] = ()
    """The subjects of a set of several as jobs of their own, without samples: for methods that tune apart."""

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The ids of its samples, in order."""
        if isinstance(self.samples, PlannedSamples):
            return tuple(self.samples.ids())
        return tuple(sample.id for sample in self.samples)

    def prompts(self) -> list[str]:
        """The prompts of its samples."""
        if isinstance(self.samples, PlannedSamples):
            return self.samples.texts()
        return [sample.prompt for sample in self.samples]

    def filled(self, mentions: Sequence[str]) -> list[str]:
        """Its prompts with these mentions of its subjects, each once."""
        if isinstance(self.samples, PlannedSamples):
            return [fill(prompt.template, mentions) for prompt in self.samples.prompts]
        return [fill(template, mentions) for template in dict.fromkeys(sample.template for sample in self.samples)]


@dataclass(frozen=True)
class Remark:
    """What a reader of the tables has to know about a method on sets of `subjects` subjects."""

    method: str
    subjects: int
    text: str


@dataclass(frozen=True)
class Plan:
    """All jobs in the order they run, what was left out with the reason, and the methods' remarks.

    `references` maps a row's label to the number of photographs of a subject that it uses at most.
    """

    jobs: tuple[Job, ...]
    left_out: tuple[str, ...]
    remarks: tuple[Remark, ...]
    references: Mapping[str, int]

    def samples(self) -> Iterator[Sample]:
        """All samples in order."""
        for job in self.jobs:
            yield from job.samples

    @property
    def size(self) -> int:
        """Number of samples."""
        return sum(len(job.samples) for job in self.jobs)


def resolve_method(
    name: str, overrides: Mapping[str, Any], setting: Setting, protocol: Mapping[str, Any] | None = None
) -> tuple[type[Method], BaseModel, MethodRow]:
    """Look a method up, validate its options over the defaults, fingerprint its weights.

    The defaults are those of the suite's `protocol`, over the backbone's, over the method's own.

    Raises UserError for an unknown method or option (with the nearest name) or a value its options reject.
    """
    method, options, suited = _validated(name, overrides, setting, protocol)
    resolved = _recorded(name, options)
    defaults = _defaults(name, method, setting, suited, resolved)
    given = {key: value for key, value in resolved.items() if key in overrides}
    changed = [f"{key}={value}" for key, value in sorted(given.items()) if value != defaults[key]]
    label = f"{name}[{','.join(changed)}]" if changed else name
    weights = {part: fingerprint(path) for part, path in method.weights(setting.backbone, options).items()}
    return method, options, MethodRow(label, name, resolved, weights)


def components_of(
    name: str, overrides: Mapping[str, Any], setting: Setting, protocol: Mapping[str, Any] | None = None
) -> list[str]:
    """The components of the backbone whose weights the method reads with these options; none is fetched.

    Raises UserError as `resolve_method` does.
    """
    method, options, _ = _validated(name, overrides, setting, protocol)
    asking: Any = _Asking(setting.backbone)
    method.weights(asking, options)
    return asking.requested


def options_of(
    name: str, overrides: Mapping[str, Any], setting: Setting, protocol: Mapping[str, Any] | None = None
) -> tuple[type[Method], BaseModel]:
    """A method and its options, without a look at its weights; raises UserError as `resolve_method` does."""
    return _validated(name, overrides, setting, protocol)[:2]


class _Asking:
    """A backbone that notes which components it is asked for."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self.requested: list[str] = []

    def path(self, component: str) -> Path:
        self.requested.append(component)
        return self._backbone.declared_path(component) or Path(component)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)


def _validated(
    name: str, overrides: Mapping[str, Any], setting: Setting, protocol: Mapping[str, Any] | None
) -> tuple[type[Method], BaseModel, Mapping[str, Any]]:
    """The method, its options, and what suite and backbone say of them."""
    method = registry.load("methods", name)
    suited = {**setting.backbone.methods.get(name, {}), **(protocol or {})}
    try:
        options = completed(method, setting.backbone, method.Options.model_validate({**suited, **overrides}))
    except ValidationError as error:
        first = error.errors()[0]
        sources = (("", overrides), (" in the suite", protocol or {}), (f" on {setting.backbone.name}", suited))
        if first["type"] == "extra_forbidden":
            known = nearest(str(first["loc"][-1]), method.Options.model_fields)
            raise UserError(f'The method "{name}" has no option "{first["loc"][-1]}", {known}') from None
        given = next((source for source, own in sources if first["loc"] and first["loc"][0] in own), "")
        raise UserError(f'Option of the method "{name}"{given}: {sentence(error, method.Options)}') from None
    return method, options, suited


def _recorded(name: str, options: BaseModel) -> dict[str, Any]:
    """The options as strictly valid JSON has them, infinity as the text `inf`, which reads back as the number.

    Raises UserError for one that is not a number at all.
    """
    try:
        return {key: _without_infinity(value, key) for key, value in options.model_dump(mode="json").items()}
    except ValueError as error:
        raise UserError(f'Option of the method "{name}": {error}.') from None


def _without_infinity(value: Any, key: str) -> Any:
    """A value, infinities in it as text; raises ValueError for nan."""
    if isinstance(value, dict):
        return {inner: _without_infinity(item, key) for inner, item in value.items()}
    if isinstance(value, list):
        return [_without_infinity(item, key) for item in value]
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{key}: nan is not a number; give one")
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def completed(method: type[Method], backbone: Backbone, options: BaseModel) -> BaseModel:
    """The options with what the method takes from the backbone written out, where it has such options."""
    complete = getattr(method, "complete_options", None)
    return options if complete is None else complete(backbone, options)


def _defaults(
    name: str, method: type[Method], setting: Setting, suited: Mapping[str, Any], resolved: Mapping[str, Any]
) -> dict[str, Any]:
    """What each option is when the command line is silent."""
    try:
        return _recorded(name, completed(method, setting.backbone, method.Options.model_validate(suited)))
    except ValidationError:
        # An option has to be given.
        return {key: suited.get(key, default(method.Options, key)) for key in resolved}


def default(options: type[BaseModel], key: str) -> Any:
    """An option's default as recorded; None for one that has to be given."""
    field = options.model_fields[key]
    return None if field.is_required() else to_jsonable_python(field.get_default(call_default_factory=True))


def make_plan(
    suite: Suite,
    setting: Setting,
    rows: Sequence[tuple[type[Method], BaseModel, MethodRow]],
    limit_subjects: int | None = None,
    images_per_prompt: int | None = None,
) -> Plan:
    """All jobs of a suite for the given method rows.

    A method that cannot take as many subjects as a set has is left out of that set, and the plan says so.
    """
    sets = suite.requested_sets(limit_subjects)
    images = images_per_prompt or suite.file.images_per_prompt
    digests = suite.photograph_digests()
    templates = dict.fromkeys(prompt.template for _, prompts in sets for prompt in prompts)
    seeds = {name: [seed_of(suite.file.seed, name, index) for index in range(images)] for name in templates}
    jobs: list[Job] = []
    left_out: list[str] = []
    remarks: list[Remark] = []
    for method, options, row in rows:
        shared = {
            "suite": [suite.file.name, suite.file.version],
            "sampler": asdict(setting.sampler),
            "dtype": setting.dtype,
            "method": [row.name, dict(row.options)],
            "weights": dict(row.weights),
        }
        shared_digest = digest(shared)
        too_large = 0
        for subject_set, prompts in sets:
            subjects = subject_set.subjects
            if len(subjects) > method.max_subjects:
                too_large += 1
                continue
            who = [[subject.id, subject.noun, digests[subject.id]] for subject in subjects]
            shown = who if method.uses_photographs else []
            samples = PlannedSamples(
                row.label, subject_set, prompts, seeds, [shared_digest, who], [shared_digest, shown]
            )
            alone = [SubjectSet((subject,)) for subject in subjects] if len(subjects) > 1 else []
            parts = tuple(Job(row, part, (), _customization_seed(suite, row, part)) for part in alone)
            jobs.append(Job(row, subject_set, samples, _customization_seed(suite, row, subject_set), parts))
        if too_large:
            left_out.append(
                f"{row.label}: {too_large} subject sets are left out, because it takes at most "
                f"{method.max_subjects} subject(s)."
            )
        sizes = sorted({len(job.subject_set.subjects) for job in jobs if job.row is row})
        remarks += _remarks(method, options, row, sizes)
    if not any(job.samples for job in jobs):
        raise UserError(
            " ".join(
                [
                    "Nothing to do: no method accepts any subject set of the suite; choose other methods.",
                    *left_out,
                ]
            )
        )
    references = {row.label: _references(method, options) for method, options, row in rows}
    return Plan(tuple(jobs), tuple(left_out), tuple(remarks), references)


def _customization_seed(suite: Suite, row: MethodRow, subject_set: SubjectSet) -> int:
    return seed_from(f"{suite.file.seed}\n{row.name}\n{subject_set.key}")


def _remarks(method: type[Method], options: BaseModel, row: MethodRow, sizes: Sequence[int]) -> list[Remark]:
    """What the method says about itself on sets of these sizes, where it says anything."""
    remark = getattr(method, "remark", None)
    texts = {size: remark(options, size) for size in sizes} if remark is not None else {}
    return [Remark(row.label, size, text) for size, text in texts.items() if text]


def _references(method: type[Method], options: BaseModel) -> int:
    """How many photographs of a subject the method uses at most: what it says itself, else the first one or none."""
    references = getattr(method, "references", None)
    if references is not None:
        return int(references(options))
    return 1 if method.uses_photographs else 0
