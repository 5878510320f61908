"""Runs every pending job of a plan on an executor and records the results sample by sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fc_bench.errors import Failure
from fc_bench.generation.customizer import job_record, release, remove_finished
from fc_bench.generation.executor import (
    Customized,
    Event,
    Executor,
    JobDone,
    JobFailed,
    Loaded,
    Made,
    RowFailed,
    Same,
    Spent,
    UnitDone,
)
from fc_bench.generation.plan import Job, MethodRow, Plan, Sample
from fc_bench.generation.shared_prefixes import company_of
from fc_bench.generation.units import Pending, Unit
from fc_bench.progress import Progress
from fc_bench.protocols import fill
from fc_bench.run_folder.json_lines import LineWriter, stream_fields
from fc_bench.run_folder.provenance import now
from fc_bench.run_folder.record_shapes import Planned, Sampled
from fc_bench.run_folder.records import JOBS, PLAN, SAMPLES, RunFolder, write_atomically, write_maps


@dataclass(frozen=True)
class Generation:
    """What generation took: seconds of the command, of all workers together, and for writing; `samples` were finished.

    `workers` units ran at a time, on these `machines`. `seconds` do not include the `rows_seconds` of the work on
    finished rows.
    """

    seconds: float
    rows_seconds: float
    spent: Spent
    writing: float
    samples: int
    workers: int
    machines: tuple[Mapping[str, Any], ...]


class Recorder:
    """The only writer of a run's samples and jobs, and what a command knows of them.

    `recorded` maps the ids of all recorded samples to their status. If several `workers` share the machine, every
    record with seconds has their number.
    """

    def __init__(
        self,
        folder: RunFolder,
        show: Progress,
        recorded: Mapping[str, str],
        keep_artefacts: bool,
        workers: int = 1,
    ) -> None:
        self.folder, self.show, self.recorded = folder, show, recorded
        self._company = {"workers": workers} if workers > 1 else {}
        self.keep_artefacts = keep_artefacts
        self.customized = folder.jobs()
        """The last record of each job by row label and subject set."""
        self.samples = _Writer(folder, show, recorded, self._company)
        self._jobs = LineWriter(folder.path / JOBS)

    def close(self) -> None:
        """Close the files."""
        self.samples.close()
        self._jobs.close()

    def job(self, record: Mapping[str, Any]) -> None:
        """Append the record of a customization."""
        record = {**record, **self._company}
        self._jobs.append(record)
        self.customized[record["method"], record["set"]] = dict(record)

    def current(self, unit: Unit) -> Unit:
        """A unit as it should start now."""
        sets = {(part.row.label, part.subject_set.key) for item in unit.jobs for part in (item.job, *item.job.parts)}
        images = self.samples.images.get(unit.row.label, {})
        keys = {sample.shared_key for item in unit.jobs for sample in item.job.samples} if images else set[str]()
        return replace(
            unit,
            images={key: images[key]["id"] for key in keys & images.keys()},
            customized={key: self.customized[key] for key in sets & self.customized.keys()},
        )

    def take(self, unit: Unit, event: Event) -> None:
        """Record an event."""
        if isinstance(event, Made):
            self.samples.sample(unit.row, event)
        elif isinstance(event, Same):
            self.samples.copy(event.sample, event.mentions)
        elif isinstance(event, Customized):
            known = self.customized.get((event.record["method"], event.record["set"]), {})
            if not (unit.part and known.get("status") == "ok"):  # of a job in parts one customization is recorded
                self.job(event.record)
        elif isinstance(event, JobFailed):
            pending = unit.pending(event.job)
            self.samples.failed(_chosen(pending), event.failure, event.mentions)
            self.show.say(f"{unit.row.label} {event.job}: {event.failure.message} ({_costs(len(pending.wanted))})")
        elif isinstance(event, JobDone):
            kept = self.customized.get((unit.row.label, event.job), {}).get("kept")
            if not (event.apart or kept) and event.job not in self.samples.unfinished(unit.row):
                release(self.folder, unit.row, event.job)
        elif isinstance(event, RowFailed):
            for pending in unit.jobs:
                self.job(job_record(pending.job, event.load, event.failure.record()))
                self.samples.failed(_chosen(pending), event.failure, None)

    def remove_finished(self, row: MethodRow) -> None:
        """Remove the row's artefacts that are no longer needed, unless all are kept."""
        if not self.keep_artefacts:
            remove_finished(self.folder, row, self.samples.unfinished(row))


def generate(
    plan: Plan,
    recorder: Recorder,
    executor: Executor,
    shares: Mapping[str, int],
    batch_size: int,
    retry_errors: bool = False,
    on_finished_row: Callable[[MethodRow], None] = lambda row: None,
) -> Generation:
    """Generate every planned sample that is not recorded yet, and record it.

    `on_finished_row` is called when the last sample of a row is recorded. `shares` maps the labels of rows that share
    prefixes to the number of shared iterations. An exception in a job or sample is recorded with its traceback, and the
    rest continues. A full disk ends the run (OSError). Artefacts are removed when all samples that need them exist.
    Batches are formed from the whole job, and an unfinished batch is generated again as a whole, so that an interrupted
    run computes the same numbers as an uninterrupted one.
    """
    begun, writing, on_rows, spent, samples = time.perf_counter(), 0.0, 0.0, Spent(), 0
    rows = {job.row.label: job.row for job in plan.jobs}
    left = dict.fromkeys(rows, 0)
    lost: dict[str, tuple[Failure, int]] = {}
    machines: list[Mapping[str, Any]] = []
    for job in plan.jobs:
        left[job.row.label] += len(pending_ids(job, recorder.recorded, retry_errors))
    for label in [label for label in rows if not left[label]]:
        recorder.remove_finished(rows[label])
        del left[label]
    if not left:
        return Generation(time.perf_counter() - begun, on_rows, spent, writing, samples, 0, ())
    workers = executor.workers()
    units = pending_units(plan, recorder, shares, retry_errors, batch_size, workers)
    for unit, event in executor.events(units, recorder.current):
        arrived, label = time.perf_counter(), unit.row.label
        recorder.take(unit, event)
        if isinstance(event, (Made, Same)):
            samples += 1
            left[label] -= 1
        elif isinstance(event, Loaded) and event.machine not in machines:
            machines.append(event.machine)
        elif isinstance(event, JobFailed):
            left[label] -= len(unit.pending(event.job).wanted)
        elif isinstance(event, RowFailed):
            left[label] -= unit.size
            lost[label] = event.failure, lost.get(label, (event.failure, 0))[1] + unit.size
        elif isinstance(event, UnitDone):
            spent += event.spent
        writing += time.perf_counter() - arrived
        if isinstance(event, UnitDone) and left.get(label) == 0:
            del left[label]
            recorded = time.perf_counter()
            _finish_row(recorder, rows[label], lost.get(label))
            on_finished_row(rows[label])
            on_rows += time.perf_counter() - recorded
    seconds = time.perf_counter() - begun - on_rows
    return Generation(seconds, on_rows, spent, writing, samples, workers, tuple(machines))


def _finish_row(recorder: Recorder, row: MethodRow, lost: tuple[Failure, int] | None) -> None:
    """A row is complete; `lost` is the reason if its method could not be loaded, with the samples it costs."""
    if lost is not None:
        failure, samples = lost
        recorder.show.say(f"{row.label}: {failure.message} ({_costs(samples)})")
    recorder.remove_finished(row)
    recorder.samples.forget_images(row.label)


def pending_units(
    plan: Plan,
    recorder: Recorder,
    shares: Mapping[str, int],
    retry_errors: bool = False,
    batch_size: int = 1,
    workers: int = 1,
) -> Iterator[Unit]:
    """The pending jobs, row by row; jobs that share computations follow one another.

    Rows without training steps come first, because they are finished soonest. If a row has fewer units than there are
    workers, jobs that share prefixes are split between their batches.
    """
    rows: dict[str, list[tuple[Job, str | None]]] = {}
    for job in plan.jobs:
        sharing = company_of(job, True) if job.row.label in shares else None
        rows.setdefault(job.row.label, []).append((job, sharing))
    companies = {label: {company for _, company in rows.get(label, ())} for label in shares}
    labels = sorted(rows, key=lambda label: "steps" in rows[label][0][0].row.options)
    for place, label in enumerate(labels):
        groups: dict[str, list[Pending]] = {}
        for job, sharing in rows[label]:
            wanted = frozenset(pending_ids(job, recorder.recorded, retry_errors))
            if wanted:
                groups.setdefault(sharing or company_of(job, False), []).append(Pending(job, wanted))
        recorder.samples.look_up_images(label, [pending.job for group in groups.values() for pending in group])
        parts = -(-workers // max(len(companies[label]), 1)) if label in shares else 1
        for company, group in groups.items():
            later = [shares[other] for other in labels[place + 1 :] if other in shares and company in companies[other]]
            whole = Unit(group[0].job.row, tuple(group), company, shares.get(label), tuple(later))
            yield from _cut(whole, parts, batch_size) if parts > 1 else (whole,)


def _cut(unit: Unit, parts: int, batch_size: int) -> Iterator[Unit]:
    """A unit in at most `parts` parts, each with some batches of every job: the same ones, which share prefixes."""
    batches = -(-max(len(pending.job.samples) for pending in unit.jobs) // batch_size)
    size = -(-batches // parts) * batch_size
    for number, start in enumerate(range(0, batches * batch_size, size), start=1):
        jobs = [replace(each, wanted=each.wanted & set(each.job.ids[start : start + size])) for each in unit.jobs]
        some = tuple(each for each in jobs if each.wanted)
        if some:
            yield replace(unit, jobs=some, company=f"{unit.company}/{number}", part=number)


def pending_ids(job: Job, recorded: Mapping[str, str], retry_errors: bool = False) -> set[str]:
    """The samples of a job that are to be generated, given the statuses of all recorded ones."""
    return {name for name in job.ids if recorded.get(name) is None or (retry_errors and recorded[name] != "ok")}


def _chosen(pending: Pending) -> list[Sample]:
    return [sample for sample in pending.job.samples if sample.id in pending.wanted]


def finished_images(folder: RunFolder, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """Images that these jobs' samples may share: shared key -> the first finished sample with that key."""
    keys = {sample.shared_key for job in jobs for sample in job.samples}
    images: dict[str, dict[str, Any]] = {}
    for one in stream_fields(folder.path / SAMPLES, Sampled):
        if one.status == "ok" and one.shared_key in keys:
            watched = {} if one.attention is None else {"attention": one.attention}
            images.setdefault(one.shared_key, {"id": one.id, "image": one.image, **watched})
    return images


def _origin(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a sample that a copy of its image needs."""
    return {key: record[key] for key in ("id", "image", "attention") if key in record}


class _Writer:
    """Writes the images and sample records of one run."""

    def __init__(
        self, folder: RunFolder, show: Progress, recorded: Mapping[str, str], company: Mapping[str, int]
    ) -> None:
        self._folder, self._show, self._company = folder, show, company
        self.images: dict[str, dict[str, dict[str, Any]]] = {}
        """Row label -> shared key -> the first finished sample with that key."""
        self._samples = LineWriter(folder.path / SAMPLES)
        self._unfinished: dict[str, dict[str, set[str]]] = {}
        """Method -> subject set -> ids of its missing samples."""
        for one in stream_fields(folder.path / PLAN, Planned):
            if recorded.get(one.id) != "ok":
                sets = self._unfinished.setdefault(one.method, {})
                sets.setdefault("+".join(one.subjects), set()).add(one.id)

    def close(self) -> None:
        self._samples.close()

    def unfinished(self, row: MethodRow) -> Collection[str]:
        """Keys of the method's subject sets with missing samples, of this or an earlier command's plan."""
        return self._unfinished.get(row.label, {}).keys()

    def look_up_images(self, label: str, jobs: Sequence[Job]) -> None:
        """Find the finished samples whose images these jobs of a row may share."""
        self.images[label] = finished_images(self._folder, jobs) if jobs else {}

    def forget_images(self, label: str) -> None:
        """The row is complete."""
        self.images.pop(label, None)

    def sample(self, row: MethodRow, made: Made) -> None:
        """Write the image first, then the record, so that a record always has its image."""
        sample, generated = made.sample, made.generated
        record = _sample_record(sample, made.mentions)
        if made.png is None:
            assert generated.failure is not None
            record |= generated.failure.record()
        else:
            place = f"{row.folder}/{'+'.join(sample.subjects)}/{sample.id}"
            name = f"images/{place}.png"
            write_atomically(self._folder.path / name, made.png)
            record |= {
                "status": "ok",
                "image": name,
                "seconds": generated.seconds,
                "batch": generated.batch,
                "peak_memory_bytes": generated.peak_memory,
                **self._company,
            }
            if generated.prefix is not None:
                record["shared_prefix"] = asdict(generated.prefix)
            if generated.attention is not None:
                record["attention"] = f"attention/{place}.npz"
                write_maps(self._folder.path / record["attention"], generated.attention)
        self._finish(record, say=True)
        if record["status"] == "ok":
            self.images.setdefault(row.label, {}).setdefault(sample.shared_key, _origin(record))

    def copy(self, sample: Sample, mentions: Sequence[str]) -> None:
        """Record a sample whose image must equal an existing one: the same file and no seconds."""
        record, origin = _sample_record(sample, mentions), self.images[sample.method].get(sample.shared_key)
        if origin is None:
            record |= Failure.of(RuntimeError("the sample whose image this one shares has failed")).record()
        else:
            record |= {"status": "ok", "image": origin["image"], "seconds": None, "same_image_as": origin["id"]}
            if "attention" in origin:
                record["attention"] = origin["attention"]
        self._finish(record, say=True)

    def failed(self, missing: Sequence[Sample], failure: Failure, mentions: Sequence[str] | None) -> None:
        """Record the samples of a failed job; the reason is printed once."""
        for sample in missing:
            self._finish(_sample_record(sample, mentions) | failure.record(), say=False)

    def _finish(self, record: dict[str, Any], say: bool) -> None:
        record["finished"] = now()
        self._samples.append(record)
        key = "+".join(record["subjects"])
        if record["status"] == "ok":
            self._is_there(record["method"], key, record["id"])
        elif say:
            self._show.say(f"{record['method']} {key}: {record['error']['message']}")
        self._show.advance()

    def _is_there(self, method: str, key: str, name: str) -> None:
        """One more sample of a subject set is finished."""
        sets = self._unfinished.get(method, {})
        missing = sets.get(key, set())
        missing.discard(name)
        if not missing:
            sets.pop(key, None)


def _sample_record(sample: Sample, mentions: Sequence[str] | None) -> dict[str, Any]:
    generated = fill(sample.template, mentions) if mentions is not None else None
    return {**sample.record(), "generated_prompt": generated}


def _costs(samples: int) -> str:
    return f"costs {samples} sample{'s' if samples != 1 else ''}"
