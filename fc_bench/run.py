"""A run from end to end: settle, check everything that can be checked, generate, score."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console

from fc_bench import registry
from fc_bench.errors import UserError
from fc_bench.generating import generate
from fc_bench.model.backbone import Backbone, read_backbone
from fc_bench.model.yaml_file import nearest
from fc_bench.photographs import read_photograph
from fc_bench.plan import MethodRow, Plan, check_prompt_lengths, make_plan, resolve_method
from fc_bench.progress import progress, silence_loading_bars
from fc_bench.protocols import Column, Method, Metric, Sampler, Setting, Subject
from fc_bench.provenance import commit, hardware, now, versions
from fc_bench.records import FORMAT, PLAN, RUN, RunFolder, opened_for_writing, write_json, write_lines, write_png
from fc_bench.scoring import pending_scores, score
from fc_bench.suite import Suite, SuiteFile, read_suite


@dataclass(frozen=True)
class RunOptions:
    """What the command line asks for; `options` maps a method's name to its overrides."""

    suite: str = "pocket"
    methods: Sequence[str] = (
        "text-only",
        "fastcomposer",
        "textual-inversion",
        "dreambooth",
        "dreambooth-lora",
        "custom-diffusion",
    )
    backbone: str = "pocket"
    out: Path | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    limit_subjects: int | None = None
    images_per_prompt: int | None = None
    batch_size: int = 8
    device: str = "auto"
    retry_errors: bool = False
    keep_artefacts: bool = False
    checkpoint_every: int | None = None
    photographs: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run left: its folder, finished and planned samples of this command, and how many scores failed."""

    folder: RunFolder
    finished: int
    planned: int
    score_errors: int

    @property
    def complete(self) -> bool:
        """Every planned sample exists and is scored."""
        return self.finished == self.planned and not self.score_errors


def run(options: RunOptions, console: Console) -> Outcome:
    """Do what is asked, or continue it; the same options on the same folder do only what is missing.

    Raises UserError or ModelInputError before anything is generated when the suite, the photographs, a method, an
    option, the weights or the run folder are unusable; nothing of an earlier run is touched then.
    """
    suite = read_suite(registry.suite_file(options.suite), options.photographs)
    backbone = read_backbone(options.backbone)
    for name in options.options:
        if name not in options.methods:
            raise UserError(
                f'Options are given for "{name}", which is not among the methods of this run; add --method {name}.'
            )
    for owner, methods_of in ((f'backbone "{backbone.name}"', backbone.methods), ("suite", suite.file.options)):
        for name in methods_of:
            if name not in registry.registered("methods"):
                known = nearest(name, registry.registered("methods"))
                raise UserError(f'The {owner} has options for the unknown method "{name}", {known}')
    setting = _setting(suite, backbone, options.device)
    metric_classes = {name: registry.load("metrics", name) for name in suite.file.metrics}
    methods: dict[str, tuple[type[Method], BaseModel, MethodRow]] = {}
    for name in dict.fromkeys(options.methods):
        resolved = resolve_method(name, options.options.get(name, {}), setting, suite.file.options.get(name))
        methods[resolved[2].label] = resolved
    plan = make_plan(
        suite,
        setting,
        list(methods.values()),
        options.limit_subjects,
        options.images_per_prompt,
    )
    path = options.out or _default_folder(suite, backbone)
    with opened_for_writing(path) as folder:
        settings = _settings(suite, setting, plan, metric_classes)
        _refuse_other_run(folder, settings)
        metrics = _checked_metrics(suite, setting, plan, metric_classes, console)
        try:
            _begin(folder, settings, plan, metrics)
            for subject in _asked(suite, plan):
                if not folder.reference(subject.id).exists():
                    write_png(folder.reference(subject.id), read_photograph(subject.photographs[0]))
            planned = [sample.id for sample in plan.samples()]
            recorded = folder.samples()
            pending = sum(
                1
                for name in planned
                if name not in recorded or (options.retry_errors and recorded[name]["status"] != "ok")
            )
            console.print(
                f"{suite.file.name} on {backbone.name}: {len(planned)} samples, {pending} to generate, in {path}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
            silence_loading_bars()
            with progress(console, "Generating", pending) as show:
                generate(
                    plan,
                    folder,
                    setting,
                    lambda row: methods[row.label][0](setting, methods[row.label][1]),
                    show,
                    options.batch_size,
                    options.retry_errors,
                    options.keep_artefacts,
                    options.checkpoint_every,
                )
            with progress(console, "Scoring", len(pending_scores(folder, list(metrics), options.retry_errors))) as show:
                score(suite, folder, metrics, show, options.retry_errors)
            _finish(folder, metrics)
        except OSError as error:
            raise UserError(
                f"Writing to the run folder {path} failed ({error}); make room or make it writable, "
                "then repeat the command: nothing finished is lost."
            ) from error
        return _outcome(folder, plan, list(metrics))


def row_label(options: RunOptions, method: str) -> str:
    """The name of a method's row in the results of such a run."""
    backbone = read_backbone(options.backbone)
    suite = read_suite(registry.suite_file(options.suite), options.photographs)
    setting = _setting(suite, backbone, options.device)
    return resolve_method(method, options.options.get(method, {}), setting, suite.file.options.get(method))[2].label


def resolve_device(device: str) -> str:
    """`auto` becomes `cuda` where there is one; raises UserError for any other name and for a device that is absent."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    named = re.fullmatch(r"cuda(?::(\d{1,4}))?", device, re.ASCII)
    if named is None:
        raise UserError(f'"{device}" is no device; give auto, cpu, cuda or cuda:N.')
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(named[1] or 0) >= count:
        there = f"cuda devices here: {count}" if count else "there is no cuda device"
        raise UserError(f'The device "{device}" is not available here, {there}; use --device cpu or auto.')
    return device


def resolve_sampler(suite: Suite, backbone: Backbone) -> Sampler:
    """The suite's sampler settings, completed by the backbone's."""
    chosen = suite.file.sampler
    defaults = backbone.sampler
    return Sampler(
        scheduler=chosen.scheduler or defaults.scheduler,
        steps=chosen.steps or defaults.steps,
        guidance_scale=chosen.guidance_scale if chosen.guidance_scale is not None else defaults.guidance_scale,
        resolution=chosen.resolution or backbone.resolution,
    )


def _setting(suite: Suite, backbone: Backbone, device: str) -> Setting:
    resolved = resolve_device(device)
    dtype = backbone.dtype.cuda if resolved.startswith("cuda") else backbone.dtype.cpu
    return Setting(backbone, resolve_sampler(suite, backbone), resolved, dtype)


def _default_folder(suite: Suite, backbone: Backbone) -> Path:
    name = suite.file.name if suite.file.name == backbone.name else f"{suite.file.name}-{backbone.name}"
    return Path("runs") / name


def _settings(suite: Suite, setting: Setting, plan: Plan, metrics: Mapping[str, type[Metric]]) -> dict[str, Any]:
    """What must be equal for two commands to work in one folder, and the method rows, which may grow."""
    rows = {job.row.label: asdict(job.row) for job in plan.jobs}
    return {
        "suite": suite.content(),
        "backbone": setting.backbone.name,
        "scorers": {part: setting.backbone.fingerprint(part) for part in ("clip", "faces")},
        "faces": setting.backbone.faces.model_dump(mode="json", exclude={"pack"}),
        "columns": {name: [asdict(column) for column in metric.columns] for name, metric in metrics.items()},
        "sampler": asdict(setting.sampler),
        "device": setting.device,
        "dtype": setting.dtype,
        "methods": rows,
    }


def _refuse_other_run(folder: RunFolder, settings: Mapping[str, Any]) -> None:
    """Raise UserError when the folder holds a run of something else."""
    if not (folder.path / RUN).exists():
        return
    earlier = folder.settings()
    earlier["columns"] = {
        name: [asdict(Column(**column)) for column in columns] for name, columns in earlier["columns"].items()
    }
    digests = earlier["suite"].pop("photograph_digests")
    recorded = SuiteFile.model_validate(earlier["suite"]).model_dump(mode="json")
    earlier["suite"] = {**recorded, "photograph_digests": digests}
    names = {
        "suite": "another suite or other photographs",
        "backbone": "another backbone",
        "scorers": "other scoring weights",
        "faces": "other settings of the face models",
        "columns": "other columns of a metric",
        "sampler": "other sampler settings",
        "device": "another device",
        "dtype": "another number format",
    }
    for key, what in names.items():
        if earlier.get(key) != settings[key]:
            raise UserError(f"{folder.path} holds a run with {what}; choose another folder with --out to keep both.")
    for label, row in settings["methods"].items():
        before = earlier["methods"].get(label)
        if before is not None and before != row:
            raise UserError(
                f'{folder.path} holds samples of "{label}" made with other weights or defaults; choose another folder '
                "with --out to keep both."
            )


def _checked_metrics(
    suite: Suite, setting: Setting, plan: Plan, classes: Mapping[str, type[Metric]], console: Console
) -> dict[str, Metric]:
    """The suite's metrics, after every photograph was read, every reference looked at and every prompt measured."""
    subjects = _asked(suite, plan)
    for subject in subjects:
        for photograph in subject.photographs:
            read_photograph(photograph)
    check_prompt_lengths(plan, setting, scored="prompt-consistency" in classes)
    metrics = {name: metric(setting) for name, metric in classes.items()}
    for metric in metrics.values():
        metric.prepare(subjects)
    return metrics


def _asked(suite: Suite, plan: Plan) -> list[Subject]:
    """The subjects that appear in the plan, in the suite's order."""
    asked = {subject.id for job in plan.jobs for subject in job.subject_set.subjects}
    return [subject for subject in suite.subjects if subject.id in asked]


def _begin(folder: RunFolder, settings: Mapping[str, Any], plan: Plan, metrics: Mapping[str, Metric]) -> None:
    """Write run.json and the plan; an earlier run's methods and samples stay."""
    earlier = folder.settings() if (folder.path / RUN).exists() else {}
    provenance = {"code": commit(), "versions": versions(), "hardware": hardware()}
    remarks = {(remark["method"], remark["subjects"]): remark for remark in earlier.get("remarks", [])}
    remarks |= {(remark.method, remark.subjects): asdict(remark) for remark in plan.remarks}
    command = {"command": shlex.join(["fc-bench", *sys.argv[1:]]), "started": now(), **provenance}
    merged = {
        "format": FORMAT,
        **settings,
        "methods": {**earlier.get("methods", {}), **settings["methods"]},
        "metrics": {name: dict(metric.provenance()) for name, metric in metrics.items()},
        "left_out": list(dict.fromkeys([*earlier.get("left_out", []), *plan.left_out])),
        "remarks": list(remarks.values()),
        "commands": [*earlier.get("commands", []), command],
    }
    planned = folder.planned()
    for sample in plan.samples():
        planned.setdefault(sample.id, asdict(sample))
    write_json(folder.path / RUN, merged)
    write_lines(folder.path / PLAN, planned.values())


def _finish(folder: RunFolder, metrics: Mapping[str, Metric]) -> None:
    settings = folder.settings()
    settings["commands"][-1]["finished"] = now()
    settings["metrics"] = {name: dict(metric.provenance()) for name, metric in metrics.items()}
    write_json(folder.path / RUN, settings)


def _outcome(folder: RunFolder, plan: Plan, metrics: Sequence[str]) -> Outcome:
    samples, scores = folder.samples(), folder.scores()
    planned = [sample.id for sample in plan.samples()]
    finished = [name for name in planned if samples.get(name, {}).get("status") == "ok"]
    errors = sum(1 for name in finished for metric in metrics if scores[name, metric]["status"] != "ok")
    return Outcome(folder, len(finished), len(planned), errors)
