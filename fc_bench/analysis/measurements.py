"""The measurements of a run in columns; its records are read once, one at a time."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fc_bench.errors import UserError
from fc_bench.run_folder.json_lines import records_at, stream_blocks
from fc_bench.run_folder.record_shapes import ANCHOR, Measured, Planned, Sampled
from fc_bench.run_folder.records import PLAN, RUN, SAMPLES, SCORES, RunFolder

Row = dict[str, Any]

RECORDED = ("image", "same_image_as", "attention")
"""Optional fields of a sample's record, in addition to status and costs, with their missing values."""
NOWHERE = -1
"""Place of a missing record."""
_SCORED, _FAILED = 1, 2


@dataclass(frozen=True)
class Scored:
    """A metric's last scores by row of the samples: where the record lies (`NOWHERE`: none), and which are failures."""

    places: np.ndarray
    failed: np.ndarray


@dataclass(frozen=True)
class Measurements:
    """The content of a run folder, read once; the records stay on disk and can be read again by their places.

    `samples`: one row per planned sample, in the plan's order; `anchors`: the scores of the suite's own photographs.
    `places` are the positions of the samples' last records, `scores` maps each metric to its scores; `failed_scores`
    counts the failures among all last scores. Columns of the samples: sample (its id), method, set, subjects (their
    number), category, template, prompt, index, seed, status (ok, error, missing), seconds, peak_memory_bytes, image,
    same_image_as, attention, and the metrics'. Repeated texts are sorted categories; a value that could not be measured
    is missing, never 0.
    """

    folder: RunFolder
    samples: pd.DataFrame
    anchors: Sequence[Row]
    places: np.ndarray
    scores: Mapping[str, Scored]
    failed_scores: int

    def rows(self) -> list[Row]:
        """The samples as one dict each, with None for missing values."""
        return rows_of(self.samples)

    def sample_records(self, rows: Sequence[int] | np.ndarray) -> Iterator[Row | None]:
        """The records of the samples in these rows, one at a time; None for a sample without a record."""
        return _at(self.folder.path / SAMPLES, self.places[rows])

    def score_records(self, metric: str, rows: Sequence[int] | np.ndarray) -> Iterator[Row | None]:
        """The records of a metric's scores of these rows, one at a time; None for a sample without a score."""
        scored = self.scores.get(metric)
        places = np.full(len(rows), NOWHERE) if scored is None else scored.places[rows]
        return _at(self.folder.path / SCORES, places)


def rows_of(samples: pd.DataFrame) -> list[Row]:
    """Samples in columns as one dict each, with None for missing values."""
    columns = [_without_gaps(samples[name]) for name in samples.columns]
    return [dict(zip(samples.columns, values, strict=True)) for values in zip(*columns, strict=True)]


def read_measurements(folder: RunFolder) -> Measurements:
    """Plan, samples and scores of a run folder; raises UserError for a damaged record."""
    settings = folder.settings()
    metrics = {name: [item["name"] for item in own] for name, own in settings["columns"].items()}
    rows, columns = _requested(folder)
    _refuse_strangers(folder, settings, columns)
    recorded, places = _recorded(folder, rows)
    columns |= recorded
    scores = _Scores(rows, metrics)
    scores.read(folder)
    values = scores.values()
    finished = columns["status"] == "ok"
    for column in values.values():
        column[~finished] = np.nan
    samples = pd.DataFrame({"sample": _texts(list(rows)), **columns, **values}, copy=False)
    there = scores.anchors()
    anchors = list(records_at(folder.path / SCORES, there)) if there else []
    return Measurements(folder, samples, anchors, places, scores.scored(), scores.failures())


def _at(path: Path, places: np.ndarray) -> Iterator[Row | None]:
    every = places.tolist()
    there = records_at(path, (place for place in every if place != NOWHERE))
    for place in every:
        yield next(there) if place != NOWHERE else None


def _refuse_strangers(folder: RunFolder, settings: Mapping[str, Any], columns: Mapping[str, Any]) -> None:
    """Raise UserError if the plan names a method or a subject that run.json does not have."""
    known = {entry["id"] for entry in settings["suite"]["subjects"]}
    subjects = dict.fromkeys(name for key in columns["set"].categories for name in key.split("+"))
    strangers = [f'the method "{name}"' for name in columns["method"].categories if name not in settings["methods"]]
    strangers += [f'the subject "{name}"' for name in subjects if name not in known]
    if strangers:
        raise UserError(
            f"{folder.path / PLAN} names {strangers[0]}, which is not in {RUN}; restore one of the two files."
        )


def _requested(folder: RunFolder) -> tuple[dict[str, int], dict[str, Any]]:
    """The row of each planned sample's id, and the columns of the plan."""
    rows: dict[str, int] = {}
    texts = {name: _Categories() for name in ("method", "set", "category", "template", "prompt")}
    sizes, indexes, seeds, missing = array("i"), array("i"), array("d"), np.nan
    for _, records in stream_blocks(folder.path / PLAN, Planned):
        new: list[Planned] = []
        for one in records:
            if rows.setdefault(one.id, len(rows)) == len(sizes) + len(new):
                new.append(one)
        for name in ("method", "category", "template", "prompt"):
            texts[name].extend([getattr(one, name) for one in new])
        texts["set"].extend(["+".join(one.subjects) for one in new])
        sizes.extend([len(one.subjects) for one in new])
        indexes.extend([one.index for one in new])
        seeds.extend([missing if one.seed is None else one.seed for one in new])
    return rows, {
        "method": texts["method"].made(),
        "set": texts["set"].made(),
        "subjects": np.array(sizes, dtype=int),
        **{name: texts[name].made() for name in ("category", "template", "prompt")},
        "index": np.array(indexes, dtype=int),
        "seed": pd.array(np.array(seeds), dtype="Int64"),
    }


def _recorded(folder: RunFolder, rows: Mapping[str, int]) -> tuple[dict[str, Any], np.ndarray]:
    """The recorded fields of each planned sample and the positions of the records; the last record counts."""
    status = _Categories()
    status.codes = array("i", [status.code("missing")]) * len(rows)
    places = array("q", [NOWHERE]) * len(rows)
    seconds, peaks, gap = _missing(len(rows)), _missing(len(rows)), np.nan
    nothing: list[str | None] = [None]
    images, origins, maps = (nothing * len(rows) for _ in RECORDED)
    for starts, records in stream_blocks(folder.path / SAMPLES, Sampled):
        for place, one in zip(starts, records, strict=True):
            row = rows.get(one.id)
            if row is None:
                continue
            status.codes[row] = status.code(one.status)
            places[row] = place
            seconds[row] = gap if one.seconds is None else one.seconds
            peaks[row] = gap if one.peak_memory_bytes is None else one.peak_memory_bytes
            images[row], origins[row], maps[row] = one.image, one.same_image_as, one.attention
    return {
        "status": status.made(),
        "seconds": np.frombuffer(seconds),
        "peak_memory_bytes": pd.array(np.frombuffer(peaks), dtype="Int64"),
        **{name: _texts(own) for name, own in zip(RECORDED, (images, origins, maps), strict=True)},
    }, _whole(places)


class _Scores:
    """Each column's values by row, their records' positions, and the photographs' scores; the last record wins."""

    def __init__(self, rows: Mapping[str, int], metrics: Mapping[str, Sequence[str]]) -> None:
        self._rows = rows
        self._columns = {metric: [(name, _missing(len(rows))) for name in own] for metric, own in metrics.items()}
        self._places = {metric: array("q", [NOWHERE]) * len(rows) for metric in metrics}
        self._states = {metric: bytearray(len(rows)) for metric in metrics}
        self._others: dict[tuple[str, str], bool] = {}
        """Whether other scores failed: of samples outside the plan, or by metrics outside the run."""
        self._anchors: dict[tuple[str, str], int] = {}
        """Positions of the photographs' scores that are not failures."""

    def read(self, folder: RunFolder) -> None:
        """Read all records; raises UserError for a damaged one."""
        rows, gap = self._rows, np.nan
        known = {name: (own, self._places[name], self._states[name]) for name, own in self._columns.items()}
        for starts, records in stream_blocks(folder.path / SCORES, Measured):
            for place, one in zip(starts, records, strict=True):
                row, own, fine = rows.get(one.sample), known.get(one.metric), one.status == "ok"
                if row is not None and own is not None:
                    columns, places, states = own
                    found = one.values or {}
                    for name, column in columns:
                        value = found.get(name)
                        column[row] = gap if value is None else value
                    places[row] = place
                    states[row] = _SCORED if fine else _FAILED
                    continue
                self._others[one.sample, one.metric] = not fine
                if row is None and one.sample.startswith(ANCHOR):
                    self._anchors[one.sample, one.metric] = place if fine else NOWHERE

    def values(self) -> dict[str, np.ndarray]:
        """Column -> its values by row."""
        return {name: np.frombuffer(column) for own in self._columns.values() for name, column in own}

    def scored(self) -> dict[str, Scored]:
        """Metric -> the positions of its records."""
        return {
            metric: Scored(_whole(places), np.frombuffer(self._states[metric], dtype=np.uint8) == _FAILED)
            for metric, places in self._places.items()
        }

    def anchors(self) -> list[int]:
        """Positions of the photographs' scores."""
        return [place for place in self._anchors.values() if place != NOWHERE]

    def failures(self) -> int:
        """Number of failures among all last records."""
        return sum(states.count(_FAILED) for states in self._states.values()) + sum(self._others.values())


class _Categories:
    """Repeated texts as numbers."""

    def __init__(self) -> None:
        self.codes = array("i")
        self.known: dict[str, int] = {}

    def code(self, text: str) -> int:
        return self.known.setdefault(text, len(self.known))

    def extend(self, texts: Sequence[str]) -> None:
        """Add the codes of these texts."""
        for text in dict.fromkeys(texts):
            self.code(text)
        self.codes.extend(map(self.known.__getitem__, texts))

    def made(self) -> pd.Categorical:
        names = sorted(self.known)
        place = {name: number for number, name in enumerate(names)}
        order = np.array([place[name] for name in self.known], dtype=int)
        codes = np.frombuffer(self.codes, dtype=np.int32) if self.codes else np.empty(0, np.int32)
        return pd.Categorical.from_codes(order[codes], categories=_texts(names))


def _missing(count: int) -> array[float]:
    return array("d", [np.nan]) * count


def _whole(places: array[int]) -> np.ndarray:
    return np.frombuffer(places, dtype=np.int64) if places else np.empty(0, np.int64)


def _texts(values: list[Any]) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _without_gaps(column: pd.Series) -> list[Any]:
    """The values as Python objects, None for missing ones."""
    return [None if gap else value for value, gap in zip(column.tolist(), column.isna().tolist(), strict=True)]
