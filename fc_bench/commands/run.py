"""A run: resolve the options, check everything that can be checked, generate, score."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console

from fc_bench import registry
from fc_bench.builtin import default_methods
from fc_bench.commands.finished import finished_outcome, input_files, remember_finished
from fc_bench.commands.session import Outcome, Session, session
from fc_bench.errors import UserError
from fc_bench.generation.batch_size import FIRST, fills
from fc_bench.generation.device import resolve_device
from fc_bench.generation.executor import Executor, Options
from fc_bench.generation.kernels import chosen_kernels, number_format_remark
from fc_bench.generation.local_executor import LocalExecutor, worker_count
from fc_bench.generation.method_checks import check_methods
from fc_bench.generation.plan import MethodRow, Plan, components_of, make_plan, resolve_method
from fc_bench.generation.prompt_checks import check_prompt_lengths, check_sizes, prompts_of, unknown_words
from fc_bench.generation.ray_cluster import Cluster, Connection
from fc_bench.generation.ray_executor import RayExecutor
from fc_bench.generation.recorder import Generation, Recorder, generate, pending_ids
from fc_bench.generation.shared_prefixes import describe_calls, rows_that_share
from fc_bench.generation.worker import InProcess, Worker
from fc_bench.inspection.inspector import Inspector, cropped, inspector_of
from fc_bench.model.backbones.backbone import Backbone, read_backbone
from fc_bench.model.kernels import Kernels
from fc_bench.model.yaml_file import nearest
from fc_bench.progress import progress
from fc_bench.protocols import Method, Sampler, Setting, needs_attention
from fc_bench.run_folder.file_states import State, states_of
from fc_bench.run_folder.records import RUN, RunFolder
from fc_bench.suites.suite import Suite, read_suite

COMPILER = "inductor"
"""torch.compile's own backend."""
ON_CLUSTER = "cuda on a cluster"
"""A CUDA device of a cluster, which is not required on this machine."""


@dataclass(frozen=True)
class RunOptions:
    """The options of a run; without `methods` it has those that the backbone has weights for.

    `options` maps a method's name to its overrides.
    `batch_size` is the number of images generated together (None: as many as an accelerator's memory holds, `FIRST` on
    a CPU). `cluster` is where jobs run (None: on this machine, in `workers` processes, or in as many as are faster).
    With `share_prefixes`, methods whose first steps use the text alone share them between subjects. `compiled` samples
    with torch.compile. `variants` maps a method's name to further overrides, with a row of the run for each of them.
    """

    suite: str = "pocket"
    methods: Sequence[str] = ()
    backbone: str = "pocket"
    out: Path | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    limit_subjects: int | None = None
    images_per_prompt: int | None = None
    batch_size: int | None = None
    device: str = "auto"
    compiled: bool = False
    retry_errors: bool = False
    keep_artefacts: bool = False
    checkpoint_every: int | None = None
    photographs: Path | None = None
    share_prefixes: bool = True
    cluster: Cluster | None = None
    workers: int | None = None
    variants: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each requested row: a method's name and its overrides."""
        for name in dict.fromkeys(self.methods):
            for variant in self.variants.get(name, [{}]):
                yield name, {**self.options.get(name, {}), **variant}


class Clock:
    """Seconds of the consecutive parts of a command."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def next(self, part: str) -> None:
        """End a part."""
        now = time.perf_counter()
        self.seconds[part], self._last = now - self._last, now

    def move(self, part: str, other: str, seconds: float) -> None:
        """These seconds belong to another part."""
        self.seconds[part] -= seconds
        self.seconds[other] += seconds


@dataclass(frozen=True)
class MethodMaker:
    """Loads the method of a row, on this or another machine."""

    setting: Setting
    methods: Mapping[str, tuple[type[Method], BaseModel, MethodRow]]

    def __call__(self, row: MethodRow) -> Method:
        """The loaded method."""
        kind, options, _ = self.methods[row.label]
        return kind(self.setting, options)


@dataclass(frozen=True)
class Prepared:
    """A run with resolved and checked options."""

    suite: Suite
    setting: Setting
    methods: Mapping[str, tuple[type[Method], BaseModel, MethodRow]]
    plan: Plan
    shares: Mapping[str, int]
    """Row label -> number of shared iterations, of the rows that share any."""
    folder: Path
    scoring_device: str
    inspector: Inspector

    def describe(self) -> Iterator[str]:
        """The size of the plan and remarks on it, in lines."""
        name, backbone = self.suite.file.name, self.setting.backbone.name
        yield f"{name} on {backbone}: {self.plan.size} samples in {len(self.plan.jobs)} jobs"
        yield from self.remarks()
        if remark := number_format_remark(self.setting):
            yield remark
        yield from describe_calls(self.plan, self.shares, self.setting.sampler)

    def remarks(self) -> Iterator[str]:
        """What is left out, and which words are unknown, in lines."""
        yield from self.plan.left_out
        if unknown := unknown_words(prompts_of(self.plan), self.setting.backbone):
            yield unknown


def prepare(options: RunOptions) -> Prepared:
    """Resolve and check the options; raises UserError or ModelInputError for a run that is not possible."""
    suite, backbone = _read(options)
    options = _with_methods(options)
    for name in (*options.options, *options.variants):
        if name not in options.methods:
            raise UserError(f'An option is given for "{name}", which is not a method of this run; add --method {name}.')
    for owner, methods_of in ((f'backbone "{backbone.name}"', backbone.methods), ("suite", suite.file.options)):
        for name in methods_of:
            if name not in registry.registered("methods"):
                known = nearest(name, registry.registered("methods"))
                raise UserError(f'The {owner} has options for the unknown method "{name}", {known}')
    setting = _for_sampling(setting_of(suite, backbone, _device(options)), options.compiled)
    requested = [(name, overrides, setting, suite.file.options.get(name)) for name, overrides in options.rows()]
    needed = [*backbone.always_needed(), *(part for one in requested for part in components_of(*one))]
    backbone.require(*dict.fromkeys(needed))
    methods: dict[str, tuple[type[Method], BaseModel, MethodRow]] = {}
    for one in requested:
        resolved = resolve_method(*one)
        methods[resolved[2].label] = resolved
    folder, scoring_device = options.out or default_folder(suite, backbone), setting.device
    if options.cluster is not None:
        scoring_device = resolve_device("cpu" if options.device == "cpu" else "auto")
    inspector = inspector_of(suite, backbone, scoring_device)
    suite = cropped(suite, inspector, folder)
    plan = make_plan(
        suite,
        setting,
        list(methods.values()),
        options.limit_subjects,
        options.images_per_prompt,
    )
    setting = replace(setting, kernels=_kernels(folder, setting, options.cluster))
    check_prompt_lengths(plan, setting, scored="prompt-consistency" in suite.file.metrics)
    check_sizes(plan, setting)
    check_methods(plan, setting, methods.values())
    shares = rows_that_share(methods, setting.sampler) if options.share_prefixes else {}
    return Prepared(suite, setting, methods, plan, shares, folder, scoring_device, inspector)


def _read(options: RunOptions) -> tuple[Suite, Backbone]:
    return read_suite(registry.suite_file(options.suite), options.photographs), read_backbone(options.backbone)


def _with_methods(options: RunOptions) -> RunOptions:
    """The options with the backbone's default methods, if they name none."""
    return options if options.methods else replace(options, methods=default_methods(read_backbone(options.backbone)))


RowLines = Callable[[RunFolder, str], Iterable[str]]
"""The lines that a run prints when a row, given by its label, is generated and scored."""


def run(options: RunOptions, console: Console, row_lines: RowLines | None = None) -> Outcome:
    """Do what is missing of the run; the same options on the same folder continue an interrupted run.

    With `row_lines` a row is scored as soon as it is generated, and its lines are printed. Raises UserError or
    ModelInputError before anything is generated if the suite, the photographs, a method, an option, the weights or the
    run folder are unusable; an earlier run is then unchanged.
    """
    clock = Clock()
    options = _with_methods(options)
    path = options.out or default_folder(*_read(options))
    finished = finished_outcome(path, "run", options, console) if options.cluster is None else None
    if finished is not None:
        return finished
    prepared = prepare(options)
    inputs = _inputs(options, prepared)
    with (
        _connected(options.cluster, prepared.folder) as connection,
        session(
            prepared.folder,
            prepared.suite,
            prepared.setting,
            prepared.plan,
            prepared.inspector,
            console,
            scoring_device=prepared.scoring_device,
        ) as opened,
    ):
        clock.next("preparing")
        done = _generate_pending(opened, prepared, options, connection, row_lines)
        clock.next("generating")
        outcome = opened.score(options.retry_errors)
        clock.next("scoring")
        clock.move("generating", "scoring", done.rows_seconds)
        opened.note(seconds=clock.seconds)
        if done.samples:
            opened.say(_describe_shares(done, clock.seconds))
    if options.cluster is None:
        kinds = [*(kind for kind, _, _ in prepared.methods.values()), *map(type, opened.metrics.values())]
        findings = [finding["text"] for finding in outcome.folder.settings()["photographs"]["findings"]]
        remember_finished(outcome, "run", options, inputs, kinds, [*findings, *_describe_pending(opened, prepared, 0)])
    return outcome


def _inputs(options: RunOptions, prepared: Prepared) -> dict[str, State]:
    """The states of what a run reads: suite, photographs, weights."""
    backbone = prepared.setting.backbone
    weights = [backbone.found_path(component) for component in backbone.always_needed()]
    for kind, chosen, _ in prepared.methods.values():
        weights += kind.weights(backbone, chosen).values()
    files = [*input_files(prepared.suite, options.backbone), *(path for path in weights if path is not None)]
    return states_of(dict.fromkeys(files))


@contextmanager
def _connected(cluster: Cluster | None, path: Path) -> Iterator[Connection | None]:
    """The connection to the requested cluster, if any.

    A new run folder fixes its device, so it is created only after a worker has its resources; raises UserError without
    one.
    """
    if cluster is None:
        yield None
        return
    connection = Connection(cluster)
    try:
        if not (path / RUN).exists():
            connection.check()
        yield connection
    finally:
        connection.close()


def _generate_pending(
    opened: Session,
    prepared: Prepared,
    options: RunOptions,
    connection: Connection | None,
    row_lines: RowLines | None,
) -> Generation:
    """Generate the missing samples, and print their number before and the time after."""
    plan, folder = opened.plan, opened.folder
    recorded = folder.statuses()
    pending = sum(len(pending_ids(job, recorded, options.retry_errors)) for job in plan.jobs)
    for line in _describe_pending(opened, prepared, pending):
        opened.say(line)
    if pending and (remark := number_format_remark(prepared.setting)):
        opened.say(remark)
    if pending and prepared.shares:
        opened.note(shared_prefixes=list(prepared.shares))
        for line in describe_calls(plan, prepared.shares, prepared.setting.sampler):
            opened.say(line)
    workers = 1 if connection is not None else worker_count(prepared.setting, options.workers, pending)
    with progress(opened.console, "Generating", pending) as show:
        recorder = Recorder(folder, show, recorded, options.keep_artefacts, workers)
        how = Options(
            options.batch_size or (None if fills(prepared.setting.device) else FIRST),
            options.keep_artefacts,
            options.checkpoint_every,
            keep_attention=any(needs_attention(metric) for metric in opened.metrics.values()),
        )
        make, setting = MethodMaker(prepared.setting, prepared.methods), prepared.setting
        executor: Executor
        if connection is not None:
            executor = RayExecutor(connection, folder.path, setting, make, how)
        elif workers > 1:
            executor = LocalExecutor(folder.path, setting, make, how, workers)
        else:
            executor = InProcess(Worker(folder, setting, make, how, show, recorder.job))

        def show_row(row: MethodRow) -> None:
            if row_lines is not None:
                opened.score_row(row.label, show)
                for line in row_lines(folder, row.label):
                    show.say(line)

        batch_size, retry = how.batch_size or FIRST, options.retry_errors
        try:
            done = generate(plan, recorder, executor, prepared.shares, batch_size, retry, show_row)
        finally:
            recorder.close()
    if done.samples:
        machines = {} if done.workers == 1 else {"workers": list(done.machines)}
        opened.note(generation=_seconds(done), **machines)
        opened.say(_describe_time(done))
    return done


def _describe_pending(opened: Session, prepared: Prepared, pending: int) -> Iterator[str]:
    """How much is to be generated, what is left out, and which words are unknown, in lines."""
    name = f"{opened.suite.file.name} on {prepared.setting.backbone.name}"
    yield f"{name}: {opened.plan.size} samples, {pending} to generate, in {opened.folder.path}"
    yield from prepared.remarks()


def _seconds(done: Generation) -> dict[str, Any]:
    """The time of the generation, as run.json records it."""
    return {
        "samples": done.samples,
        "workers": done.workers,
        "seconds": done.seconds,
        "loading_seconds": done.spent.loading,
        "customizing_seconds": done.spent.customizing,
        "sampling_seconds": done.spent.sampling,
        "recording_seconds": done.writing,
    }


def _describe_time(done: Generation) -> str:
    """The time of each part, in a sentence; the harness takes what is neither method nor loading."""
    spent, writing = done.spent, f"{1000 * done.writing / done.samples:.1f}"
    parts = f"loading {spent.loading:.1f} s, customization {spent.customizing:.1f} s, sampling {spent.sampling:.1f} s"
    if done.workers > 1:
        return (
            f"{done.samples} samples in {done.seconds:.1f} s on at most {done.workers} workers, in total "
            f"{parts}; {writing} ms per sample for writing"
        )
    working = spent.customizing + spent.sampling
    harness = max(0.0, done.seconds - spent.total)
    since = max(done.seconds - spent.loading, 1e-9)
    return (
        f"{done.samples} samples in {done.seconds:.1f} s: {parts}, {working / since:.1%} of the time after loading; "
        f"the harness took {1000 * harness / done.samples:.1f} ms per sample, {writing} ms of it for writing"
    )


def _describe_shares(done: Generation, seconds: Mapping[str, float]) -> str:
    """The seconds of each part of the command, and the methods' share of them if there is one worker."""
    preparing, generating, scoring = (seconds[part] for part in ("preparing", "generating", "scoring"))
    summary = f"preparation {preparing:.1f} s, generation {generating:.1f} s, scoring {scoring:.1f} s"
    if done.workers > 1:
        return summary
    working = done.spent.customizing + done.spent.sampling
    since = max(generating + scoring - done.spent.loading, 1e-9)
    return f"{summary}: sampling and customization took {working / since:.1%} of the time after loading"


def row_labels(options: RunOptions) -> list[str]:
    """The labels of the rows of such a run, in the order of `RunOptions.rows`."""
    suite, backbone = _read(options)
    setting = setting_of(suite, backbone, _device(options))
    return [
        resolve_method(name, overrides, setting, suite.file.options.get(name))[2].label
        for name, overrides in options.rows()
    ]


def _for_sampling(setting: Setting, compiled: bool) -> Setting:
    """The setting with faster generation; raises UserError for compilation on a CPU."""
    if compiled and not setting.device.startswith("cuda"):
        raise UserError("--compile needs an accelerator, because on a CPU it takes longer than it saves; leave it out.")
    return replace(setting, compiled=COMPILER if compiled else None, remembers_text=True)


def _kernels(folder: Path, setting: Setting, cluster: Cluster | None) -> Kernels:
    """The choice that an earlier command recorded in the run folder, else that for this machine.

    Runs of earlier versions, and workers of a cluster, have the default.
    """
    if (folder / RUN).exists():
        return Kernels(**(RunFolder(folder).settings().get("kernels") or {}))
    return Kernels() if cluster is not None else chosen_kernels(setting)


def _device(options: RunOptions) -> str:
    """The requested device; on a cluster it is the workers' device, which this machine need not have."""
    if options.cluster is not None:
        return ON_CLUSTER if options.cluster.gpus_per_job else "cpu"
    return options.device


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


def setting_of(suite: Suite, backbone: Backbone, device: str) -> Setting:
    """The common setting of all methods of a run; raises UserError for a missing device."""
    resolved = "cuda" if device == ON_CLUSTER else resolve_device(device)
    return Setting(backbone, resolve_sampler(suite, backbone), resolved, backbone.dtype.on(resolved))


def default_folder(suite: Suite, backbone: Backbone) -> Path:
    """The default run folder."""
    name = suite.file.name if suite.file.name == backbone.name else f"{suite.file.name}-{backbone.name}"
    return Path("runs") / name
