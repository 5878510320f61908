"""From records to results: one long frame with a row per method, number of subjects, category and column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fc_bench.records import RunFolder
from fc_bench.statistics import cluster_bootstrap

OVERALL = "all"
"""Category of the rows over all prompts."""

COST_COLUMNS: tuple[dict[str, Any], ...] = (
    {
        "name": "image_seconds",
        "title": "s per image",
        "higher_is_better": False,
        "description": "median over the images this method generated, from prompt to decoded image, in batches",
        "digits": 2,
    },
    {
        "name": "customize_seconds",
        "title": "s to customize",
        "higher_is_better": False,
        "description": "mean over the subject sets",
        "digits": 2,
    },
    {
        "name": "peak_memory_gib",
        "title": "peak memory, GiB",
        "higher_is_better": False,
        "description": "largest over customizing and generating; 1 GiB = 2^30 bytes",
        "digits": 2,
    },
    {
        "name": "artefact_mib",
        "title": "artefact, MiB",
        "higher_is_better": False,
        "description": "bytes kept per subject set, mean; 1 MiB = 2^20 bytes",
        "digits": 2,
    },
)


def samples_frame(folder: RunFolder) -> pd.DataFrame:
    """One row per planned sample: its identity, `status` (ok, error, missing), cost, and every metric's value.

    A value that could not be measured is missing, never 0.
    """
    samples, scores = folder.samples(), folder.scores()
    metrics: Mapping[str, Sequence[Mapping[str, Any]]] = folder.settings()["columns"]
    rows = []
    for name, planned in folder.planned().items():
        record = samples.get(name, {"status": "missing"})
        row: dict[str, Any] = {
            "sample": name,
            "method": planned["method"],
            "set": "+".join(planned["subjects"]),
            "subjects": len(planned["subjects"]),
            "category": planned["category"],
            "template": planned["template"],
            "prompt": planned["prompt"],
            "index": planned["index"],
            "seed": planned["seed"],
            "status": record["status"],
            "seconds": record.get("seconds"),
            "peak_memory_bytes": record.get("peak_memory_bytes"),
            "image": record.get("image"),
        }
        for metric, columns in metrics.items():
            values = scores.get((name, metric), {}).get("values", {})
            row |= {column["name"]: values.get(column["name"]) for column in columns}
        rows.append(row)
    frame = pd.DataFrame(rows)
    numbers = ["seconds", "peak_memory_bytes", *(column["name"] for columns in metrics.values() for column in columns)]
    return frame.astype({name: "float64" for name in numbers})


def results_frame(folder: RunFolder) -> pd.DataFrame:
    """The results, long: method, subjects, category, column, mean, low, high, n_sets, n_ok, n_total.

    Quality columns: mean over subject sets of their means with a 95 % cluster-bootstrap interval; `n_ok` samples have
    a value of `n_total` planned. Rows `ceiling` and `floor` come from the suite's own photographs. Cost columns (see
    COST_COLUMNS) have no interval.
    """
    frame = samples_frame(folder)
    columns = [column["name"] for columns in folder.settings()["columns"].values() for column in columns]
    rows: list[dict[str, Any]] = []
    for subjects in sorted(frame["subjects"].unique()):
        part = frame[frame["subjects"] == subjects]
        for method in dict.fromkeys(part["method"]):
            of_method = part[part["method"] == method]
            for category in [OVERALL, *dict.fromkeys(of_method["category"])]:
                chosen = of_method if category == OVERALL else of_method[of_method["category"] == category]
                head = {"method": method, "subjects": int(subjects), "category": category}
                rows += [{**head, "column": column, **_estimate(chosen, column)} for column in columns]
                if category == OVERALL:
                    rows += [{**head, **cost} for cost in _costs(folder, of_method)]
        rows += _anchor_rows(folder, int(subjects))
    return pd.DataFrame(rows)


def _estimate(frame: pd.DataFrame, column: str) -> dict[str, Any]:
    values = {str(name): list(group.dropna()) for name, group in frame.groupby("set")[column]}
    estimate = cluster_bootstrap(values)
    return {
        "mean": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "n_sets": estimate.clusters,
        "n_ok": int(frame[column].notna().sum()),
        "n_total": len(frame),
    }


def _costs(folder: RunFolder, frame: pd.DataFrame) -> list[dict[str, Any]]:
    method = frame["method"].iloc[0]
    sets = set(frame["set"])
    jobs = [job for (label, name), job in folder.jobs().items() if label == method and name in sets]
    finished = [job for job in jobs if job["status"] == "ok"]
    peaks = [*frame["peak_memory_bytes"].dropna(), *(job["peak_memory_bytes"] for job in finished)]
    values = {
        "image_seconds": (frame["seconds"].median(), int(frame["seconds"].notna().sum()), len(frame)),
        "customize_seconds": (_mean([job["seconds"] for job in finished]), len(finished), len(jobs)),
        "peak_memory_gib": (max(peaks) / 2**30 if peaks else None, len(peaks), len(frame) + len(jobs)),
        "artefact_mib": (_mean([job["artefact_bytes"] / 2**20 for job in finished]), len(finished), len(jobs)),
    }
    return [
        {"column": name, "mean": value, "low": None, "high": None, "n_sets": len(sets), "n_ok": ok, "n_total": total}
        for name, (value, ok, total) in values.items()
    ]


def _anchor_rows(folder: RunFolder, subjects: int) -> list[dict[str, Any]]:
    anchors = [
        record
        for record in folder.scores().values()
        if record["sample"].startswith("anchor:") and len(record["subjects"]) == subjects
    ]
    rows = []
    for row in dict.fromkeys(record["row"] for record in anchors):
        frame = pd.DataFrame(
            [{"set": "+".join(record["subjects"]), **record["values"]} for record in anchors if record["row"] == row]
        )
        columns = [name for name in frame.columns if name != "set"]
        frame = frame.astype({name: "float64" for name in columns})
        head = {"method": row, "subjects": subjects, "category": OVERALL}
        rows += [{**head, "column": column, **_estimate(frame, column)} for column in columns]
    return rows


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
