"""The common part of commands that fill a run folder: settings, checks, records, scores.

Generation (`fc_bench.commands.run`) and scoring of other images (`fc_bench.commands.score`) use it.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from fc_bench.errors import UserError
from fc_bench.generation.plan import Plan
from fc_bench.generation.prompt_checks import check_prompt_lengths
from fc_bench.inspection.inspector import CROPPED, Inspection, Inspector, people_of, write_crops
from fc_bench.metrics.embedders import metric_classes
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.model.yaml_file import sentence
from fc_bench.progress import Progress, Uncounted, progress, silence_loading_bars
from fc_bench.protocols import Column, Metric, Setting, Subject, further_scorers
from fc_bench.run_folder.json_lines import stream_fields, stream_lines
from fc_bench.run_folder.provenance import commit, hardware, now, versions
from fc_bench.run_folder.record_shapes import Planned
from fc_bench.run_folder.records import (
    FORMAT,
    JOBS,
    PLAN,
    RUN,
    SAMPLES,
    SCORES,
    RunFolder,
    opened_for_writing,
    write_json,
    write_lines,
    write_png,
)
from fc_bench.scoring.score import PendingScores, score, score_anchors
from fc_bench.suites.photographs import read_photograph
from fc_bench.suites.suite import DIGESTS, Suite
from fc_bench.suites.suite_file import SuiteFile


@dataclass(frozen=True)
class Outcome:
    """The result of a command: its folder, finished and planned samples, and the number of failed scores.

    `unscored` is the number of finished samples with a failed score.
    """

    folder: RunFolder
    finished: int
    planned: int
    score_errors: int
    unscored: int

    @property
    def complete(self) -> bool:
        """Whether every planned sample exists and is scored."""
        return self.finished == self.planned and not self.score_errors


@dataclass(frozen=True)
class Session:
    """A run folder locked by one command, with the suite's metrics ready."""

    folder: RunFolder
    suite: Suite
    plan: Plan
    metrics: Mapping[str, Metric]
    console: Console

    def say(self, text: str) -> None:
        """Print a line without markup or wrapping."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def note(self, **fields: Any) -> None:
        """Record fields of the command in run.json."""
        settings = self.folder.settings()
        settings["commands"][-1] |= fields
        write_json(self.folder.path / RUN, settings)

    def score_row(self, label: str, show: Progress) -> None:
        """Compute the scores of a row of the table that is finished while others are not; `show` gets the errors."""
        pending = PendingScores(self.folder, self.metrics, row=label)
        with show.during(f"Scoring {label}"):
            score(self.suite, self.folder, self.metrics, Uncounted(show), pending)

    def score(self, retry_errors: bool = False) -> Outcome:
        """Compute the missing scores of finished samples; returns the state of this command's samples."""
        pending = PendingScores(self.folder, self.metrics, retry_errors)
        with progress(self.console, "Scoring", len(pending)) as show:
            score(self.suite, self.folder, self.metrics, show, pending)
            score_anchors(self.suite, self.folder, self.metrics, show, pending.anchors)
        missing = pending.missing
        finished = [name for job in self.plan.jobs for name in job.ids if name in missing]
        errors = sum(missing[name].bit_count() for name in finished)
        unscored = sum(1 for name in finished if missing[name])
        return Outcome(self.folder, len(finished), self.plan.size, errors, unscored)


@contextmanager
def session(
    path: Path,
    suite: Suite,
    setting: Setting,
    plan: Plan,
    inspector: Inspector,
    console: Console,
    made_elsewhere: bool = False,
    scoring_device: str | None = None,
) -> Iterator[Session]:
    """Lock the run folder, check everything that can be checked, and record the settings and the plan.

    The plan of an earlier command is kept. With `made_elsewhere` nothing is generated: sampler and number format are
    unknown, the pipeline is not needed, and the new plan replaces the old one. Metrics run on `scoring_device`
    (default: the setting's device). Raises UserError or ModelInputError before anything is written if photographs,
    prompts, weights or the folder are unusable, and UserError if writing fails.
    """
    classes = metric_classes(suite.file.metrics, setting.backbone, suite.file.verification)
    silence_loading_bars()
    with opened_for_writing(path) as folder:
        settings = settings_of(suite, setting, plan, classes)
        if made_elsewhere:
            settings |= {"sampler": None, "dtype": None, "kernels": None}
        _refuse_other_run(folder, settings, setting.backbone, classes)
        scoring = setting if scoring_device is None else replace(setting, device=scoring_device)
        requested = _requested(suite, plan)
        people = people_of(suite, {subject.id for subject in requested})
        inspection = inspector.inspect(people, suite.file.photograph_crop == "published")
        inspection.refuse()
        try:
            with _left_only_when_begun(folder):
                write_crops(suite, {person.id for person in people})
                metrics = _checked_metrics(requested, scoring, plan, classes, not made_elsewhere)
                _begin(folder, settings, plan, metrics, inspection, made_elsewhere)
            before = _results(folder)
            for remark in inspection.remarks:
                console.print(remark, highlight=False, markup=False, soft_wrap=True)
            for subject in requested:
                if not folder.reference(subject.id).exists():
                    write_png(folder.reference(subject.id), read_photograph(subject.photographs[0]))
            yield Session(folder, suite, plan, metrics, console)
            _finish(folder, metrics, added_results=_results(folder) != before)
        except OSError as error:
            raise UserError(
                f"Writing to the run folder {path} failed ({error}); make room or make it writable, "
                "then repeat the command: nothing finished is lost."
            ) from error


def settings_of(suite: Suite, setting: Setting, plan: Plan, metrics: Mapping[str, type[Metric]]) -> dict[str, Any]:
    """Settings that must be equal for two commands in one folder, and the method rows, which may be added to."""
    rows = {job.row.label: job.row for job in plan.jobs}
    return {
        "suite": suite.content(),
        "backbone": setting.backbone.name,
        "scorers": _scorers(setting.backbone, metrics),
        "faces": _face_settings(setting.backbone),
        "columns": {name: [asdict(column) for column in metric.columns] for name, metric in metrics.items()},
        "sampler": asdict(setting.sampler),
        "device": setting.device,
        "dtype": setting.dtype,
        "compiled": setting.compiled,
        "kernels": asdict(setting.kernels),
        "methods": {label: asdict(row) for label, row in rows.items()},
    }


def _scorers(backbone: Backbone, metrics: Mapping[str, type[Metric]]) -> dict[str, str]:
    """sha256 of the components that scores depend on: clip and faces always, others if a metric uses them."""
    faces = [backbone.faces_component(number) for number in range(len(backbone.faces))]
    further = [part for metric in metrics.values() for part in further_scorers(metric)]
    declared = backbone.components()
    return {part: backbone.fingerprint(part) for part in ("clip", *faces, *further) if part in declared}


def _face_settings(backbone: Backbone) -> dict[str, Any] | list[dict[str, Any]]:
    """Settings of the face models: a mapping, or a list if there are several.

    A threshold is no setting of the models: it stands in the definition of the column `verified`.
    """
    every = [
        faces.model_dump(mode="json", exclude={"pack", "threshold"}, exclude_none=True) for faces in backbone.faces
    ]
    return every[0] if len(every) == 1 else every


def _refuse_other_run(
    folder: RunFolder, settings: Mapping[str, Any], backbone: Backbone, metrics: Mapping[str, type[Metric]]
) -> None:
    """Raise UserError if the folder holds a different run; the suite may have additional metrics."""
    if not (folder.path / RUN).exists():
        return
    earlier = folder.settings()
    dropped = [name for name in earlier["columns"] if name not in metrics]
    if dropped:
        raise UserError(
            f'{folder.path} holds a run with the metric "{dropped[0]}", which this command does not measure; choose '
            "another folder with --out to keep both."
        )
    known = {name: metrics[name] for name in earlier["columns"]}
    earlier["columns"] = {
        name: [Column(**column).definition() for column in columns] for name, columns in earlier["columns"].items()
    }
    digests = {name: earlier["suite"].pop(name) for name in DIGESTS if name in earlier["suite"]}
    # Before there was a choice, methods got photographs as they are: the digests say whether that is the same.
    earlier["suite"].setdefault("photograph_crop", settings["suite"]["photograph_crop"])
    try:
        recorded = SuiteFile.model_validate(earlier["suite"]).model_dump(mode="json")
    except ValidationError as error:
        message = sentence(error, SuiteFile).rstrip(".")
        raise UserError(
            f"{folder.path / RUN} is damaged (suite: {message}); restore it or start a new run folder."
        ) from None
    earlier["suite"] = {**recorded, **digests, "metrics": settings["suite"]["metrics"]}
    requested = {
        **settings,
        "columns": {name: [column.definition() for column in metric.columns] for name, metric in known.items()},
        "scorers": _scorers(backbone, known),
    }
    names = {
        "suite": "another suite or other photographs",
        "backbone": "another backbone",
        "scorers": "other scoring weights",
        "faces": "other settings of the face models",
        "columns": "other columns of a metric",
        "sampler": "other sampler settings",
        "device": "another device",
        "dtype": "another number format",
        "compiled": "another compilation of the models",
    }
    for key, what in names.items():
        if earlier.get(key) != requested[key]:
            raise UserError(f"{folder.path} holds a run with {what}; choose another folder with --out to keep both.")
    for label, row in settings["methods"].items():
        before = earlier["methods"].get(label)
        if before is not None and before != row:
            raise UserError(
                f'{folder.path} holds samples of "{label}" made with other weights or defaults; choose another folder '
                "with --out to keep both."
            )


@contextmanager
def _left_only_when_begun(folder: RunFolder) -> Iterator[None]:
    """Remove the squares of photographs if nothing else was written, because the folder is not a run folder then."""
    try:
        yield
    finally:
        if not (folder.path / RUN).exists():
            shutil.rmtree(folder.path / CROPPED, ignore_errors=True)


def _checked_metrics(
    subjects: Sequence[Subject], setting: Setting, plan: Plan, classes: Mapping[str, type[Metric]], generated: bool
) -> dict[str, Metric]:
    """The suite's metrics, after a check of every reference and prompt."""
    if not generated:
        check_prompt_lengths(plan, setting, generated=False, scored="prompt-consistency" in classes)
    metrics = {name: metric(setting) for name, metric in classes.items()}
    for metric in metrics.values():
        metric.prepare(subjects)
    return metrics


def _requested(suite: Suite, plan: Plan) -> list[Subject]:
    """The subjects in the plan, in the suite's order."""
    requested = {subject.id for job in plan.jobs for subject in job.subject_set.subjects}
    return [subject for subject in suite.subjects if subject.id in requested]


def _begin(
    folder: RunFolder,
    settings: Mapping[str, Any],
    plan: Plan,
    metrics: Mapping[str, Metric],
    inspection: Inspection,
    replaces_plan: bool,
) -> None:
    """Write run.json and the plan; an earlier run's methods and samples stay unless the plan is replaced."""
    earlier = folder.settings() if (folder.path / RUN).exists() else {}
    provenance = {"code": commit(), "versions": versions(), "hardware": hardware()}
    remarks = {(remark["method"], remark["subjects"]): remark for remark in earlier.get("remarks", [])}
    remarks |= {(remark.method, remark.subjects): asdict(remark) for remark in plan.remarks}
    made = _provenance(metrics)
    command = {"command": shlex.join(["fc-bench", *sys.argv[1:]]), "started": now(), **provenance}
    command["face_providers"] = _face_providers(made)
    merged = {
        "format": FORMAT,
        **settings,
        "methods": {**earlier.get("methods", {}), **settings["methods"]},
        "metrics": made,
        "photographs": inspection.record(earlier.get("photographs")),
        "references": {**earlier.get("references", {}), **plan.references},
        "left_out": list(dict.fromkeys([*earlier.get("left_out", []), *plan.left_out])),
        "remarks": list(remarks.values()),
        "commands": [*earlier.get("commands", []), command],
    }
    write_json(folder.path / RUN, merged)
    _write_plan(folder, plan, replaces_plan)


def _write_plan(folder: RunFolder, plan: Plan, replace: bool) -> None:
    """Add the plan's samples to those of earlier commands, or replace them."""
    file = folder.path / PLAN
    known = set() if replace else {one.id for one in stream_fields(file, Planned)}
    if not replace and all(name in known for job in plan.jobs for name in job.ids):
        return
    kept = () if replace else stream_lines(file)
    write_lines(file, chain(kept, _new_samples(plan, known)))


def _new_samples(plan: Plan, known: set[str]) -> Iterator[dict[str, Any]]:
    """The unknown samples as recorded; they are known afterwards."""
    for sample in plan.samples():
        if sample.id not in known:
            known.add(sample.id)
            yield sample.record()


def _results(folder: RunFolder) -> list[int]:
    """Bytes of each file of results, which only grow."""
    files = (folder.path / name for name in (SAMPLES, JOBS, SCORES))
    return [file.stat().st_size if file.exists() else 0 for file in files]


def _finish(folder: RunFolder, metrics: Mapping[str, Metric], added_results: bool) -> None:
    settings = folder.settings()
    settings["commands"][-1] |= {"finished": now(), "added_results": added_results}
    settings["metrics"] = _provenance(metrics)
    write_json(folder.path / RUN, settings)


def _face_providers(made: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The onnxruntime providers of the metrics' face models."""
    models = [model for one in made.values() for model in one.get("models", {}).values()]
    return sorted({provider for model in models for provider in model["providers"]})


def _provenance(metrics: Mapping[str, Metric]) -> dict[str, dict[str, Any]]:
    """Each metric's own provenance, and the further components of the backbone that its values depend on."""
    further = {name: list(further_scorers(metric)) for name, metric in metrics.items()}
    return {
        name: {**metric.provenance(), **({"scorers": further[name]} if further[name] else {})}
        for name, metric in metrics.items()
    }
