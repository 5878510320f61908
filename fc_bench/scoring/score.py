"""Scoring: every metric on every finished sample that has no score, and on the suite's own photographs."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from PIL import Image

from fc_bench.errors import raise_if_disk_refuses
from fc_bench.progress import Progress
from fc_bench.protocols import (
    Metric,
    Score,
    ScoredSample,
    Sibling,
    Subject,
    derived_from,
    needs_attention,
    needs_siblings,
)
from fc_bench.run_folder.json_lines import LineWriter, stream_fields, stream_lines
from fc_bench.run_folder.provenance import usable_cores
from fc_bench.run_folder.record_shapes import ANCHOR, ANCHOR_ROWS, Measured, Planned, Sampled
from fc_bench.run_folder.records import PLAN, SAMPLES, SCORES, RunFolder
from fc_bench.suites.suite import Suite

BATCH, BATCH_BYTES = 32, 64 << 20
"""Most images that are read and looked at together, and most bytes of their pixels; twice as many are in memory."""


class Siblings:
    """Groups of finished samples with the same method, subjects and prompt, which differ only in their index."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._own: dict[str, dict[str, str]] = {}
        """Sample -> the images of its group by id, including itself."""
        groups: dict[tuple[Any, ...], dict[str, str]] = {}
        for one in stream_fields(folder.path / SAMPLES, Sampled):
            key = one.method, tuple(one.subjects), one.template
            group = groups.setdefault(key, {})
            if one.image is not None and one.status == "ok":
                group[one.id] = one.image
                self._own[one.id] = group
            else:
                group.pop(one.id, None)

    def of(self, name: str) -> tuple[Sibling, ...]:
        """A sample's siblings by id."""
        group = self._own[name]
        return tuple(Sibling(other, self._folder.path / group[other]) for other in self.ids(name))

    def ids(self, name: str) -> list[str]:
        """Ids of a sample's siblings, as recorded."""
        return sorted(other for other in self._own[name] if other != name)


class PendingScores:
    """The missing scores of a run's finished samples; iterating gives the records of those to score.

    `missing` maps every finished sample to a number whose bit i means that it has no value of `metrics[i]`, `failed` to
    those with a recorded error, which are tried again only with `retry_errors`. `anchors` are the existing scores (id,
    metric) of photographs. `siblings` are set if a metric needs them; a score that rests on other siblings than the
    current ones counts as missing. With `row` only the samples of this row are there.
    """

    def __init__(
        self, folder: RunFolder, metrics: Mapping[str, Metric], retry_errors: bool = False, row: str | None = None
    ) -> None:
        self._folder, self._metrics, self._retry_errors = folder, metrics, retry_errors
        self._bits = {name: 1 << number for number, name in enumerate(metrics)}
        self._compared = {name for name, metric in metrics.items() if needs_siblings(metric)}
        self.siblings = Siblings(folder) if self._compared else None
        every = (1 << len(metrics)) - 1
        self.missing = {name: every for name, status in folder.statuses(row).items() if status == "ok"}
        self.failed: dict[str, int] = {}
        self.anchors: set[tuple[str, str]] = set()
        for one in stream_fields(folder.path / SCORES, Measured):
            if one.sample in self.missing:
                self.note(one.sample, one.metric, one.status, one.siblings)
            elif one.sample.startswith(ANCHOR):
                self.anchors.add((one.sample, one.metric))

    def note(self, sample: str, metric: str, status: str, siblings: Sequence[str] | None) -> None:
        """Record that a sample was scored (ok), could not be scored (error), or was scored with other siblings."""
        bit = self._bits.get(metric, 0)
        if self.siblings and metric in self._compared and siblings != self.siblings.ids(sample):
            self.missing[sample] |= bit
            self.failed[sample] = self.failed.get(sample, 0) & ~bit
        elif status == "ok":
            self.missing[sample] &= ~bit
        else:
            self.missing[sample] |= bit
            self.failed[sample] = self.failed.get(sample, 0) | bit

    def without(self, metric: str) -> list[str]:
        """The samples that lack a score of this metric and are to get one."""
        return [name for name in self.missing if self._requested(name) & self._bits[metric]]

    def __len__(self) -> int:
        """Number of samples to score."""
        return sum(1 for name in self.missing if self._requested(name))

    def __iter__(self) -> Iterator[tuple[dict[str, Any], list[str]]]:
        """Their records with the metrics to measure, read from the run folder one at a time."""
        left = {name: bits for name in self.missing if (bits := self._requested(name))}
        for record in stream_lines(self._folder.path / SAMPLES) if left else ():
            bits = left.pop(record["id"], 0) if record["status"] == "ok" else 0
            if bits:
                yield record, [name for name in self._metrics if bits & self._bits[name]]

    def _requested(self, name: str) -> int:
        missing = self.missing[name]
        return missing if self._retry_errors else missing & ~self.failed.get(name, 0)


def score(
    suite: Suite,
    folder: RunFolder,
    metrics: Mapping[str, Metric],
    show: Progress,
    pending: PendingScores,
) -> None:
    """Append a line to scores.jsonl for each pending score; an exception is recorded and the rest continues.

    Images are read one batch ahead, and metrics may look ahead at a batch (`Metric`). Only a full disk ends the scoring
    (OSError).
    """
    derive(folder, metrics, show, pending)
    subjects = {subject.id: subject for subject in suite.subjects}
    with ThreadPoolExecutor(usable_cores()) as pool, closing(LineWriter(folder.path / SCORES)) as writer:
        for batch in _one_ahead(_batches(folder, pending, pool)):
            inputs = [
                {name: _input(folder, one, suite, subjects, metrics[name], pending.siblings) for name in one.metrics}
                for one in batch
            ]
            for name, metric in metrics.items():
                _look_ahead(metric, [own[name] for own in inputs if name in own])
            for one, own in zip(batch, inputs, strict=True):
                for name, sample in own.items():
                    entry = _measured(one.record["id"], name, metrics[name], sample, pending.siblings, show)
                    writer.append(entry, sync=False)
                    pending.note(one.record["id"], name, entry["status"], entry.get("siblings"))
                show.advance()
            writer.sync()


def derive(folder: RunFolder, metrics: Mapping[str, Metric], show: Progress, pending: PendingScores) -> None:
    """Append the pending scores that follow from recorded details of another metric, without reading an image."""
    sources: dict[str, list[str]] = {}
    for name, metric in metrics.items():
        if (source := derived_from(metric)) is not None:
            sources.setdefault(source, []).append(name)
    left = {(name, sample) for names in sources.values() for name in names for sample in pending.without(name)}
    if not left:
        return
    recorded = sum(1 for _ in stream_fields(folder.path / SCORES, Measured))  # what is appended below is not read
    with closing(LineWriter(folder.path / SCORES)) as writer:
        for record in islice(stream_lines(folder.path / SCORES), recorded):
            sample = record["sample"]
            for name in sources.get(record["metric"], ()) if record["status"] == "ok" else ():
                if (name, sample) in left:
                    left.discard((name, sample))
                    entry = _derived(sample, name, metrics[name], record["details"], show)
                    writer.append(entry, sync=False)
                    pending.note(sample, name, entry["status"], None)
        writer.sync()


def _derived(sample: str, name: str, metric: Any, details: Mapping[str, Any], show: Progress) -> dict[str, Any]:
    """The record of a score from the recorded details of another metric, or of the error."""
    entry: dict[str, Any] = {"sample": sample, "metric": name}
    try:
        return entry | _entry(metric.derive(details), metric)
    except Exception as error:
        return entry | _failed(error, f"{name} of sample {sample}", show)


def _failed(error: Exception, what: str, show: Progress) -> dict[str, Any]:
    """The fields of a score that failed; raises the error of a full disk."""
    raise_if_disk_refuses(error)
    show.say(f"{what}: {type(error).__name__}: {error}")
    return {"status": "error", "error": "".join(traceback.format_exception(error))}


@dataclass(frozen=True)
class _Pending:
    """A sample to measure: its record, the names of its missing metrics, and its image, read by a thread."""

    record: Mapping[str, Any]
    metrics: Sequence[str]
    image: Future[Image.Image]


def _batches(folder: RunFolder, pending: PendingScores, pool: ThreadPoolExecutor) -> Iterator[list[_Pending]]:
    """The pending samples in batches of at most `BATCH` images and `BATCH_BYTES` of pixels."""
    batch: list[_Pending] = []
    size = 0
    for record, names in pending:
        opened = _opened(folder, record)
        pixels = 0 if isinstance(opened, Exception) else 3 * opened.width * opened.height
        if batch and (len(batch) == BATCH or size + pixels > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(_Pending(record, names, pool.submit(_decoded, opened)))
        size += pixels
    if batch:
        yield batch


def _opened(folder: RunFolder, record: Mapping[str, Any]) -> Image.Image | Exception:
    """An image with its header read, or the error of that."""
    try:
        return Image.open(folder.image(record))
    except Exception as error:
        return error


def _decoded(opened: Image.Image | Exception) -> Image.Image:
    """The image in RGB; raises the error of opening or reading it."""
    if isinstance(opened, Exception):
        raise opened
    with opened:
        return opened.convert("RGB")


def _one_ahead(batches: Iterator[list[_Pending]]) -> Iterator[list[_Pending]]:
    """The batches in their order, each after its successor was begun."""
    waiting: list[_Pending] = []
    for batch in batches:
        if waiting:
            yield waiting
        waiting = batch
    if waiting:
        yield waiting


def _input(
    folder: RunFolder,
    one: _Pending,
    suite: Suite,
    subjects: Mapping[str, Subject],
    metric: Metric,
    siblings: Siblings | None,
) -> ScoredSample | Exception:
    """The input of the metric: the image and whatever else the metric requires; or the error of reading it."""
    record = one.record
    try:
        return ScoredSample(
            image=one.image.result(),
            prompt=record["prompt"],
            subjects=tuple(subjects[subject] for subject in record["subjects"]),
            siblings=siblings.of(record["id"]) if siblings is not None and needs_siblings(metric) else (),
            attention=folder.attention(record) if needs_attention(metric) else None,
            target=suite.targets.get(("+".join(record["subjects"]), record["template"])),
        )
    except Exception as error:
        return error


def _look_ahead(metric: Metric, inputs: Sequence[ScoredSample | Exception]) -> None:
    """Let a metric compute together what it needs of several samples, if it can."""
    compute: Any = getattr(metric, "look_ahead", None)
    samples = [sample for sample in inputs if isinstance(sample, ScoredSample)]
    if compute is not None and len(samples) > 1:
        with suppress(Exception):  # `score` raises it again, for the sample that it belongs to
            compute(samples)


def _measured(
    name: str,
    metric_name: str,
    metric: Metric,
    sample: ScoredSample | Exception,
    siblings: Siblings | None,
    show: Progress,
) -> dict[str, Any]:
    """The record of a sample's score, or of the error."""
    entry: dict[str, Any] = {"sample": name, "metric": metric_name}
    if siblings is not None and needs_siblings(metric):
        entry["siblings"] = siblings.ids(name)
    try:
        if isinstance(sample, Exception):
            raise sample
        # A metric may draw on its image: the others get the image as it is.
        return entry | _entry(metric.score(replace(sample, image=sample.image.copy())), metric)
    except Exception as error:
        return entry | _failed(error, f"{metric_name} of sample {name}", show)


def score_anchors(
    suite: Suite, folder: RunFolder, metrics: Mapping[str, Metric], show: Progress, done: Set[tuple[str, str]]
) -> None:
    """Append the scores of photographs that are not `done` to scores.jsonl: ceiling and floor of each subject set.

    Their ids are `anchor:ceiling:p01+p02:1`.
    """
    with closing(LineWriter(folder.path / SCORES)) as writer:
        for entry in _anchors(suite, folder, metrics, show):
            if (entry["sample"], entry["metric"]) not in done:
                writer.append(entry)


def _anchors(
    suite: Suite, folder: RunFolder, metrics: Mapping[str, Metric], show: Progress
) -> Iterator[dict[str, Any]]:
    """The records of all scores of photographs."""
    subjects = {subject.id: subject for subject in suite.subjects}
    for key in dict.fromkeys(tuple(one.subjects) for one in stream_fields(folder.path / PLAN, Planned)):
        people: list[Subject] = [subjects[name] for name in key]
        for name, metric in metrics.items():
            try:
                found = metric.anchors(people, suite.subjects)
                for row in found:
                    if row not in ANCHOR_ROWS:
                        raise ValueError(f"the metric gave the row {row!r}, which is none of {', '.join(ANCHOR_ROWS)}")
                entries = [
                    {"sample": f"{ANCHOR}{row}:{'+'.join(key)}:{number}", "row": row, **_entry(value, metric)}
                    for row, scores in found.items()
                    for number, value in enumerate(scores)
                ]
            except Exception as error:
                failure = _failed(error, f"{name} of the photographs of {'+'.join(key)}", show)
                entries = [{"sample": f"{ANCHOR}failed:{'+'.join(key)}", "row": None, **failure}]
            yield from ({"metric": name, "subjects": key, **entry} for entry in entries)


def _entry(value: Score, metric: Metric) -> dict[str, Any]:
    """The record of a score; raises ValueError or TypeError unless all values are finite numbers of known columns."""
    unknown = set(value.values) - {column.name for column in metric.columns}
    if unknown:
        raise ValueError(f"the metric gave the column {sorted(unknown)[0]}, which it does not declare")
    values = {name: None if number is None else float(number) for name, number in value.values.items()}
    entry = {"status": "ok", "values": values, "details": dict(value.details)}
    json.dumps(entry, allow_nan=False)
    return entry
