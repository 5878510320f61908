"""Generating: every pending job of a plan, recorded sample by sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fc_bench.batches import Batches, Generated, free_memory
from fc_bench.customizing import Customizer, job_record, remove_finished
from fc_bench.errors import Failure, UserError, raise_if_disk_refuses
from fc_bench.memory import PeakMemory
from fc_bench.model.errors import ModelInputError
from fc_bench.plan import Job, MethodRow, Plan, Sample
from fc_bench.progress import Progress
from fc_bench.protocols import Method, Request, Setting, fill
from fc_bench.provenance import now
from fc_bench.records import JOBS, PLAN, SAMPLES, LineWriter, RunFolder, stream_lines, write_maps, write_png

MakeMethod = Callable[[MethodRow], Method]


def generate(
    plan: Plan,
    folder: RunFolder,
    setting: Setting,
    make_method: MakeMethod,
    show: Progress,
    recorded: Mapping[str, str],
    batch_size: int = 8,
    retry_errors: bool = False,
    keep_artefacts: bool = False,
    checkpoint_every: int | None = None,
    keep_attention: bool = False,
) -> None:
    """Customize and generate for every planned sample that is not among the recorded ones (id -> status).

    An exception in a job or sample is recorded with its traceback and the rest goes on, except for a disk that takes no
    more, which ends the run (OSError). Artefacts go when the samples they serve are all there. Batches are formed from
    the whole job whatever is already done, and a batch begun is generated as a whole again, so that an interrupted run
    and an uninterrupted one compute the same numbers. With `keep_attention`, methods that are `ShowsAttention` are
    asked for it, and their maps are kept beside the images.
    """
    writer = _Writer(folder, setting, show, recorded)
    job_lines = LineWriter(folder.path / JOBS)
    try:
        for row, jobs in _by_row(plan):
            asked = [(job, pending_ids(job, recorded, retry_errors)) for job in jobs]
            pending = [(job, wanted) for job, wanted in asked if wanted]
            if not pending:
                if not keep_artefacts:
                    remove_finished(folder, row, writer.unfinished(row))
                continue
            begun = time.perf_counter()
            with PeakMemory(setting.device) as memory:
                method = _load(make_method, row)
            load = {"load_seconds": time.perf_counter() - begun, "load_peak_memory_bytes": memory.bytes}
            if isinstance(method, Failure):
                show.say(f"{row.label}: {method.message} ({_costs(sum(len(wanted) for _, wanted in pending))})")
                for job, wanted in pending:
                    job_lines.append(job_record(job, load, method.record()))
                    writer.failed(_chosen(job, wanted), method, None)
                continue
            images = _finished_images(folder, [job for job, _ in pending])
            customizer = Customizer(
                method, row, folder, job_lines, setting.device, load, show, keep_artefacts, checkpoint_every
            )
            for job, wanted in pending:
                failure = _run_job(method, customizer, job, wanted, images, writer, batch_size, keep_attention)
                if failure is not None:
                    show.say(f"{row.label} {job.subject_set.key}: {failure.message} ({_costs(len(wanted))})")
            if not keep_artefacts:
                remove_finished(folder, row, writer.unfinished(row))
            del method, customizer
            free_memory()
    finally:
        writer.close()
        job_lines.close()


def pending_ids(job: Job, recorded: Mapping[str, str], retry_errors: bool = False) -> set[str]:
    """The samples of a job that are to be generated, given the statuses of all recorded ones."""
    return {name for name in job.ids if recorded.get(name) is None or (retry_errors and recorded[name] != "ok")}


def _chosen(job: Job, wanted: Collection[str]) -> list[Sample]:
    return [sample for sample in job.samples if sample.id in wanted]


def _finished_images(folder: RunFolder, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """What these jobs' samples may share: key -> where the image lies that the first finished sample with it has."""
    keys = {sample.shared_key for job in jobs for sample in job.samples}
    images: dict[str, dict[str, Any]] = {}
    for record in stream_lines(folder.path / SAMPLES):
        if record["status"] == "ok" and record["shared_key"] in keys:
            images.setdefault(record["shared_key"], _origin(record))
    return images


def _origin(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a copy needs to know of the sample whose image it shares."""
    return {key: record[key] for key in ("id", "image", "attention") if key in record}


def _run_job(
    method: Method,
    customizer: Customizer,
    job: Job,
    wanted: Collection[str],
    images: dict[str, dict[str, Any]],
    writer: _Writer,
    batch_size: int,
    keep_attention: bool,
) -> Failure | None:
    """Finish the job's wanted samples; why they all failed, where the job did."""
    subjects = job.subject_set.subjects
    try:
        mentions = [method.mention(subject, position) for position, subject in enumerate(subjects)]
    except Exception as error:
        failure = customizer.refuse(job, error)
        writer.failed(_chosen(job, wanted), failure, None)
        return failure
    computed, copied = _split(job, images)
    chunks = [computed[start : start + batch_size] for start in range(0, len(computed), batch_size)]
    chunks = [chunk for chunk in chunks if any(sample.id in wanted for sample in chunk)]
    if chunks:
        customized = customizer.customize(job)
        if isinstance(customized, Failure):
            writer.failed(_chosen(job, wanted), customized, mentions)
            return customized
        batches = Batches(method, customized, writer.device, batch_size, keep_attention)
        for chunk in chunks:
            requests = [_request(sample, mentions) for sample in chunk]
            for sample, generated in zip(chunk, batches.generate(requests), strict=True):
                if sample.id in wanted:
                    record = writer.sample(job, sample, mentions, generated)
                    if record["status"] == "ok":
                        images.setdefault(sample.shared_key, _origin(record))
    for sample in copied:
        if sample.id in wanted:
            writer.copy(sample, mentions, images.get(sample.shared_key))
    if job.subject_set.key not in writer.unfinished(job.row):
        customizer.release(job)
    return None


def _request(sample: Sample, mentions: Sequence[str]) -> Request:
    assert sample.seed is not None
    return Request(fill(sample.template, mentions), sample.prompt, sample.seed)


def _split(job: Job, images: Mapping[str, Mapping[str, Any]]) -> tuple[list[Sample], list[Sample]]:
    """The job's samples that it computes itself, and those whose image an earlier sample already is."""
    computed: list[Sample] = []
    copied: list[Sample] = []
    own, own_keys = set(job.ids), set[str]()
    for sample in job.samples:
        origin = images.get(sample.shared_key)
        elsewhere = origin is not None and origin["id"] not in own
        if elsewhere or sample.shared_key in own_keys:
            copied.append(sample)
        else:
            computed.append(sample)
            own_keys.add(sample.shared_key)
    return computed, copied


class _Writer:
    """Writes the images and sample records of one run."""

    def __init__(self, folder: RunFolder, setting: Setting, show: Progress, recorded: Mapping[str, str]) -> None:
        self._folder = folder
        self.device = setting.device
        self._show = show
        self._samples = LineWriter(folder.path / SAMPLES)
        self._unfinished: dict[str, dict[str, set[str]]] = {}
        """Method -> subject set -> ids of its samples that are not there."""
        for sample in stream_lines(folder.path / PLAN):
            if recorded.get(sample["id"]) != "ok":
                sets = self._unfinished.setdefault(sample["method"], {})
                sets.setdefault("+".join(sample["subjects"]), set()).add(sample["id"])

    def close(self) -> None:
        self._samples.close()

    def unfinished(self, row: MethodRow) -> Collection[str]:
        """Keys of the method's subject sets with samples, of this or an earlier command's plan, that are not there."""
        return self._unfinished.get(row.label, {}).keys()

    def sample(self, job: Job, sample: Sample, mentions: Sequence[str], generated: Generated) -> dict[str, Any]:
        """Image first, record after: a record never points at nothing."""
        record = _sample_record(sample, mentions)
        if generated.image is None:
            assert generated.failure is not None
            record |= generated.failure.record()
        else:
            name = f"images/{job.row.folder}/{job.subject_set.key}/{sample.id}.png"
            write_png(self._folder.path / name, generated.image)
            record |= {
                "status": "ok",
                "image": name,
                "seconds": generated.seconds,
                "batch": generated.batch,
                "peak_memory_bytes": generated.peak_memory,
            }
            if generated.attention is not None:
                record["attention"] = f"attention/{job.row.folder}/{job.subject_set.key}/{sample.id}.npz"
                write_maps(self._folder.path / record["attention"], generated.attention)
        return self._finish(record, say=True)

    def copy(self, sample: Sample, mentions: Sequence[str], origin: Mapping[str, Any] | None) -> None:
        """A sample whose image must equal one that exists: the same file, no time of its own."""
        record = _sample_record(sample, mentions)
        if origin is None:
            record |= Failure.of(RuntimeError("the sample whose image this one shares has failed")).record()
        else:
            record |= {"status": "ok", "image": origin["image"], "seconds": None, "same_image_as": origin["id"]}
            if "attention" in origin:
                record["attention"] = origin["attention"]
        self._finish(record, say=True)

    def failed(self, missing: Sequence[Sample], failure: Failure, mentions: Sequence[str] | None) -> None:
        """Samples whose job failed; the reason is said once, for all of them."""
        for sample in missing:
            self._finish(_sample_record(sample, mentions) | failure.record(), say=False)

    def _finish(self, record: dict[str, Any], say: bool) -> dict[str, Any]:
        record["finished"] = now()
        self._samples.append(record)
        key = "+".join(record["subjects"])
        if record["status"] == "ok":
            self._is_there(record["method"], key, record["id"])
        elif say:
            self._show.say(f"{record['method']} {key}: {record['error']['message']}")
        self._show.advance()
        return record

    def _is_there(self, method: str, key: str, name: str) -> None:
        """One more sample of a subject set is finished."""
        sets = self._unfinished.get(method, {})
        missing = sets.get(key, set())
        missing.discard(name)
        if not missing:
            sets.pop(key, None)


def _sample_record(sample: Sample, mentions: Sequence[str] | None) -> dict[str, Any]:
    generated = fill(sample.template, mentions) if mentions is not None else None
    return {**asdict(sample), "subjects": list(sample.subjects), "generated_prompt": generated}


def _load(make_method: MakeMethod, row: MethodRow) -> Method | Failure:
    """The method, or why it could not be loaded; what the user can put right before anything runs goes up."""
    try:
        return make_method(row)
    except (UserError, ModelInputError):
        raise
    except Exception as error:
        raise_if_disk_refuses(error)
        return Failure.of(error)


def _costs(samples: int) -> str:
    return f"costs {samples} sample{'s' if samples != 1 else ''}"


def _by_row(plan: Plan) -> Iterator[tuple[MethodRow, list[Job]]]:
    for label in dict.fromkeys(job.row.label for job in plan.jobs):
        jobs = [job for job in plan.jobs if job.row.label == label]
        yield jobs[0].row, jobs
