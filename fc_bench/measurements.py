"""What a run has measured, as columns: its records are read once and one at a time, however many they are."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fc_bench.records import ANCHOR, PLAN, SAMPLES, SCORES, RunFolder, stream_lines

Row = dict[str, Any]

RECORDED = ("image", "same_image_as", "attention")
"""What a sample's record says of it beside status and costs; None where it says nothing."""
NUMBERS = ("seconds", "peak_memory_bytes")
"""Costs of a sample."""


@dataclass(frozen=True)
class Measurements:
    """`samples`: one row per planned sample, in the plan's order; `anchors`: the scores of the suite's own photographs.

    Columns of the samples: sample (its id), method, set, subjects (how many), category, template, prompt, index, seed,
    status (ok, error, missing), seconds, peak_memory_bytes, image, same_image_as, attention, and the metrics'. Texts
    that repeat are categories, sorted; what could not be measured is missing, never 0.
    """

    samples: pd.DataFrame
    anchors: Sequence[Row]

    def rows(self) -> list[Row]:
        """The samples as one dict each, None where something is missing."""
        columns = [_without_gaps(self.samples[name]) for name in self.samples.columns]
        return [dict(zip(self.samples.columns, values, strict=True)) for values in zip(*columns, strict=True)]


def read_measurements(folder: RunFolder) -> Measurements:
    """Plan, samples and scores of a run folder; raises UserError for a damaged record."""
    metrics: dict[str, list[Row]] = folder.settings()["columns"]
    rows, columns = _asked(folder)
    columns |= _recorded(folder, rows)
    scores, anchors = _scored(folder, rows, {name: [item["name"] for item in own] for name, own in metrics.items()})
    finished = columns["status"] == "ok"
    for values in scores.values():
        values[~finished] = np.nan
    samples = pd.DataFrame({"sample": _texts(list(rows)), **columns, **scores}, copy=False)
    return Measurements(samples, anchors)


def _asked(folder: RunFolder) -> tuple[dict[str, int], dict[str, Any]]:
    """The row of each planned sample's id, and what is asked of them."""
    rows: dict[str, int] = {}
    texts = {name: _Categories() for name in ("method", "set", "category", "template", "prompt")}
    numbers = {name: array("d") for name in ("subjects", "index", "seed")}
    for record in stream_lines(folder.path / PLAN):
        if rows.setdefault(record["id"], len(rows)) != len(numbers["subjects"]):
            continue
        subjects = record["subjects"]
        record["set"] = "+".join(subjects)
        for name, categories in texts.items():
            categories.codes.append(categories.code(record[name]))
        numbers["subjects"].append(len(subjects))
        numbers["index"].append(record["index"])
        numbers["seed"].append(np.nan if record["seed"] is None else record["seed"])
    return rows, {
        "method": texts["method"].made(),
        "set": texts["set"].made(),
        "subjects": np.frombuffer(numbers["subjects"]).astype(int),
        **{name: texts[name].made() for name in ("category", "template", "prompt")},
        "index": np.frombuffer(numbers["index"]).astype(int),
        "seed": pd.array(np.frombuffer(numbers["seed"]), dtype="Int64"),
    }


def _recorded(folder: RunFolder, rows: Mapping[str, int]) -> dict[str, Any]:
    """What is recorded of each planned sample: the last record counts."""
    status = _Categories()
    status.codes = array("i", [status.code("missing")]) * len(rows)
    numbers = {name: _missing(len(rows)) for name in NUMBERS}
    others: dict[str, list[Any]] = {name: [None] * len(rows) for name in RECORDED}
    for record in stream_lines(folder.path / SAMPLES):
        row = rows.get(record["id"])
        if row is None:
            continue
        status.codes[row] = status.code(record["status"])
        for name, values in numbers.items():
            value = record.get(name)
            values[row] = np.nan if value is None else value
        for name, found in others.items():
            found[row] = record.get(name)
    return {
        "status": status.made(),
        "seconds": np.frombuffer(numbers["seconds"]),
        "peak_memory_bytes": pd.array(np.frombuffer(numbers["peak_memory_bytes"]), dtype="Int64"),
        **{name: _texts(found) for name, found in others.items()},
    }


def _scored(
    folder: RunFolder, rows: Mapping[str, int], columns: Mapping[str, Sequence[str]]
) -> tuple[dict[str, np.ndarray], list[Row]]:
    """Each column's value by row, and the photographs' scores: the last record of each counts."""
    values = {metric: {name: _missing(len(rows)) for name in own} for metric, own in columns.items()}
    anchors: dict[tuple[str, str], Row | None] = {}
    for record in stream_lines(folder.path / SCORES):
        sample, metric = record["sample"], record["metric"]
        row = rows.get(sample)
        if row is not None:
            found = record.get("values", {})
            for name, column in values.get(metric, {}).items():
                value = found.get(name)
                column[row] = np.nan if value is None else value
        elif sample.startswith(ANCHOR):
            anchors[sample, metric] = record if record["status"] == "ok" else None
    measured = {name: np.frombuffer(column) for own in values.values() for name, column in own.items()}
    return measured, [record for record in anchors.values() if record is not None]


class _Categories:
    """Texts of which there are few, as numbers."""

    def __init__(self) -> None:
        self.codes = array("i")
        self._known: dict[str, int] = {}

    def code(self, text: str) -> int:
        return self._known.setdefault(text, len(self._known))

    def made(self) -> pd.Categorical:
        names = sorted(self._known)
        place = {name: number for number, name in enumerate(names)}
        order = np.array([place[name] for name in self._known], dtype=int)
        codes = np.frombuffer(self.codes, dtype=np.int32) if self.codes else np.empty(0, np.int32)
        return pd.Categorical.from_codes(order[codes], categories=_texts(names))


def _missing(count: int) -> array[float]:
    return array("d", [np.nan]) * count


def _texts(values: list[Any]) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _without_gaps(column: pd.Series) -> list[Any]:
    """Its values as Python has them, None where one is missing."""
    return [None if gap else value for value, gap in zip(column.tolist(), column.isna().tolist(), strict=True)]
