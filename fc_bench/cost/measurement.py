"""A cost run: check the request, then measure the missing phases within the budget."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from fc_bench.builtin import POCKET_SUITE, default_methods
from fc_bench.cost.budget import Budget, Prediction, fits_in_full
from fc_bench.cost.extrapolation import extrapolated, seconds_per_step
from fc_bench.cost.launcher import launched
from fc_bench.cost.memory_guard import available_bytes, free_memory
from fc_bench.cost.records import (
    ARTEFACTS,
    ERROR,
    KIND,
    LOG,
    MEASUREMENTS,
    NOT_MEASURED,
    OK,
    OUT_OF_MEMORY,
    PHASES,
    Phase,
    extrapolates,
    measurements,
)
from fc_bench.cost.results import describe_measurement
from fc_bench.cost.surroundings import numerics, provider
from fc_bench.errors import UserError
from fc_bench.generation.device import resolve_device
from fc_bench.generation.kernels import chosen_kernels
from fc_bench.generation.method_checks import refusal
from fc_bench.generation.plan import MethodRow, options_of, resolve_method
from fc_bench.generation.prompt_checks import size_refusals
from fc_bench.model.backbones.backbone import Backbone, DtypeName, read_backbone
from fc_bench.model.backbones.fingerprint import files_of
from fc_bench.model.backbones.random_weights import with_random_weights
from fc_bench.model.errors import ModelInputError
from fc_bench.model.kernels import Kernels
from fc_bench.protocols import AskedSet, Method, Sampler, Setting, Subject, fill
from fc_bench.run_folder.json_lines import LineWriter
from fc_bench.run_folder.provenance import commit, hardware, now, versions
from fc_bench.run_folder.records import FORMAT, RUN, RunFolder, opened_for_writing, write_json
from fc_bench.suites.suite import read_suite

TEMPLATE = "a photo of a {subject} in the snow"
SEED = 20230510
SHORT = 4
"""Sampler steps of a short image."""
COMPARABLE = ("processor", "cores", "torch_threads", "accelerators")
"""Facts of the hardware that must be equal in one table."""
LIBRARIES = ("python", "torch", "diffusers", "transformers")
SAVING = "gradient_checkpointing"
"""The option that is changed to retry a method that runs out of memory, if the method has it."""


@dataclass(frozen=True)
class CostOptions:
    """The options of the command line; None: the backbone's number format, and all free memory of the machine."""

    methods: Sequence[str] = ()
    """The methods; none: the default ones of the backbone."""
    backbone: str = "pocket"
    random_weights: bool = False
    budget: float = 240.0
    dtype: DtypeName | None = None
    device: str = "auto"
    out: Path | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    memory_limit: int | None = None
    retry_errors: bool = False


@dataclass(frozen=True)
class Measured:
    """The result of a cost run: its folder and the number of failed measurements."""

    folder: RunFolder
    failed: int


@dataclass(frozen=True)
class _Settled:
    """What all measuring processes have in common."""

    backbone: Backbone
    backbone_file: str
    setting: Setting
    rows: dict[str, tuple[type[Method], MethodRow]]
    subject: Subject
    random_weights: bool


def measure(options: CostOptions, console: Console) -> Measured:
    """Measure what is missing; the same options on the same folder continue an interrupted run.

    Extrapolated values are measured again with a larger budget. Raises UserError or ModelInputError before anything is
    measured if a method, an option, the weights or the folder are unusable.
    """
    settled = _settle(options)
    path = options.out or Path("runs") / f"cost-{settled.backbone.name}"
    with opened_for_writing(path) as folder:
        settings = _settings(settled)
        _refuse_other_run(folder, settings)
        try:
            _begin(folder, settings, options.budget)
            _measure_missing(options, settled, folder, console)
        except OSError as error:
            raise UserError(
                f"Writing to the run folder {path} failed ({error}); make room or make it writable, then repeat the "
                "command: nothing finished is lost."
            ) from error
        labels = list(settled.rows)
        failed = sum(
            1 for (label, _), one in measurements(folder).items() if label in labels and one["status"] == ERROR
        )
        return Measured(folder, failed)


def _settle(options: CostOptions) -> _Settled:
    backbone_file, backbone = options.backbone, read_backbone(options.backbone)
    for name in options.options:
        if name not in (options.methods or default_methods(backbone)):
            raise UserError(f'An option is given for "{name}", which is not a method of this run; add --method {name}.')
    device = resolve_device(options.device)
    dtype = options.dtype or backbone.dtype.on(device)
    sampler = Sampler(
        backbone.sampler.scheduler, backbone.sampler.steps, backbone.sampler.guidance_scale, backbone.resolution
    )
    setting = Setting(backbone, sampler, device, dtype)
    for name in options.methods:
        options_of(name, options.options.get(name, {}), setting)  # before anything is made or fetched
    if options.random_weights:
        backbone.check_pipeline()
        backbone_file = str(with_random_weights(backbone, dtype))
        free_memory()  # the measuring processes need it
        backbone = read_backbone(backbone_file)
        setting = replace(setting, backbone=backbone)
    with _random_weights_as_remedy(options, backbone):
        for message in size_refusals([], setting):
            raise UserError(message)
    subject = read_suite(POCKET_SUITE).subjects[0]
    requested = [AskedSet((subject,), lambda mentions: [fill(TEMPLATE, mentions)])]
    rows: dict[str, tuple[type[Method], MethodRow]] = {}
    for name in dict.fromkeys(options.methods or default_methods(backbone)):
        with _random_weights_as_remedy(options, backbone):
            kind, settled, row = resolve_method(name, options.options.get(name, {}), setting)
        if message := refusal(kind, setting, settled, requested):
            raise UserError(f"{row.label}: {message}")
        rows[row.label] = (kind, row)
    setting = replace(setting, kernels=chosen_kernels(setting))
    return _Settled(backbone, backbone_file, setting, rows, subject, options.random_weights)


@contextmanager
def _random_weights_as_remedy(options: CostOptions, backbone: Backbone) -> Iterator[None]:
    """What lacks weights says that random ones would do for a backbone whose architecture is known."""
    try:
        yield
    except ModelInputError as error:
        if options.random_weights or backbone.architecture is None:
            raise
        raise ModelInputError(f"{error} Or measure its architecture with --random-weights.") from None


def _settings(settled: _Settled) -> dict[str, Any]:
    """Settings that must be equal for two commands in one folder, and the method rows, which may be added to."""
    machine, libraries = hardware(), versions()
    return {
        "kind": KIND,
        "backbone": settled.backbone.name,
        "random_weights": settled.random_weights,
        "sampler": asdict(settled.setting.sampler),
        "batch": 1,
        "device": settled.setting.device,
        "dtype": settled.setting.dtype,
        "machine": {key: machine[key] for key in COMPARABLE},
        "libraries": {key: libraries[key] for key in LIBRARIES},
        "provider": provider(),
        "numerics": numerics() | {"kernels": asdict(settled.setting.kernels)},
        "subject": {
            "id": settled.subject.id,
            "noun": settled.subject.noun,
            "photographs": len(settled.subject.photographs),
            "template": TEMPLATE,
        },
        "methods": {label: _row(settled, kind, row) for label, (kind, row) in settled.rows.items()},
    }


def _row(settled: _Settled, kind: type[Method], row: MethodRow) -> dict[str, Any]:
    """A method's row with further fields for tables: whether it is personalized, and its shared files."""
    options = kind.Options.model_validate(dict(row.options))
    files = {
        (state.st_dev, state.st_ino): state.st_size
        for path in kind.weights(settled.backbone, options).values()
        for state in (file.stat() for file in files_of(path))
    }
    return {**asdict(row), "personalizes": kind.uses_photographs, "shared_weights_bytes": sum(files.values())}


def _refuse_other_run(folder: RunFolder, settings: Mapping[str, Any]) -> None:
    """Raise UserError if the folder holds measurements that are not comparable with the requested ones."""
    if not (folder.path / RUN).exists():
        return
    earlier = folder.settings(KIND)
    earlier["numerics"].setdefault("kernels", asdict(Kernels()))  # as in earlier versions
    names = {
        "backbone": "of another backbone",
        "random_weights": "of random weights or without them",
        "sampler": "with other sampler settings",
        "batch": "with another batch size",
        "device": "on another device",
        "dtype": "with another number format",
        "machine": "on another machine or with another number of threads",
        "libraries": "with other libraries",
        "provider": "with another driver or processor",
        "numerics": "with other kernels",
        "subject": "of another subject",
    }
    for key, what in names.items():
        if earlier.get(key) != settings[key]:
            raise UserError(
                f"{folder.path} holds measurements {what}, which are not comparable; choose another folder with --out."
            )
    for label, row in settings["methods"].items():
        if label in earlier["methods"] and earlier["methods"][label] != row:
            raise UserError(
                f'{folder.path} holds measurements of "{label}" with other weights or defaults; choose another folder '
                "with --out."
            )


def _begin(folder: RunFolder, settings: Mapping[str, Any], budget: float) -> None:
    earlier = folder.settings(KIND) if (folder.path / RUN).exists() else {}
    command = {
        "command": shlex.join(["fc-bench", *sys.argv[1:]]),
        "started": now(),
        "budget_seconds": budget,
        "code": commit(),
        "versions": versions(),
        "hardware": hardware(),
    }
    merged = {
        "format": FORMAT,
        **settings,
        "methods": {**earlier.get("methods", {}), **settings["methods"]},
        "commands": [*earlier.get("commands", []), command],
    }
    write_json(folder.path / RUN, merged)


def pending(
    rows: Mapping[str, Mapping[str, Any]],
    done: Mapping[tuple[str, str], Mapping[str, Any]],
    budget: float,
    retry_errors: bool = False,
) -> list[tuple[str, Phase]]:
    """The missing measurements (label, phase), phase after phase, each for all methods.

    Text-only methods are not customized. Extrapolated or skipped measurements are repeated if the budget is larger than
    before; failures are repeated with `retry_errors`.
    """
    found: list[tuple[str, Phase]] = []
    for phase in PHASES:
        for label, row in rows.items():
            if phase == "customize" and not row["personalizes"]:
                continue
            record = done.get((label, phase))
            if (
                record is None
                or (extrapolates(record) and record["budget_seconds"] < budget)
                or (retry_errors and record["status"] in (ERROR, OUT_OF_MEMORY))
            ):
                found.append((label, phase))
    return found


def _measure_missing(options: CostOptions, settled: _Settled, folder: RunFolder, console: Console) -> None:
    rows = {label: {"personalizes": kind.uses_photographs} for label, (kind, _) in settled.rows.items()}
    missing = pending(rows, measurements(folder), options.budget, options.retry_errors)
    weights = " (random weights)" if settled.random_weights else ""
    console.print(
        f"Cost of {len(rows)} methods on {settled.backbone.name}{weights}: {len(missing)} measurements in about "
        f"{_duration(options.budget)}, longer if the smallest measurements need more, in {folder.path}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    session = _Session(options, settled, folder, console)
    try:
        while missing:
            session.take(missing)
            missing = missing[1:]
            session.release(missing)
    finally:
        session.close()


class _Session:
    """The measurements of one command."""

    def __init__(self, options: CostOptions, settled: _Settled, folder: RunFolder, console: Console) -> None:
        self._options, self._settled, self._folder, self._console = options, settled, folder, console
        self._lines = LineWriter(folder.path / MEASUREMENTS)
        self._records = measurements(folder)
        self._budget = Budget.from_now(options.budget)

    def close(self) -> None:
        """Close the records."""
        self._lines.close()

    def take(self, missing: Sequence[tuple[str, Phase]]) -> None:
        """Make the first of the missing measurements, with a share of the remaining budget."""
        label, phase = missing[0]
        allowance = self._budget.allowance([phase for _, phase in missing])
        steps = self._settled.setting.sampler.steps
        short = min(SHORT, steps)
        if phase == "customize":
            record = self._run(label, phase, allowance, steps)
            if record["status"] == OUT_OF_MEMORY and self._row(label).options.get(SAVING) is False:
                self._keep({**record, "options_changed": {}})
                record = self._run(label, phase, allowance, steps, {SAVING: True})
            self._keep(record)
            return
        if self._unfit(label):
            return
        if phase == "step":
            self._keep(self._run(label, phase, allowance, short))
            return
        predicted = self._predicted(label)
        if phase == "first_image":
            others = [self._predicted(other) for other, kind in missing[1:] if kind == phase and not self._unfit(other)]
            known = [other for other in others if other is not None]
            whole = predicted is None or fits_in_full(self._budget.left, predicted, known)
            self._keep(self._run(label, phase, allowance, steps if whole else short))
            return
        if predicted is not None and predicted.before + 2 * predicted.full > allowance:  # one warms up, one counts
            self._keep(self._left_out(label, phase, allowance, predicted))
            return
        self._keep(self._run(label, phase, allowance, steps))

    def release(self, missing: Iterable[tuple[str, Phase]]) -> None:
        """Remove artefacts that no missing measurement needs."""
        needed = {label for label, _ in missing}
        for label, (_, row) in self._settled.rows.items():
            if label not in needed:
                shutil.rmtree(self._folder.path / ARTEFACTS / row.folder, ignore_errors=True)
        folder = self._folder.path / ARTEFACTS
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def _row(self, label: str) -> MethodRow:
        return self._settled.rows[label][1]

    def _unfit(self, label: str) -> bool:
        """Whether the customization of the method failed, so that it cannot generate images."""
        record = self._records.get((label, "customize"))
        return record is not None and record["status"] not in (OK, NOT_MEASURED)

    def _changes(self, label: str) -> dict[str, Any]:
        """Options that the customization had to change."""
        record = self._records.get((label, "customize"))
        return dict(record.get("options_changed", {})) if record is not None else {}

    def _run(
        self, label: str, phase: Phase, allowance: float, sampler_steps: int, changes: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Measure in a new process; returns its record."""
        changes = dict(changes) if changes is not None else self._changes(label)
        row, setting, subject = self._row(label), self._settled.setting, self._settled.subject
        artefact = self._folder.path / ARTEFACTS / row.folder
        artefact.mkdir(parents=True, exist_ok=True)
        limit = self._options.memory_limit or available_bytes()
        started = now()
        result = launched(
            {
                "method": row.name,
                "options": {**row.options, **changes},
                "phase": phase,
                "backbone": self._settled.backbone_file,
                "sampler": asdict(replace(setting.sampler, steps=sampler_steps)),
                "device": setting.device,
                "dtype": setting.dtype,
                "kernels": asdict(setting.kernels),
                "subject": {
                    "id": subject.id,
                    "noun": subject.noun,
                    "photographs": [str(path.resolve()) for path in subject.photographs],
                },
                "template": TEMPLATE,
                "seed": SEED,
                "artefact": str(artefact.resolve()),
                "memory_limit": limit,
                "deadline": time.time() + allowance,
            },
            self._folder.path / LOG,
        )
        if "disk_refused" in result:
            raise OSError(result["disk_refused"])
        head = self._head(label, phase, allowance)
        return {
            **head,
            "steps_asked": setting.sampler.steps,
            **result,
            "options_changed": changes,
            "started": started,
            "memory_limit": limit,
        }

    def _left_out(self, label: str, phase: Phase, allowance: float, predicted: Prediction) -> dict[str, Any]:
        needed = predicted.before + 2 * predicted.full
        message = f"two images take {needed:.0f} s with loading, but only {allowance:.0f} s were left"
        error = {"type": "Budget", "message": message, "traceback": ""}
        return {**self._head(label, phase, allowance), "status": NOT_MEASURED, "calls": [], "error": error}

    def _head(self, label: str, phase: Phase, allowance: float) -> dict[str, Any]:
        return {
            "method": label,
            "phase": phase,
            "budget_seconds": self._options.budget,
            "allowance_seconds": allowance,
        }

    def _keep(self, record: dict[str, Any]) -> None:
        record["finished"] = now()
        self._lines.append(record)
        self._records[record["method"], record["phase"]] = record
        self._console.print(describe_measurement(record), highlight=False, markup=False, soft_wrap=True)

    def _predicted(self, label: str) -> Prediction | None:
        """Seconds of a process with one image, from the process that measured steps; None if unknown."""
        record = self._records.get((label, "step"))
        if record is None or record["status"] != OK:
            return None
        call = record["calls"][-1]
        step = seconds_per_step([call["step_seconds"] for call in record["calls"]])
        whole = extrapolated(call["seconds"], call["steps"], self._settled.setting.sampler.steps, step)
        if whole is None:
            return None
        before = (
            record["startup_seconds"] + record["load"]["seconds"] + (record["restore"] or {"seconds": 0.0})["seconds"]
        )
        return Prediction(before, whole.value, call["seconds"])


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
