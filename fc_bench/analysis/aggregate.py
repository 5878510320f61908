"""From records to results: a row per method, number of subjects, category and column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fc_bench.analysis.measurements import Measurements, Row, read_measurements
from fc_bench.analysis.statistics import Units, cluster_bootstrap, units_of
from fc_bench.protocols import Column
from fc_bench.run_folder.json_lines import stream_lines
from fc_bench.run_folder.records import JOBS, RunFolder

Jobs = Mapping[tuple[str, str], Row]
"""Records of jobs by method and subject set."""

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
    """One row per planned sample: its identity, `status` (ok, error, missing), cost, and each column's value.

    A value that could not be measured is None, never 0. The rows of large runs need much memory: `read_measurements`
    has the same in columns.
    """
    return read_measurements(folder).rows()


def result_rows(
    folder: RunFolder, measured: Measurements | None = None, columns: Sequence[Column] | None = None
) -> list[Row]:
    """The results, one row per method, subjects, category and column: mean, low, high, n_sets, n_ok, n_total.

    A category is one of the prompts, all of them (`all`), or a value of an attribute of the subjects (`gender=woman`).

    Quality columns: mean over subject sets of their means with a 95 % cluster-bootstrap interval (sets that share
    images are one observation of a column that depends on the image alone); `n_ok` of the `n_total` planned samples
    have a value. Rows `ceiling` and `floor` come from the suite's own photographs. Cost columns and the number of
    references have no interval. `measured` is the content of the folder, if it is already read; `columns` are others
    than the recorded ones.
    """
    measured = measured or read_measurements(folder)
    settings, jobs = folder.settings(), folder.jobs()
    columns = columns_of(folder) if columns is None else columns
    rows: list[Row] = []
    for subjects in sorted(measured.samples["subjects"].unique().tolist()):
        for method, own in by_method(measured.samples, subjects):
            groups = {OVERALL: own, **{name: own.loc[own["category"] == name] for name in own["category"].unique()}}
            for category, chosen in [*groups.items(), *_by_attribute(settings, own)]:
                head = {"method": method, "subjects": subjects, "category": category}
                rows += [{**head, **estimate} for estimate in _estimates(chosen, columns)]
                if category == OVERALL:
                    rows.append({**head, **_references(settings, jobs, method, own)})
                    rows += [{**head, **cost} for cost in _costs(jobs, method, own)]
        rows += _anchor_rows(measured.anchors, columns, subjects)
    return rows


def attribute_of(category: str) -> str | None:
    """The attribute of a group of results such as `gender=woman`; None for a category of prompts."""
    return category.partition("=")[0] if "=" in category else None


def _by_attribute(settings: Mapping[str, Any], samples: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The samples by each attribute of the suite's subjects, under `attribute=value`.

    A set whose subjects differ has all their values, joined by `+`. Sets with a subject without the attribute are left
    out.
    """
    subjects = {entry["id"]: entry.get("attributes", {}) for entry in settings["suite"]["subjects"]}
    for attribute in dict.fromkeys(name for own in subjects.values() for name in own):
        values = {}
        for key in samples["set"].unique():
            own = [subjects[name].get(attribute) for name in key.split("+")]
            if None not in own:
                values[key] = f"{attribute}={'+'.join(sorted(set(own)))}"
        for value in sorted(set(values.values())):
            yield value, samples.loc[samples["set"].isin([key for key, own in values.items() if own == value])]


def by_method(samples: pd.DataFrame, subjects: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each method with its samples of sets of this number of subjects, in the plan's order."""
    of_size = samples["subjects"] == subjects
    for name in samples.loc[of_size, "method"].unique():
        yield name, samples.loc[of_size & (samples["method"] == name)]


def values_by_set(rows: pd.DataFrame, column: str) -> dict[str, np.ndarray]:
    """Subject set -> its values of a column, in the order of the rows; sets without values are left out."""
    values = rows[column].to_numpy(dtype=float)
    there = np.flatnonzero(~np.isnan(values))
    codes, names = pd.factorize(rows["set"].iloc[there])
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    return dict(zip(names, np.split(values[there[order]], ends[:-1]), strict=True)) if len(names) else {}


def shared_seconds(folder: RunFolder) -> dict[str, float]:
    """Method -> seconds of this run for what all subjects of a class share, over all its customizations."""
    spent: dict[str, float] = {}
    for record in stream_lines(folder.path / JOBS):
        if record.get("shared_seconds"):
            spent[record["method"]] = spent.get(record["method"], 0.0) + record["shared_seconds"]
    return spent


def units_of_rows(rows: pd.DataFrame, column: Column) -> Units:
    """Subject set -> the independent units of its values of a column: itself, its subjects, or its shared image.

    The rows need `set` and `image`.
    """
    if column.of_image_alone:
        return _sharing_images(rows)
    return units_of({name: name.split("+") for name in rows["set"].unique()})


def _estimates(rows: pd.DataFrame, columns: Sequence[Column]) -> list[Row]:
    units = {column.of_image_alone: column for column in columns}
    resting = {alone: units_of_rows(rows, column) for alone, column in units.items()}
    return [_estimate(rows, column, resting[column.of_image_alone]) for column in columns]


def _estimate(rows: pd.DataFrame, column: Column, units: Units) -> Row:
    values = values_by_set(rows, column.name)
    estimate = cluster_bootstrap(values, units, bounds=column.bounds)
    return {
        "column": column.name,
        "mean": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "n_sets": estimate.clusters,
        "n_ok": sum(map(len, values.values())),
        "n_total": len(rows),
    }


def _sharing_images(rows: pd.DataFrame) -> Units:
    """Subject set -> its units; sets that show the same image are one observation and share one unit."""
    repeated = rows["image"].notna() & rows["image"].duplicated(keep=False)
    if not repeated.any():
        return units_of({name: name.split("+") for name in rows["set"].unique()})
    shared = rows.loc[repeated, ["set", "image"]].drop_duplicates().astype(object)
    groups: dict[str, str] = {name: name for name in rows["set"].unique()}
    links = shared.assign(first=shared.groupby("image")["set"].transform("first"))[["first", "set"]]
    for first, name in links.drop_duplicates().itertuples(index=False):
        other, own = groups[first], groups[name]
        if other != own:
            groups = {member: other if group == own else group for member, group in groups.items()}
    if len(set(groups.values())) == len(groups):
        return units_of({name: name.split("+") for name in groups})
    return {name: (group,) for name, group in groups.items()}


def _costs(recorded: Jobs, method: str, samples: pd.DataFrame) -> list[Row]:
    sets = set(samples["set"].unique())
    jobs = [job for (label, name), job in recorded.items() if label == method and name in sets]
    finished = [job for job in jobs if job["status"] == "ok"]
    seconds = samples["seconds"].dropna()
    peaks = samples["peak_memory_bytes"].dropna().tolist()
    having = {
        name: [job[name] for job in finished if job.get(name) is not None]
        for name in ("seconds", "steps", "seconds_per_step", "peak_memory_bytes", "artefact_bytes")
    }
    peaks += having["peak_memory_bytes"]
    counts = {name: (len(values), len(jobs)) for name, values in having.items()}
    values: dict[str, tuple[float | None, int, int]] = {
        "image_seconds": (float(seconds.median()) if len(seconds) else None, len(seconds), len(samples)),
        "customize_seconds": (_mean(having["seconds"]), *counts["seconds"]),
        "steps": (_mean(having["steps"]), *counts["steps"]),
        "seconds_per_step": (_mean(having["seconds_per_step"]), *counts["seconds_per_step"]),
        "peak_memory_gib": (max(peaks) / 2**30 if peaks else None, len(peaks), len(samples) + len(jobs)),
        "artefact_mib": (_mean([size / 2**20 for size in having["artefact_bytes"]]), *counts["artefact_bytes"]),
    }
    return [
        {"column": name, "mean": value, "low": None, "high": None, "n_sets": len(sets), "n_ok": ok, "n_total": total}
        for name, (value, ok, total) in values.items()
    ]


def _references(settings: Mapping[str, Any], jobs: Jobs, method: str, samples: pd.DataFrame) -> Row:
    """Photographs used per subject, mean over the subject sets' subjects."""
    suite, most = settings["suite"], _most_references(settings, jobs, method, samples)
    there = {
        entry["id"]: len(entry["photographs"] or []) or suite["photographs"]["count"] for entry in suite["subjects"]
    }
    sets = sorted(samples["set"].unique())
    used = [min(most, there[name]) for key in sets for name in key.split("+")] if most is not None else []
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


def _most_references(settings: Mapping[str, Any], jobs: Jobs, method: str, samples: pd.DataFrame) -> int | None:
    """As recorded; for runs without that record, derived from options, shared images and jobs without training."""
    if method in settings.get("references", {}):
        return settings["references"][method]
    option = settings["methods"][method]["options"].get("photographs")
    if isinstance(option, int):
        return option
    owners = samples.loc[samples["image"].notna(), ["image", "set"]].drop_duplicates()
    if owners["image"].duplicated().any():
        return 0
    steps = {job.get("steps") for (label, _), job in jobs.items() if label == method}
    return 1 if steps == {0} else None


def _anchor_rows(anchors: Sequence[Row], columns: Sequence[Column], subjects: int) -> list[Row]:
    rows: list[Row] = []
    own = [record for record in anchors if len(record["subjects"]) == subjects]
    for name in dict.fromkeys(record["row"] for record in own):
        head = {"method": name, "subjects": subjects, "category": OVERALL}
        for column in columns:
            having = [record for record in own if record["row"] == name and column.name in record["values"]]
            if having:
                values = pd.DataFrame(
                    {
                        "set": ["+".join(record["subjects"]) for record in having],
                        column.name: [record["values"][column.name] for record in having],
                    }
                )
                rows += [{**head, **row} for row in _estimates(values, [replace(column, of_image_alone=False)])]
    return rows


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
