"""From records to results: a row per method, number of subjects, category and column."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fc_bench.protocols import Column
from fc_bench.records import JOBS, RunFolder, read_lines
from fc_bench.statistics import Units, cluster_bootstrap, units_of

Row = dict[str, Any]

OVERALL = "all"
"""Category of the rows over all prompts."""

REFERENCES = Column(
    "references", "references", None, "photographs of a subject that the method uses, mean over the subjects", digits=0
)

COST_COLUMNS = (
    Column(
        "image_seconds",
        "s per image",
        False,
        "median over the images this method generated, in batches, from prompt to decoded image",
        digits=2,
    ),
    Column(
        "customize_seconds",
        "s to customize",
        False,
        "mean over the subject sets, without what the subjects of a class share",
        digits=2,
    ),
    Column("steps", "steps", None, "training steps per subject set, mean", digits=0),
    Column("seconds_per_step", "s per step", False, "of training, mean over the subject sets", digits=3),
    Column(
        "peak_memory_gib",
        "peak GiB",
        False,
        "peak memory, largest over customizing and generating (resident set on a CPU, allocated on an accelerator)",
        digits=2,
    ),
    Column("artefact_mib", "MiB kept", False, "kept per subject set, mean; 1 MiB = 2^20 bytes", significant=True),
)


def columns_of(folder: RunFolder) -> list[Column]:
    """The metrics' columns as recorded in the run, in the suite's order."""
    return [Column(**column) for columns in folder.settings()["columns"].values() for column in columns]


def sample_rows(folder: RunFolder) -> list[Row]:
    """One row per planned sample: what it is, `status` (ok, error, missing), cost, and each column's value.

    What could not be measured is None, never 0.
    """
    samples, scores = folder.samples(), folder.scores()
    metrics: dict[str, list[Row]] = folder.settings()["columns"]
    rows = []
    for name, planned in folder.planned().items():
        record = samples.get(name, {"status": "missing"})
        row: Row = {
            "sample": name,
            "method": planned["method"],
            "set": "+".join(planned["subjects"]),
            "subjects": len(planned["subjects"]),
            **{key: planned[key] for key in ("category", "template", "prompt", "index", "seed")},
            "status": record["status"],
            **{key: record.get(key) for key in ("seconds", "peak_memory_bytes", "image", "same_image_as")},
        }
        for metric, columns in metrics.items():
            values = scores.get((name, metric), {}).get("values", {}) if record["status"] == "ok" else {}
            row |= {column["name"]: values.get(column["name"]) for column in columns}
        rows.append(row)
    return rows


def result_rows(folder: RunFolder) -> list[Row]:
    """The results, long: method, subjects, category, column, mean, low, high, n_sets, n_ok, n_total.

    Quality columns: mean over subject sets of their means with a 95 % cluster-bootstrap interval (sets that share
    images are one observation of a column that depends on the image alone); `n_ok` samples of
    the `n_total` planned have a value. Rows `ceiling` and `floor` come from the suite's own photographs. Cost columns
    and the number of references have no interval.
    """
    samples = sample_rows(folder)
    columns = columns_of(folder)
    rows: list[Row] = []
    for subjects in sorted({sample["subjects"] for sample in samples}):
        part = [sample for sample in samples if sample["subjects"] == subjects]
        for method in dict.fromkeys(sample["method"] for sample in part):
            own = [sample for sample in part if sample["method"] == method]
            for category in [OVERALL, *dict.fromkeys(sample["category"] for sample in own)]:
                chosen = [sample for sample in own if category in (OVERALL, sample["category"])]
                head = {"method": method, "subjects": subjects, "category": category}
                rows += [{**head, **_estimate(chosen, column)} for column in columns]
                if category == OVERALL:
                    rows += [
                        {**head, **row} for row in (_references(folder, method, own), *_costs(folder, method, own))
                    ]
        rows += _anchor_rows(folder, subjects)
    return rows


def shared_seconds(folder: RunFolder) -> dict[str, float]:
    """Method -> seconds spent in this run on what all subjects of a class share, over all its customizations."""
    spent: dict[str, float] = {}
    for record in read_lines(folder.path / JOBS):
        if record.get("shared_seconds"):
            spent[record["method"]] = spent.get(record["method"], 0.0) + record["shared_seconds"]
    return spent


def units_of_rows(rows: Sequence[Row], column: Column) -> Units:
    """Subject set -> what its values of this column rest on: itself, its subjects, or the image it shares."""
    if column.of_image_alone:
        return _sharing_images(rows)
    return units_of({row["set"]: row["set"].split("+") for row in rows})


def _estimate(rows: Sequence[Row], column: Column) -> Row:
    values: dict[str, list[float]] = {}
    for row in rows:
        if row.get(column.name) is not None:
            values.setdefault(row["set"], []).append(row[column.name])
    estimate = cluster_bootstrap(values, units_of_rows(rows, column), bounds=column.bounds)
    return {
        "column": column.name,
        "mean": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "n_sets": estimate.clusters,
        "n_ok": sum(map(len, values.values())),
        "n_total": len(rows),
    }


def _sharing_images(rows: Sequence[Row]) -> Units:
    """Subject set -> its units, where sets that show the same image are one observation and share one."""
    groups = {str(row["set"]): str(row["set"]) for row in rows}
    first: dict[str, str] = {}
    for row in rows:
        if row["image"] is not None:
            name = str(row["set"])
            other, own = groups[first.setdefault(str(row["image"]), name)], groups[name]
            if other != own:
                groups = {member: other if group == own else group for member, group in groups.items()}
    if len(set(groups.values())) == len(groups):
        return units_of({row["set"]: row["set"].split("+") for row in rows})
    return {name: (group,) for name, group in groups.items()}


def _costs(folder: RunFolder, method: str, samples: Sequence[Row]) -> list[Row]:
    sets = {sample["set"] for sample in samples}
    jobs = [job for (label, name), job in folder.jobs().items() if label == method and name in sets]
    finished = [job for job in jobs if job["status"] == "ok"]
    seconds = [sample["seconds"] for sample in samples if sample["seconds"] is not None]
    peaks = [sample["peak_memory_bytes"] for sample in samples if sample["peak_memory_bytes"] is not None]
    peaks += [job["peak_memory_bytes"] for job in finished]
    per_step = [job["seconds_per_step"] for job in finished if job.get("seconds_per_step") is not None]
    values: dict[str, tuple[float | None, int, int]] = {
        "image_seconds": (statistics.median(seconds) if seconds else None, len(seconds), len(samples)),
        "customize_seconds": (_mean([job["seconds"] for job in finished]), len(finished), len(jobs)),
        "steps": (_mean([job["steps"] for job in finished]), len(finished), len(jobs)),
        "seconds_per_step": (_mean(per_step), len(per_step), len(jobs)),
        "peak_memory_gib": (max(peaks) / 2**30 if peaks else None, len(peaks), len(samples) + len(jobs)),
        "artefact_mib": (_mean([job["artefact_bytes"] / 2**20 for job in finished]), len(finished), len(jobs)),
    }
    return [
        {"column": name, "mean": value, "low": None, "high": None, "n_sets": len(sets), "n_ok": ok, "n_total": total}
        for name, (value, ok, total) in values.items()
    ]


def _references(folder: RunFolder, method: str, samples: Sequence[Row]) -> Row:
    """Photographs used of each subject, mean over the subject sets' subjects."""
    settings = folder.settings()
    suite, most = settings["suite"], _most_references(folder, settings, method, samples)
    there = {
        entry["id"]: len(entry["photographs"] or []) or suite["photographs"]["count"] for entry in suite["subjects"]
    }
    sets = {sample["set"] for sample in samples}
    used = [min(most, there[name]) for key in sorted(sets) for name in key.split("+")] if most is not None else []
    known = len(sets) if used else 0
    return {
        "column": REFERENCES.name,
        "mean": _mean(used),
        "low": None,
        "high": None,
        "n_sets": len(sets),
        "n_ok": known,
        "n_total": len(sets),
    }


def _most_references(folder: RunFolder, settings: Mapping[str, Any], method: str, samples: Sequence[Row]) -> int | None:
    """As recorded; of runs that did not record it, what options, shared images and untrained jobs tell."""
    if method in settings.get("references", {}):
        return settings["references"][method]
    option = settings["methods"][method]["options"].get("photographs")
    if isinstance(option, int):
        return option
    owners: dict[str, set[str]] = {}
    for sample in samples:
        if sample["image"] is not None:
            owners.setdefault(sample["image"], set()).add(sample["set"])
    if any(len(sets) > 1 for sets in owners.values()):
        return 0
    steps = {job.get("steps") for (label, _), job in folder.jobs().items() if label == method}
    return 1 if steps == {0} else None


def _anchor_rows(folder: RunFolder, subjects: int) -> list[Row]:
    anchors = [
        record
        for record in folder.scores().values()
        if record["sample"].startswith("anchor:") and record["status"] == "ok" and len(record["subjects"]) == subjects
    ]
    rows: list[Row] = []
    for name in dict.fromkeys(record["row"] for record in anchors):
        values = [
            {"set": "+".join(record["subjects"]), **record["values"]} for record in anchors if record["row"] == name
        ]
        head = {"method": name, "subjects": subjects, "category": OVERALL}
        measured = [column for column in columns_of(folder) if any(column.name in value for value in values)]
        rows += [{**head, **_estimate(values, replace(column, of_image_alone=False))} for column in measured]
    return rows


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
