"""Generating: every pending job of a plan, recorded sample by sample."""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from fc_bench.errors import UserError
from fc_bench.memory import PeakMemory
from fc_bench.model.backbone import fingerprint
from fc_bench.model.errors import ModelInputError
from fc_bench.plan import Job, MethodRow, Plan, Sample
from fc_bench.progress import Progress
from fc_bench.protocols import Customization, Method, Request, Setting, fill
from fc_bench.provenance import now
from fc_bench.records import JOBS, SAMPLES, LineWriter, RunFolder, write_png

MakeMethod = Callable[[MethodRow], Method]


@dataclass(frozen=True)
class Generated:
    """One image or the reason there is none.

    `seconds` is its share of its batch of `batch` images, None when that cannot be told: nothing was computed, or the
    batch failed on the way.
    """

    image: Image.Image | None
    error: BaseException | None
    seconds: float | None
    peak_memory: int | None
    batch: int


def generate(
    plan: Plan,
    folder: RunFolder,
    setting: Setting,
    make_method: MakeMethod,
    show: Progress,
    batch_size: int = 8,
    retry_errors: bool = False,
    keep_artefacts: bool = False,
) -> None:
    """Generate every planned sample that has no record yet.

    An exception in a job or sample is recorded with its traceback and the rest goes on. Batches are formed from the
    whole job whatever is already done, and a batch begun is generated as a whole again, so that an interrupted run and
    an uninterrupted one compute the same numbers.
    """
    writer = _Writer(folder, setting, show)
    done = {name for name, record in folder.samples().items() if record["status"] == "ok" or not retry_errors}
    images: dict[str, dict[str, Any]] = {}
    for record in folder.samples().values():
        if record["status"] == "ok":
            images.setdefault(record["shared_key"], record)
    try:
        for row, jobs in _by_row(plan):
            pending = [job for job in jobs if any(sample.id not in done for sample in job.samples)]
            if not pending:
                continue
            begun = time.perf_counter()
            with PeakMemory(setting.device) as memory:
                method = _load(make_method, row)
            load = {"load_seconds": time.perf_counter() - begun, "load_peak_memory_bytes": memory.bytes}
            for job in pending:
                missing = [sample for sample in job.samples if sample.id not in done]
                if isinstance(method, Exception):
                    writer.job_failed(job, missing, method, load)
                    continue
                _run_job(method, job, missing, images, writer, batch_size, keep_artefacts, load)
            del method
            _free_memory()
    finally:
        writer.close()


def _run_job(
    method: Method,
    job: Job,
    missing: Sequence[Sample],
    images: dict[str, dict[str, Any]],
    writer: _Writer,
    batch_size: int,
    keep_artefacts: bool,
    load: Mapping[str, Any],
) -> None:
    subjects = job.subject_set.subjects
    try:
        mentions = [method.mention(subject, position) for position, subject in enumerate(subjects)]
    except Exception as error:
        writer.job_failed(job, missing, error, load)
        return
    computed, copied = _split(job, images)
    wanted = {sample.id for sample in missing}
    chunks = [computed[start : start + batch_size] for start in range(0, len(computed), batch_size)]
    chunks = [chunk for chunk in chunks if any(sample.id in wanted for sample in chunk)]
    if chunks:
        artefact = writer.artefact_folder(job)
        customized = _customize(method, job, artefact, writer, load)
        if isinstance(customized, Exception):
            writer.samples_failed(job, missing, customized, mentions)
            return
        for chunk in chunks:
            requests = [Request(fill(sample.template, mentions), sample.prompt, sample.seed) for sample in chunk]
            for sample, generated in zip(chunk, _batch(method, customized, requests, writer.device), strict=True):
                if sample.id in wanted:
                    record = writer.sample(job, sample, mentions, generated)
                    if record["status"] == "ok":
                        images.setdefault(sample.shared_key, record)
        if not keep_artefacts:
            shutil.rmtree(artefact, ignore_errors=True)
    for sample in copied:
        if sample.id in wanted:
            writer.copy(job, sample, mentions, images.get(sample.shared_key))


def _split(job: Job, images: Mapping[str, Mapping[str, Any]]) -> tuple[list[Sample], list[Sample]]:
    """The job's samples that it computes itself, and those whose image an earlier sample already is."""
    computed: list[Sample] = []
    copied: list[Sample] = []
    own_keys: set[str] = set()
    for sample in job.samples:
        origin = images.get(sample.shared_key)
        elsewhere = origin is not None and origin["id"] not in {other.id for other in job.samples}
        if elsewhere or sample.shared_key in own_keys:
            copied.append(sample)
        else:
            computed.append(sample)
            own_keys.add(sample.shared_key)
    return computed, copied


def _customize(
    method: Method, job: Job, artefact: Path, writer: _Writer, load: Mapping[str, Any]
) -> Customization | Exception:
    shutil.rmtree(artefact, ignore_errors=True)
    artefact.mkdir(parents=True)
    begun = time.perf_counter()
    with PeakMemory(writer.device) as memory:
        try:
            result: Customization | Exception = method.customize(job.subject_set.subjects, job.seed, artefact, None)
        except Exception as failure:
            result = failure
    seconds = time.perf_counter() - begun
    outcome: dict[str, Any] = {}
    if not isinstance(result, Exception):
        try:
            outcome = _customized(result)
        except Exception as failure:
            result = failure
    writer.job(job, _error(result) if isinstance(result, Exception) else outcome, seconds, memory, load)
    return result


def _customized(result: Customization) -> dict[str, Any]:
    """What is recorded of a customization; raises TypeError or ValueError when a method gave something else."""
    if not isinstance(result, Customization):
        raise TypeError(f"the method gave a {type(result).__name__} instead of a Customization")
    if not isinstance(result.steps, int):
        raise TypeError(f"the method gave {result.steps!r} as its number of steps")
    kept = result.artefact if result.artefact is not None and result.artefact.exists() else None
    outcome = {
        "status": "ok",
        "steps": result.steps,
        "artefact_bytes": _bytes_below(kept) if kept else 0,
        "artefact_sha256": fingerprint(kept) if kept else None,
        "details": dict(result.details),
    }
    json.dumps(outcome, allow_nan=False)
    return outcome


def _batch(method: Method, customized: Customization, requests: Sequence[Request], device: str) -> list[Generated]:
    """One result per request; when the batch fails, each of its images that is missing is tried alone."""
    images: list[Image.Image] = []
    begun = time.perf_counter()
    error: Exception | None = None
    with PeakMemory(device) as memory:
        try:
            for image in method.generate(customized, requests):
                if not isinstance(image, Image.Image):
                    raise TypeError(f"the method gave a {type(image).__name__} instead of an image")
                images.append(image)
            if len(images) != len(requests):
                raise RuntimeError(f"the method gave {len(images)} images for {len(requests)} requests")
        except Exception as failure:
            error = failure
    seconds = (time.perf_counter() - begun) / len(requests)
    shared = seconds if error is None else None
    results = [Generated(image, None, shared, memory.bytes, len(requests)) for image in images[: len(requests)]]
    if error is None:
        return results
    missing = requests[len(results) :]
    if len(requests) == 1:
        return [*results, *(Generated(None, error, None, None, 1) for _ in missing)]
    return [*results, *(_batch(method, customized, [request], device)[0] for request in missing)]


class _Writer:
    """Writes images and records of one run."""

    def __init__(self, folder: RunFolder, setting: Setting, show: Progress) -> None:
        self._folder = folder
        self.device = setting.device
        self._show = show
        self._samples = LineWriter(folder.path / SAMPLES)
        self._jobs = LineWriter(folder.path / JOBS)

    def close(self) -> None:
        self._samples.close()
        self._jobs.close()

    def artefact_folder(self, job: Job) -> Path:
        return self._folder.path / "artefacts" / job.row.folder / job.subject_set.key

    def sample(self, job: Job, sample: Sample, mentions: Sequence[str], generated: Generated) -> dict[str, Any]:
        """Image first, record after: a record never points at nothing."""
        record = _sample_record(sample, mentions)
        if generated.image is None:
            assert generated.error is not None
            record |= _error(generated.error)
        else:
            name = f"images/{job.row.folder}/{job.subject_set.key}/{sample.id}.png"
            write_png(self._folder.path / name, generated.image.convert("RGB"))
            record |= {
                "status": "ok",
                "image": name,
                "seconds": generated.seconds,
                "batch": generated.batch,
                "peak_memory_bytes": generated.peak_memory,
            }
        return self._finish(record)

    def copy(self, job: Job, sample: Sample, mentions: Sequence[str], origin: Mapping[str, Any] | None) -> None:
        """A sample whose image must equal one that exists: the same file, no time of its own."""
        record = _sample_record(sample, mentions)
        if origin is None:
            record |= _error(RuntimeError("the sample whose image this one shares has failed"))
        else:
            record |= {"status": "ok", "image": origin["image"], "seconds": None, "same_image_as": origin["id"]}
        self._finish(record)

    def job(
        self,
        job: Job,
        outcome: Mapping[str, Any],
        seconds: float,
        memory: PeakMemory,
        load: Mapping[str, Any],
    ) -> None:
        record: dict[str, Any] = {
            "method": job.row.label,
            "set": job.subject_set.key,
            "seconds": seconds,
            "peak_memory_bytes": memory.bytes,
            "memory_kind": memory.kind,
            **load,
            "finished": now(),
            **outcome,
        }
        self._jobs.append(record)

    def job_failed(self, job: Job, missing: Sequence[Sample], error: Exception, load: Mapping[str, Any]) -> None:
        """The method could not even be loaded."""
        record = {"method": job.row.label, "set": job.subject_set.key, **load, "finished": now(), **_error(error)}
        self._jobs.append(record)
        self.samples_failed(job, missing, error, None)

    def samples_failed(
        self, job: Job, missing: Sequence[Sample], error: Exception, mentions: Sequence[str] | None
    ) -> None:
        for sample in missing:
            self._finish(_sample_record(sample, mentions) | _error(error))

    def _finish(self, record: dict[str, Any]) -> dict[str, Any]:
        record["finished"] = now()
        self._samples.append(record)
        if record["status"] == "error":
            self._show.say(f"{record['method']} {'+'.join(record['subjects'])}: {record['error']['message']}")
        self._show.advance()
        return record


def _sample_record(sample: Sample, mentions: Sequence[str] | None) -> dict[str, Any]:
    generated = fill(sample.template, mentions) if mentions is not None else None
    return {**asdict(sample), "subjects": list(sample.subjects), "generated_prompt": generated}


def _error(error: BaseException) -> dict[str, Any]:
    lines = str(error).strip().splitlines()
    return {
        "status": "error",
        "error": {
            "type": type(error).__name__,
            "message": f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__,
            "traceback": "".join(traceback.format_exception(error)),
        },
    }


def _load(make_method: MakeMethod, row: MethodRow) -> Method | Exception:
    """The method, or why it could not be loaded; what the user can put right before anything runs goes up."""
    try:
        return make_method(row)
    except (UserError, ModelInputError):
        raise
    except Exception as error:
        return error


def _by_row(plan: Plan) -> Iterator[tuple[MethodRow, list[Job]]]:
    for label in dict.fromkeys(job.row.label for job in plan.jobs):
        jobs = [job for job in plan.jobs if job.row.label == label]
        yield jobs[0].row, jobs


def _bytes_below(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    with suppress(RuntimeError):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
