"""Customization: fits a method to each subject set once, records it, and restores it from its artefact if possible."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fc_bench.errors import Failure, UserError, raise_if_disk_refuses
from fc_bench.generation.peak_memory import PeakMemory
from fc_bench.generation.plan import Job, MethodRow
from fc_bench.model.backbones.fingerprint import sha256_of
from fc_bench.progress import Progress
from fc_bench.protocols import Checkpoints, Customization, Method, Restorable
from fc_bench.run_folder.provenance import now
from fc_bench.run_folder.records import RunFolder
from fc_bench.suites.suite import digest

ARTEFACTS, CHECKPOINTS = "artefacts", "checkpoints"
"""Subfolders of a run folder."""


class Customizer:
    """Customizes one method to subject sets and appends each customization to jobs.jsonl.

    A customization that is finished and whose artefact still lies in the run folder as it was recorded is restored
    instead, where the method is `Restorable`. A set of several subjects of a method that tunes apart is made of one
    customization per subject, each recorded as the job of that subject alone and shared by all sets.

    `record` takes each line for jobs.jsonl, `known` are the last ones of the jobs and parts to come, by row label and
    subject set. `load` goes into every record; with `checkpoint_every` methods are asked for checkpoints. With
    `keep_artefacts` the artefacts made or found are recorded as kept, and no later command removes them. Raises
    UserError when the method is half `Restorable`; a disk that takes no more ends the run (OSError), nothing recorded.
    """

    def __init__(
        self,
        method: Method,
        row: MethodRow,
        folder: RunFolder,
        record: Callable[[Mapping[str, Any]], None],
        known: Mapping[tuple[str, str], Mapping[str, Any]],
        device: str,
        load: Mapping[str, Any],
        show: Progress,
        keep_artefacts: bool = False,
        checkpoint_every: int | None = None,
    ) -> None:
        self._method = method
        self._restorable = _restorable(method, row.name)
        self.apart = self._restorable is not None and self._restorable.tunes_apart
        self._write, self._records = record, dict(known)
        self.seconds = 0.0
        """Seconds spent on all customizations."""
        self._artefacts = folder.path / ARTEFACTS / row.folder
        self._checkpoints = folder.path / CHECKPOINTS / row.folder
        self._device, self._load, self._show = device, dict(load), show
        self._keep_artefacts, self._checkpoint_every = keep_artefacts, checkpoint_every
        self._failed: dict[str, Failure] = {}
        self._whole: set[str] = set()
        """Keys of the sets whose artefact this command created or found intact."""

    def customize(self, job: Job) -> Customization | Failure:
        """The method fitted to the job's subjects, or its failure."""
        if self.apart and job.parts:
            return self._together(job)
        if self._is_whole(job):
            return self._restored(job)
        return self._fitted(job)

    def refuse(self, job: Job, error: Exception) -> Failure:
        """Record that the job failed before its customization."""
        failure = Failure.of(error)
        self._record(job, failure.record())
        return failure

    def know(self, known: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        """Take over records that other workers wrote in the meantime."""
        self._records.update(known)

    def _fitted(self, job: Job) -> Customization | Failure:
        """Customize from the beginning or from a checkpoint; a failure of this command is not repeated."""
        key = job.subject_set.key
        if key in self._failed:
            return self._failed[key]
        artefact = self._artefacts / key
        shutil.rmtree(artefact, ignore_errors=True)
        artefact.mkdir(parents=True)
        checkpoints = None
        if self._checkpoint_every is not None:
            checkpoints = Checkpoints(self._checkpoints / key, self._checkpoint_every)
            checkpoints.folder.mkdir(parents=True, exist_ok=True)
        try:
            with self._show.during(f"{job.row.label} {key}: customizing"):
                result, cost = self._measured(
                    lambda: self._method.customize(job.subject_set.subjects, job.seed, artefact, checkpoints)
                )
        except Exception:
            _remove(artefact)
            raise
        outcome: dict[str, Any] = {}
        if isinstance(result, Customization):
            try:
                outcome = self._outcome(result, artefact, cost["seconds"])
            except Exception as error:
                result = Failure.of(error)
        if isinstance(result, Failure):
            self._failed[key] = result
            _remove(artefact)
            self._record(job, {**cost, **result.record()})
            return result
        self._record(job, {**cost, **outcome})
        self._whole.add(key)
        _remove(self._checkpoints / key)
        return result

    def _restored(self, job: Job) -> Customization | Failure:
        """Load what an earlier command finished; only a failure is recorded."""
        result, cost = self._loaded(job, [self._artefacts / job.subject_set.key])
        if isinstance(result, Failure):
            self._record(job, {**cost, **result.record()})
        return result

    def _together(self, job: Job) -> Customization | Failure:
        """Customize to each missing subject, then load all of them; recorded once per set of artefacts."""
        keys = [part.subject_set.key for part in job.parts]
        failure = self._first_failure(job.parts)
        if failure is not None:
            self._record(job, {"parts": keys, **failure.record()})
            return failure
        result, cost = self._loaded(job, [self._artefacts / key for key in keys])
        outcome: dict[str, Any] = {}
        if isinstance(result, Customization):
            try:
                outcome = _summed([self._records[job.row.label, key] for key in keys], cost, result.details)
            except Exception as error:
                result = Failure.of(error)
        if isinstance(result, Failure):
            self._record(job, {**cost, "parts": keys, **result.record()})
            return result
        earlier = self._records.get((job.row.label, job.subject_set.key), {})
        if earlier.get("artefact_sha256") != outcome["artefact_sha256"]:
            self._record(job, {**cost, "parts": keys, **outcome})
        return result

    def _first_failure(self, parts: Sequence[Job]) -> Failure | None:
        """Customize to the missing parts, up to the first failure."""
        for part in parts:
            failure = None if self._is_whole(part) else self._failure(part)
            if failure is not None:
                return failure
        return None

    def _failure(self, part: Job) -> Failure | None:
        """Customize to one part and free its memory before the next one."""
        fitted = self._fitted(part)
        return fitted if isinstance(fitted, Failure) else None

    def _is_whole(self, job: Job) -> bool:
        """Whether the job is finished and its artefact is unchanged, so that it can be restored."""
        key = job.subject_set.key
        artefact = self._artefacts / key
        record = self._records.get((job.row.label, key), {})
        if self._restorable is None or record.get("status") != "ok":
            return False
        if key not in self._whole and artefact.is_dir() and _sha256_below(artefact) == record["artefact_sha256"]:
            self._found(job, record)
        return key in self._whole

    def _found(self, job: Job, record: Mapping[str, Any]) -> None:
        """Remove checkpoints of a finished customization, and record its artefact as kept if requested."""
        self._whole.add(job.subject_set.key)
        _remove(self._checkpoints / job.subject_set.key)
        if self._keep_artefacts and not record.get("kept"):
            # The earlier line has the shared seconds, which count once.
            self._append(job, {**record, "shared_seconds": 0.0, "kept": True})

    def _loaded(self, job: Job, artefacts: Sequence[Path]) -> tuple[Customization | Failure, dict[str, Any]]:
        method = self._restorable
        assert method is not None
        return self._measured(lambda: method.restore(job.subject_set.subjects, artefacts))

    def _measured(self, work: Callable[[], Customization]) -> tuple[Customization | Failure, dict[str, Any]]:
        """The result of `work` and its cost."""
        begun = time.perf_counter()
        with PeakMemory(self._device) as memory:
            try:
                result: Customization | Failure = work()
                if not isinstance(result, Customization):
                    raise TypeError(f"the method gave a {type(result).__name__} instead of a Customization")
            except Exception as error:
                raise_if_disk_refuses(error)
                result = Failure.of(error)
        seconds = time.perf_counter() - begun
        self.seconds += seconds
        return result, {"seconds": seconds, "peak_memory_bytes": memory.bytes, "memory_kind": memory.kind}

    def _outcome(self, result: Customization, artefact: Path, seconds: float) -> dict[str, Any]:
        """The record of a customization; raises TypeError or ValueError if it holds an invalid value."""
        if not isinstance(result.steps, int) or isinstance(result.steps, bool):
            raise TypeError(f"the method gave {result.steps!r} as its number of steps")
        for name in ("seconds_per_step", "earlier_seconds", "shared_seconds"):
            value = getattr(result, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number and not (value is None and name == "seconds_per_step"):
                raise TypeError(f"the method gave {value!r} as its {name.replace('_', ' ')}")
            _check_recordable(value, name)
        details = dict(result.details)
        _check_recordable(details, "details")
        if not 0 <= result.shared_seconds <= seconds:
            raise ValueError(f"the method gave {result.shared_seconds} shared seconds of {seconds}")
        if not result.earlier_seconds >= 0:
            raise ValueError(f"the method gave {result.earlier_seconds} earlier seconds")
        if self._restorable is not None and result.artefact != artefact:
            raise ValueError("a method that can be restored must use the artefact folder that it was given")
        kept = result.artefact if result.artefact is not None and result.artefact.exists() else None
        return {
            "status": "ok",
            "seconds": result.earlier_seconds + seconds - result.shared_seconds,
            "shared_seconds": result.shared_seconds,
            "steps": result.steps,
            "seconds_per_step": result.seconds_per_step,
            "artefact_bytes": sum(file.stat().st_size for file in _files_below(kept)) if kept else 0,
            "artefact_sha256": _sha256_below(kept) if kept else None,
            "details": details,
        }

    def _record(self, job: Job, outcome: Mapping[str, Any]) -> None:
        """Append the job's record; an artefact that an earlier command kept stays kept."""
        earlier = self._records.get((job.row.label, job.subject_set.key), {})
        now_kept = self._keep_artefacts and outcome["status"] == "ok" and "parts" not in outcome
        kept = {"kept": True} if now_kept or earlier.get("kept") else {}
        self._append(job, job_record(job, self._load, {**outcome, **kept}))

    def _append(self, job: Job, record: dict[str, Any]) -> None:
        self._write(record)
        self._records[job.row.label, job.subject_set.key] = record


def release(folder: RunFolder, row: MethodRow, key: str) -> None:
    """Remove the artefact of a subject set before other customizations write into its folder."""
    shutil.rmtree(folder.path / ARTEFACTS / row.folder / key, ignore_errors=True)


def remove_finished(folder: RunFolder, row: MethodRow, unfinished: Collection[str]) -> None:
    """Remove the artefacts of the method that are neither needed nor kept.

    `unfinished` are the keys of the subject sets with missing samples. They need their own artefact or those of their
    subjects.
    """
    needed = {*unfinished, *(subject for key in unfinished for subject in key.split("+"))}
    kept = {key for (label, key), record in folder.jobs().items() if label == row.label and record.get("kept")}
    place = folder.path / ARTEFACTS / row.folder
    for artefact in list(place.iterdir()) if place.is_dir() else ():
        if artefact.name not in needed | kept:
            _remove(artefact)
    _remove_empty(place)


def job_record(job: Job, load: Mapping[str, Any], outcome: Mapping[str, Any]) -> dict[str, Any]:
    """A line of jobs.jsonl."""
    return {"method": job.row.label, "set": job.subject_set.key, **load, "finished": now(), **outcome}


def _summed(
    parts: Sequence[Mapping[str, Any]], loading: Mapping[str, Any], details: Mapping[str, Any]
) -> dict[str, Any]:
    """The record of a set whose subjects were customized one by one: the sum of the parts, and the loading."""
    steps = sum(part["steps"] for part in parts)
    spent = [part["steps"] * part["seconds_per_step"] for part in parts if part["seconds_per_step"] is not None]
    outcome = {
        "status": "ok",
        "seconds": sum(part["seconds"] for part in parts) + loading["seconds"],
        "shared_seconds": 0.0,
        "peak_memory_bytes": max(loading["peak_memory_bytes"], *(part["peak_memory_bytes"] for part in parts)),
        "steps": steps,
        "seconds_per_step": sum(spent) / steps if len(spent) == len(parts) and steps else None,
        "artefact_bytes": sum(part["artefact_bytes"] for part in parts),
        "artefact_sha256": digest([part["artefact_sha256"] for part in parts]),
        "details": dict(details),
    }
    _check_recordable(outcome["details"], "details")
    return outcome


def _check_recordable(value: Any, name: str) -> None:
    """Raise TypeError or ValueError naming the field if its value cannot be written as JSON."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{name} has the key {key!r}: give text")
            _check_recordable(item, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            _check_recordable(item, f"{name}.{number}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}: give finite numbers")
    elif not isinstance(value, (str, int, type(None))):
        raise TypeError(f"{name} is a {type(value).__name__}: give numbers, text, lists or dicts")


def _restorable(method: Method, name: str) -> Restorable | None:
    """The method as `Restorable`, None if it is not; raises UserError if it defines only half of that protocol."""
    has = {attribute: hasattr(method, attribute) for attribute in ("restore", "tunes_apart")}
    if len(set(has.values())) > 1:
        given, missing = sorted(has, key=lambda attribute: not has[attribute])
        raise UserError(
            f'The method "{name}" has `{given}` but no `{missing}`, so its artefact cannot be restored; define '
            f"both (fc_bench.protocols.Restorable) or none."
        )
    return method if isinstance(method, Restorable) else None


def _files_below(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _sha256_below(path: Path) -> str:
    """sha256 (hexadecimal) over the relative names and contents of all files."""
    return digest([[file.relative_to(path).as_posix(), sha256_of(file)] for file in _files_below(path)])


def _remove(folder: Path) -> None:
    """Remove a subject set's folder, and its parents if they are empty."""
    shutil.rmtree(folder, ignore_errors=True)
    _remove_empty(folder.parent)


def _remove_empty(folder: Path) -> None:
    """Remove a folder and its parent if they are empty."""
    with suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()
