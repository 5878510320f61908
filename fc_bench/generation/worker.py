"""A worker, which executes units with one loaded method at a time, and the executor in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fc_bench.errors import Failure, UserError, raise_if_disk_refuses
from fc_bench.generation.batch_size import AcceleratorMemory, DeviceMemory, Filling, fills
from fc_bench.generation.batches import Batches, free_memory
from fc_bench.generation.customizer import Customizer
from fc_bench.generation.executor import (
    Event,
    JobDone,
    JobFailed,
    Loaded,
    Made,
    Options,
    RowFailed,
    Same,
    Spent,
    UnitDone,
)
from fc_bench.generation.peak_memory import PeakMemory
from fc_bench.generation.plan import Job, MethodRow, Sample
from fc_bench.generation.prefetch import ahead
from fc_bench.generation.shared_prefixes import PrefixStore, UnitPrefixes
from fc_bench.generation.units import Pending, Unit
from fc_bench.model.errors import ModelInputError
from fc_bench.progress import Progress
from fc_bench.protocols import Customization, Method, Request, Setting, fill
from fc_bench.run_folder.provenance import hardware
from fc_bench.run_folder.records import RunFolder, png_of

MakeMethod = Callable[[MethodRow], Method]


class Worker:
    """Executes units one after the other and keeps the method of the last one loaded.

    `record` receives lines for jobs.jsonl immediately. `memory` is the memory that batches fill if no size is given
    (None: the accelerator's).
    """

    def __init__(
        self,
        folder: RunFolder,
        setting: Setting,
        make_method: MakeMethod,
        options: Options,
        show: Progress,
        record: Callable[[Mapping[str, Any]], None],
        memory: DeviceMemory | None = None,
    ) -> None:
        self._folder, self._setting, self._make_method = folder, setting, make_method
        self._options, self._show, self._record = options, show, record
        self._loaded: tuple[MethodRow, Method, Customizer] | None = None
        self._refused: dict[str, RowFailed] = {}
        self._prefixes, self._machine = PrefixStore(), hardware()
        self._memory = memory or AcceleratorMemory(setting.device)
        self._filling: Filling | None = None

    def work(self, unit: Unit) -> Iterator[Event]:
        """The events of the unit; on an accelerator the next batch is sampled while the last images are encoded."""
        events = self._events(unit)
        for event in ahead(events) if fills(self._setting.device) else events:
            yield _encoded(event)

    def _events(self, unit: Unit) -> Iterator[Event]:
        """The events of the unit, with images that are not encoded yet."""
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
        tried = self._filling.seconds if self._filling else 0.0
        customizing, sampling, images = customizer.seconds, 0.0, dict(unit.images)
        prefixes = self._prefixes.serving(method, unit)
        for number, pending in enumerate(unit.jobs, start=1):
            if prefixes is not None:
                prefixes.jobs_left = len(unit.jobs) - number
            sampling += yield from self._job(method, customizer, pending, images, prefixes)
        if not unit.later:
            self._prefixes.drop(unit.company)
        loading += self._filling.seconds - tried if self._filling else 0.0
        yield UnitDone(Spent(loading, customizer.seconds - customizing, sampling))

    def release(self) -> None:
        """Release the loaded method."""
        if self._loaded is not None:
            self._loaded = None
            free_memory()

    def _load(self, unit: Unit) -> tuple[Method, Customizer] | RowFailed:
        """The unit's method, or its failure; an error that the user can fix is raised."""
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
        self._filling = None
        if self._options.batch_size is None:
            self._filling = Filling(self._memory, self._setting.sampler.resolution)
        return method, customizer

    def _job(
        self,
        method: Method,
        customizer: Customizer,
        pending: Pending,
        images: dict[str, str],
        prefixes: UnitPrefixes | None,
    ) -> Iterator[Any]:
        """The events of a job; returns the seconds of sampling. `images` collects finished samples."""
        job, wanted, key = pending.job, pending.wanted, pending.job.subject_set.key
        try:
            mentions = [method.mention(subject, place) for place, subject in enumerate(job.subject_set.subjects)]
        except Exception as error:
            yield JobFailed(key, customizer.refuse(job, error), None)
            return 0.0
        computed, copied = _split(job, images)
        if self._filling is not None:  # batches are no given ones that had to be made as a whole again
            computed = [sample for sample in computed if sample.id in wanted]
        seconds = 0.0
        if any(sample.id in wanted for sample in computed):
            customized = customizer.customize(job)
            if isinstance(customized, Failure):
                yield JobFailed(key, customized, mentions)
                return 0.0
            requests = [_request(sample, mentions) for sample in computed]
            batches = self._batches(method, customized, prefixes, requests)
            size = batches.most
            for start in range(0, len(computed), size):
                chunk = computed[start : start + size]
                if not any(sample.id in wanted for sample in chunk):
                    continue
                made = batches.generate(requests[start : start + size])
                for sample, generated in zip(chunk, made, strict=True):
                    if sample.id in wanted:
                        if generated.image is not None:
                            images.setdefault(sample.shared_key, sample.id)
                        yield Made(sample, mentions, generated, None)
            seconds = batches.seconds
            if self._filling is not None:
                self._filling.ran_out(batches.most)
        for sample in copied:
            if sample.id in wanted:
                yield Same(sample, mentions)
        yield JobDone(key, customizer.apart)
        return seconds

    def _batches(
        self,
        method: Method,
        customized: Customization,
        prefixes: UnitPrefixes | None,
        requests: Sequence[Request],
    ) -> Batches:
        """The batches of a job: of the given size, or as large as the memory allows."""
        device, size, attention = self._setting.device, self._options.batch_size, self._options.keep_attention
        if self._filling is None:
            assert size is not None
            return Batches(method, customized, device, size, attention, prefixes)

        def make(count: int) -> None:
            Batches(method, customized, device, count, attention, halvings=count).generate(requests[:count])
            free_memory()

        size = self._filling.size(len(requests), make)
        return Batches(method, customized, device, size, attention, prefixes, halvings=size)


def _encoded(event: Event) -> Event:
    """An image as the content of its file."""
    if not isinstance(event, Made) or event.generated.image is None:
        return event
    return replace(event, generated=replace(event.generated, image=None), png=png_of(event.generated.image))


class InProcess:
    """The executor in this process: units one after the other."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def workers(self) -> int:
        """One unit at a time."""
        return 1

    def events(self, units: Iterable[Unit], current: Callable[[Unit], Unit]) -> Iterator[tuple[Unit, Event]]:
        """The events of the units, in their order."""
        try:
            for unit in units:
                for event in self._worker.work(current(unit)):
                    yield unit, event
        finally:
            self._worker.release()


def _request(sample: Sample, mentions: Sequence[str]) -> Request:
    assert sample.seed is not None
    return Request(fill(sample.template, mentions), sample.prompt, sample.seed, sample.conditions)


def _split(job: Job, images: Mapping[str, str]) -> tuple[list[Sample], list[Sample]]:
    """The job's samples that must be computed, and those that share the image of another sample."""
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
