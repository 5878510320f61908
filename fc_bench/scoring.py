"""Scoring: every metric on every finished sample that it has not measured yet, and on the suite's own photographs."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from fc_bench.progress import Progress
from fc_bench.protocols import Metric, Score, ScoredSample, Subject
from fc_bench.records import SCORES, LineWriter, RunFolder
from fc_bench.suite import Suite


def pending_scores(
    folder: RunFolder, metrics: Sequence[str], retry_errors: bool = False
) -> list[tuple[dict[str, Any], list[str]]]:
    """Sample records that are ok, each with the metrics that have no score for it yet."""
    scored = {key for key, record in folder.scores().items() if record["status"] == "ok" or not retry_errors}
    pending = []
    for record in folder.samples().values():
        names = [name for name in metrics if (record["id"], name) not in scored]
        if record["status"] == "ok" and names:
            pending.append((record, names))
    return pending


def score(
    suite: Suite,
    folder: RunFolder,
    metrics: Mapping[str, Metric],
    show: Progress,
    retry_errors: bool = False,
) -> None:
    """Append a line to scores.jsonl for each (sample, metric); an exception is recorded and the rest goes on."""
    subjects = {subject.id: subject for subject in suite.subjects}
    writer = LineWriter(folder.path / SCORES)
    try:
        for record, names in pending_scores(folder, list(metrics), retry_errors):
            for name in names:
                entry: dict[str, Any] = {"sample": record["id"], "metric": name}
                try:
                    with Image.open(folder.image(record)) as image:
                        sample = ScoredSample(
                            image=image.convert("RGB"),
                            prompt=record["prompt"],
                            subjects=tuple(subjects[subject] for subject in record["subjects"]),
                        )
                    entry |= _entry(metrics[name].score(sample), metrics[name])
                except Exception as error:
                    entry |= {"status": "error", "error": "".join(traceback.format_exception(error))}
                    show.say(f"{name} of sample {record['id']}: {type(error).__name__}: {error}")
                writer.append(entry)
            show.advance()
        _score_anchors(suite, folder, metrics, writer, show)
    finally:
        writer.close()


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
