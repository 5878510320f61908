"""Scoring: every metric on every finished sample that it has not measured yet, and on the suite's own photographs."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
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
    needs_attention,
    needs_siblings,
)
from fc_bench.records import ANCHOR, PLAN, SAMPLES, SCORES, LineWriter, RunFolder, stream_lines
from fc_bench.suite import Suite


class Siblings:
    """Which finished samples are of the same method, subjects and prompt, and differ in their index alone."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._own: dict[str, dict[str, str]] = {}
        """Sample -> the images by id of its group, itself among them."""
        groups: dict[tuple[Any, ...], dict[str, str]] = {}
        for record in stream_lines(folder.path / SAMPLES):
            key = record["method"], tuple(record["subjects"]), record["template"]
            group = groups.setdefault(key, {})
            if record["status"] == "ok":
                group[record["id"]] = record["image"]
                self._own[record["id"]] = group
            else:
                group.pop(record["id"], None)

    def of(self, name: str) -> tuple[Sibling, ...]:
        """A sample's siblings, by id."""
        group = self._own[name]
        return tuple(Sibling(other, self._folder.path / group[other]) for other in self.ids(name))

    def ids(self, name: str) -> list[str]:
        """Their ids, as recorded."""
        return sorted(other for other in self._own[name] if other != name)


@dataclass(frozen=True)
class PendingScores:
    """Which finished samples have no score yet; iterating gives their records, each with the metrics that lack one.

    `lacking` maps every finished sample to a number whose bit i says that `metrics[i]` is to be measured; `anchors`
    are the scores that photographs have already (id, metric); `siblings` are known where a metric needs them.
    """

    folder: RunFolder
    metrics: Sequence[str]
    lacking: Mapping[str, int]
    anchors: Set[tuple[str, str]]
    siblings: Siblings | None

    def __len__(self) -> int:
        """Number of samples that lack a score."""
        return sum(1 for bits in self.lacking.values() if bits)

    def __iter__(self) -> Iterator[tuple[dict[str, Any], list[str]]]:
        left = {name: bits for name, bits in self.lacking.items() if bits}
        for record in stream_lines(self.folder.path / SAMPLES) if left else ():
            bits = left.pop(record["id"], 0) if record["status"] == "ok" else 0
            if bits:
                yield record, [name for number, name in enumerate(self.metrics) if bits >> number & 1]


def pending_scores(folder: RunFolder, metrics: Mapping[str, Metric], retry_errors: bool = False) -> PendingScores:
    """What is to be scored: every finished sample by each metric that has no score for it; retried are errors, too.

    A score of a metric that needs siblings is also pending when it rests on others than there are now.
    """
    lacking = {name: (1 << len(metrics)) - 1 for name, status in folder.statuses().items() if status == "ok"}
    bit = {name: 1 << number for number, name in enumerate(metrics)}
    comparing = {name for name, metric in metrics.items() if needs_siblings(metric)}
    siblings = Siblings(folder) if comparing else None
    anchors = set()
    for record in stream_lines(folder.path / SCORES):
        name, metric = record["sample"], record["metric"]
        if name in lacking:
            done = record["status"] == "ok" or not retry_errors
            if done and siblings is not None and metric in comparing:
                done = record.get("siblings") == siblings.ids(name)
            if done:
                lacking[name] &= ~bit.get(metric, 0)
            else:
                lacking[name] |= bit.get(metric, 0)
        elif name.startswith(ANCHOR):
            anchors.add((name, metric))
    return PendingScores(folder, tuple(metrics), lacking, anchors, siblings)


def score(
    suite: Suite,
    folder: RunFolder,
    metrics: Mapping[str, Metric],
    show: Progress,
    pending: PendingScores,
) -> None:
    """Append a line to scores.jsonl for each pending one; an exception is recorded and the rest goes on.

    Only a disk that takes no more ends it (OSError).
    """
    subjects = {subject.id: subject for subject in suite.subjects}
    writer = LineWriter(folder.path / SCORES)
    try:
        for record, names in pending:
            for name in names:
                entry: dict[str, Any] = {"sample": record["id"], "metric": name}
                siblings = pending.siblings if needs_siblings(metrics[name]) else None
                if siblings is not None:
                    entry["siblings"] = siblings.ids(record["id"])
                try:
                    sample = _sample(folder, record, subjects, metrics[name], siblings)
                    entry |= _entry(metrics[name].score(sample), metrics[name])
                except Exception as error:
                    raise_if_disk_refuses(error)
                    entry |= {"status": "error", "error": "".join(traceback.format_exception(error))}
                    show.say(f"{name} of sample {record['id']}: {type(error).__name__}: {error}")
                writer.append(entry)
            show.advance()
        _score_anchors(suite, folder, metrics, writer, show, pending.anchors)
    finally:
        writer.close()


def _sample(
    folder: RunFolder,
    record: Mapping[str, Any],
    subjects: Mapping[str, Subject],
    metric: Metric,
    siblings: Siblings | None,
) -> ScoredSample:
    """What the metric sees: the image, and what else it says it needs."""
    with Image.open(folder.image(record)) as image:
        picture = image.convert("RGB")
    return ScoredSample(
        image=picture,
        prompt=record["prompt"],
        subjects=tuple(subjects[subject] for subject in record["subjects"]),
        siblings=siblings.of(record["id"]) if siblings is not None else (),
        attention=folder.attention(record) if needs_attention(metric) else None,
    )


def _score_anchors(
    suite: Suite,
    folder: RunFolder,
    metrics: Mapping[str, Metric],
    writer: LineWriter,
    show: Progress,
    done: Set[tuple[str, str]],
) -> None:
    """Ceiling and floor of each subject set that the run has samples of; ids `anchor:ceiling:p01+p02:1`."""
    subjects = {subject.id: subject for subject in suite.subjects}
    for key in dict.fromkeys(tuple(record["subjects"]) for record in stream_lines(folder.path / PLAN)):
        people: list[Subject] = [subjects[name] for name in key]
        for name, metric in metrics.items():
            try:
                entries = [
                    {"sample": f"{ANCHOR}{row}:{'+'.join(key)}:{number}", "row": row, **_entry(value, metric)}
                    for row, scores in metric.anchors(people, suite.subjects).items()
                    for number, value in enumerate(scores)
                ]
            except Exception as error:
                raise_if_disk_refuses(error)
                failure = "".join(traceback.format_exception(error))
                entries = [{"sample": f"{ANCHOR}failed:{'+'.join(key)}", "row": None, "status": "error"}]
                entries[0]["error"] = failure
                show.say(f"{name} of the photographs of {'+'.join(key)}: {type(error).__name__}: {error}")
            for entry in entries:
                if (entry["sample"], name) not in done:
                    writer.append({"metric": name, "subjects": key, **entry})


def _entry(value: Score, metric: Metric) -> dict[str, Any]:
    """The score as recorded; raises ValueError or TypeError for a value that is no finite number of a known column."""
    unknown = set(value.values) - {column.name for column in metric.columns}
    if unknown:
        raise ValueError(f"the metric gave the column {sorted(unknown)[0]}, which it does not declare")
    values = {name: None if number is None else float(number) for name, number in value.values.items()}
    entry = {"status": "ok", "values": values, "details": dict(value.details)}
    json.dumps(entry, allow_nan=False)
    return entry
