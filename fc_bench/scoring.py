"""Scoring: every metric on every finished sample that it has not measured yet, and on the suite's own photographs."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
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
from fc_bench.records import SCORES, LineWriter, RunFolder
from fc_bench.suite import Suite


def pending_scores(
    folder: RunFolder, metrics: Mapping[str, Metric], retry_errors: bool = False
) -> list[tuple[dict[str, Any], list[str]]]:
    """Sample records that are ok, each with the metrics that have no score for it yet.

    A score of a metric that needs siblings is also pending when it rests on others than there are now.
    """
    samples, scores = folder.samples(), folder.scores()
    scored = {key: record for key, record in scores.items() if record["status"] == "ok" or not retry_errors}
    siblings = _Siblings(folder, samples)
    pending = []
    for record in samples.values():
        if record["status"] != "ok":
            continue
        names = []
        for name, metric in metrics.items():
            score = scored.get((record["id"], name))
            if score is None or (needs_siblings(metric) and score.get("siblings") != siblings.ids(record)):
                names.append(name)
        if names:
            pending.append((record, names))
    return pending


def score(
    suite: Suite,
    folder: RunFolder,
    metrics: Mapping[str, Metric],
    show: Progress,
    retry_errors: bool = False,
) -> None:
    """Append a line to scores.jsonl for each (sample, metric); an exception is recorded and the rest goes on.

    Only a disk that takes no more ends it (OSError).
    """
    subjects = {subject.id: subject for subject in suite.subjects}
    siblings = _Siblings(folder, folder.samples())
    writer = LineWriter(folder.path / SCORES)
    try:
        for record, names in pending_scores(folder, metrics, retry_errors):
            for name in names:
                entry: dict[str, Any] = {"sample": record["id"], "metric": name}
                if needs_siblings(metrics[name]):
                    entry["siblings"] = siblings.ids(record)
                try:
                    sample = _sample(folder, record, subjects, metrics[name], siblings)
                    entry |= _entry(metrics[name].score(sample), metrics[name])
                except Exception as error:
                    raise_if_disk_refuses(error)
                    entry |= {"status": "error", "error": "".join(traceback.format_exception(error))}
                    show.say(f"{name} of sample {record['id']}: {type(error).__name__}: {error}")
                writer.append(entry)
            show.advance()
        _score_anchors(suite, folder, metrics, writer, show)
    finally:
        writer.close()


class _Siblings:
    """Which finished samples are of the same method, subjects and prompt, and differ in their index alone."""

    def __init__(self, folder: RunFolder, samples: Mapping[str, Mapping[str, Any]]) -> None:
        self._groups: dict[tuple[Any, ...], list[Sibling]] = {}
        for name, record in sorted(samples.items()):
            if record["status"] == "ok":
                self._groups.setdefault(_group(record), []).append(Sibling(name, folder.image(record)))

    def of(self, record: Mapping[str, Any]) -> tuple[Sibling, ...]:
        """A sample's siblings, by id."""
        return tuple(sibling for sibling in self._groups[_group(record)] if sibling.id != record["id"])

    def ids(self, record: Mapping[str, Any]) -> list[str]:
        """Their ids, as recorded."""
        return [sibling.id for sibling in self.of(record)]


def _group(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return record["method"], tuple(record["subjects"]), record["template"]


def _sample(
    folder: RunFolder,
    record: Mapping[str, Any],
    subjects: Mapping[str, Subject],
    metric: Metric,
    siblings: _Siblings,
) -> ScoredSample:
    """What the metric sees: the image, and what else it says it needs."""
    with Image.open(folder.image(record)) as image:
        picture = image.convert("RGB")
    return ScoredSample(
        image=picture,
        prompt=record["prompt"],
        subjects=tuple(subjects[subject] for subject in record["subjects"]),
        siblings=siblings.of(record) if needs_siblings(metric) else (),
        attention=folder.attention(record) if needs_attention(metric) else None,
    )


def _score_anchors(
    suite: Suite, folder: RunFolder, metrics: Mapping[str, Metric], writer: LineWriter, show: Progress
) -> None:
    """Ceiling and floor of each subject set that the run has samples of; ids `anchor:ceiling:p01+p02:1`."""
    subjects = {subject.id: subject for subject in suite.subjects}
    done = folder.scores()
    for key in dict.fromkeys(tuple(record["subjects"]) for record in folder.planned().values()):
        people: list[Subject] = [subjects[name] for name in key]
        for name, metric in metrics.items():
            try:
                entries = [
                    {"sample": f"anchor:{row}:{'+'.join(key)}:{number}", "row": row, **_entry(value, metric)}
                    for row, scores in metric.anchors(people, suite.subjects).items()
                    for number, value in enumerate(scores)
                ]
            except Exception as error:
                raise_if_disk_refuses(error)
                failure = "".join(traceback.format_exception(error))
                entries = [{"sample": f"anchor:failed:{'+'.join(key)}", "row": None, "status": "error"}]
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
