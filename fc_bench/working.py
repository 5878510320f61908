"""Doing units: one worker with one method loaded at a time, wherever it runs, and the executor that is this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fc_bench.batches import Batches, free_memory
from fc_bench.customizing import Customizer
from fc_bench.errors import Failure, UserError, raise_if_disk_refuses
from fc_bench.executing import (
    Event,
    JobDone,
    JobFailed,
    Loaded,
    Made,
    Options,
    Pending,
    RowFailed,
    Same,
    Spent,
    Unit,
    UnitDone,
)
from fc_bench.memory import PeakMemory
from fc_bench.model.errors import ModelInputError
from fc_bench.plan import Job, MethodRow, Sample
from fc_bench.prefixes import PrefixStore, UnitPrefixes
from fc_bench.progress import Progress
from fc_bench.protocols import Customization, Method, Request, Setting, fill
from fc_bench.provenance import hardware
from fc_bench.records import RunFolder, png_of

MakeMethod = Callable[[MethodRow], Method]


class Worker:
    """Does units one after the other and keeps the method of the last one loaded.

    `record` takes lines for jobs.jsonl as soon as they are due.
    """

    def __init__(
        self,
        folder: RunFolder,
        setting: Setting,
        make_method: MakeMethod,
        options: Options,
        show: Progress,
        record: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._folder, self._setting, self._make_method = folder, setting, make_method
        self._options, self._show, self._record = options, show, record
        self._loaded: tuple[MethodRow, Method, Customizer] | None = None
        self._refused: dict[str, RowFailed] = {}
        self._prefixes, self._machine = PrefixStore(), hardware()

    def work(self, unit: Unit) -> Iterator[Event]:
        """What comes of the unit."""
        begun = time.perf_counter()
        loaded = self._load(unit)
        loading = time.perf_counter() - begun
        if isinstance(loaded, RowFailed):
            yield loaded
            yield UnitDone(Spent(loading=loading))
            return
        method, customizer = loaded
        customizer.know(unit.customized)
        yield Loaded(customizer.apart, self._machine)
        customizing, sampling, images = customizer.seconds, 0.0, dict(unit.images)
        prefixes = self._prefixes.serving(method, unit)
        for number, pending in enumerate(unit.jobs, start=1):
            if prefixes is not None:
                prefixes.jobs_left = len(unit.jobs) - number
            sampling += yield from self._job(method, customizer, pending, images, prefixes)
        if not unit.later:
            self._prefixes.drop(unit.company)
        yield UnitDone(Spent(loading, customizer.seconds - customizing, sampling))

    def release(self) -> None:
        """Let go of the method that is loaded."""
        if self._loaded is not None:
            self._loaded = None
            free_memory()

    def _load(self, unit: Unit) -> tuple[Method, Customizer] | RowFailed:
        """The unit's method, or why it could not be loaded; what the user can put right goes up."""
        if self._loaded is not None and self._loaded[0] == unit.row:
            return self._loaded[1:]
        if unit.row.label in self._refused:
            return self._refused[unit.row.label]
        self.release()
        begun = time.perf_counter()
        method: Method | Failure
        with PeakMemory(self._setting.device) as memory:
            try:
                method = self._make_method(unit.row)
            except (UserError, ModelInputError):
                raise
            except Exception as error:
                raise_if_disk_refuses(error)
                method = Failure.of(error)
        load = {"load_seconds": time.perf_counter() - begun, "load_peak_memory_bytes": memory.bytes}
        if isinstance(method, Failure):
            self._refused[unit.row.label] = RowFailed(method, load)
            return self._refused[unit.row.label]
        customizer = Customizer(
            method,
            unit.row,
            self._folder,
            self._record,
            {},
            self._setting.device,
            load,
            self._show,
            self._options.keep_artefacts,
            self._options.checkpoint_every,
        )
        self._loaded = unit.row, method, customizer
        return method, customizer

    def _job(
        self,
        method: Method,
        customizer: Customizer,
        pending: Pending,
        images: dict[str, str],
        prefixes: UnitPrefixes | None,
    ) -> Iterator[Any]:
        """The events of a job, returning the seconds of sampling; `images` learns what is finished."""
        job, wanted, key = pending.job, pending.wanted, pending.job.subject_set.key
        try:
            mentions = [method.mention(subject, place) for place, subject in enumerate(job.subject_set.subjects)]
        except Exception as error:
            yield JobFailed(key, customizer.refuse(job, error), None)
            return 0.0
        size = self._options.batch_size
        computed, copied = _split(job, images)
        chunks = [computed[start : start + size] for start in range(0, len(computed), size)]
        chunks = [chunk for chunk in chunks if any(sample.id in wanted for sample in chunk)]
        seconds = 0.0
        if chunks:
            customized = customizer.customize(job)
            if isinstance(customized, Failure):
                yield JobFailed(key, customized, mentions)
                return 0.0
            batches = self._batches(method, customized, prefixes)
            for chunk in chunks:
                requests = [_request(sample, mentions) for sample in chunk]
                for sample, generated in zip(chunk, batches.generate(requests), strict=True):
                    if sample.id in wanted:
                        png = None if generated.image is None else png_of(generated.image)
                        if png is not None:
                            images.setdefault(sample.shared_key, sample.id)
                        yield Made(sample, mentions, replace(generated, image=None), png)
            seconds = batches.seconds
        for sample in copied:
            if sample.id in wanted:
                yield Same(sample, mentions)
        yield JobDone(key, customizer.apart)
        return seconds

    def _batches(self, method: Method, customized: Customization, prefixes: UnitPrefixes | None) -> Batches:
        options = self._options
        return Batches(method, customized, self._setting.device, options.batch_size, options.keep_attention, prefixes)


class InProcess:
    """The executor that is this process: units one after the other."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def workers(self) -> int:
        """One."""
        return 1

    def events(self, units: Iterable[Unit], current: Callable[[Unit], Unit]) -> Iterator[tuple[Unit, Event]]:
        """What comes of the units, in their order."""
        try:
            for unit in units:
                for event in self._worker.work(current(unit)):
                    yield unit, event
        finally:
            self._worker.release()


def _request(sample: Sample, mentions: Sequence[str]) -> Request:
    assert sample.seed is not None
    return Request(fill(sample.template, mentions), sample.prompt, sample.seed)


def _split(job: Job, images: Mapping[str, str]) -> tuple[list[Sample], list[Sample]]:
    """The job's samples that it computes itself, and those whose image an earlier sample already is."""
    computed: list[Sample] = []
    copied: list[Sample] = []
    own, own_keys = set(job.ids), set[str]()
    for sample in job.samples:
        origin = images.get(sample.shared_key)
        elsewhere = origin is not None and origin not in own
        if elsewhere or sample.shared_key in own_keys:
            copied.append(sample)
        else:
            computed.append(sample)
            own_keys.add(sample.shared_key)
    return computed, copied
