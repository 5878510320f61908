"""Two runs side by side in columns: their common samples, and both runs' measurements of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from fc_bench.analysis.aggregate import units_of_rows, values_by_set
from fc_bench.analysis.measurements import Row, read_measurements
from fc_bench.analysis.statistics import Units
from fc_bench.protocols import Column
from fc_bench.run_folder.records import RunFolder

_NEEDED = ("method", "set", "subjects", "template", "index", "status", "seconds", "peak_memory_bytes", "image")


class Side:
    """One of two runs: its samples by method and number of subjects, and its jobs."""

    def __init__(self, folder: RunFolder, columns: Sequence[str]) -> None:
        """`columns` are the quality columns to compare. Raises UserError for a damaged record."""
        samples = read_measurements(folder).samples
        watched = samples.loc[samples["attention"].notna(), "method"].unique()
        self.watched: frozenset[str] = frozenset(watched)
        """Methods whose attention was recorded."""
        self._samples = samples[[*_NEEDED, *(name for name in columns if name in samples)]]
        self._rows = self._samples.groupby(["method", "subjects"], observed=True).indices
        self._jobs = folder.jobs()

    def sizes(self, method: str) -> list[int]:
        """The method's numbers of subjects."""
        return sorted(int(size) for label, size in self._rows if label == method)  # type: ignore[misc]

    def of(self, method: str, subjects: int) -> pd.DataFrame:
        """The samples of a method on sets of this number of subjects."""
        return self._samples.take(self._rows.get((method, subjects), np.empty(0, dtype=int)))

    def jobs(self, method: str) -> dict[str, Row]:
        """The finished customizations of a method by subject set."""
        return {name: job for (label, name), job in self._jobs.items() if label == method and job["status"] == "ok"}


@dataclass(frozen=True)
class Differences:
    """New minus base by subject set, and both means over the sets, over the samples that both runs measured."""

    by_set: Mapping[str, np.ndarray]
    base: float | None
    new: float | None

    @property
    def pairs(self) -> int:
        """Number of samples that both runs measured."""
        return sum(map(len, self.by_set.values()))


@dataclass(frozen=True)
class Pair:
    """One method of two runs on sets of one size."""

    base: pd.DataFrame
    new: pd.DataFrame
    _resting: dict[bool, Units] = field(default_factory=dict, init=False, repr=False)
    """The independent units of all subject sets, for columns of the image alone and for others."""

    def has_values(self, column: str) -> bool:
        """Whether the base has the column at all (it has no mixing of one subject, for example)."""
        return bool(self.base[column].notna().any())

    def differences(self, column: str) -> Differences:
        """The differences of the samples that both runs measured, in the order of subject set, prompt and index."""
        before, after = (
            _measured(samples, column, keys) for samples, keys in zip(self._sides, self._keys, strict=True)
        )
        shared, one, two = np.intersect1d(before.keys, after.keys, assume_unique=True, return_indices=True)
        sets, starts = np.unique(shared // self._questions, return_index=True)
        base, new = before.values[one], after.values[two]
        parts = [np.split(values, starts[1:]) if len(sets) else [] for values in (new - base, base, new)]
        names = [self._sets[number] for number in sets]
        return Differences(dict(zip(names, parts[0], strict=True)), _mean_of_means(parts[1]), _mean_of_means(parts[2]))

    def units(self, column: Column, names: Sequence[str]) -> Units:
        """The independent units of each of these subject sets."""
        alone = column.of_image_alone
        if alone not in self._resting:
            sides = self._sides if alone else self._sides[:1]
            sharing = pd.concat([samples[["set", "image"]].astype({"set": object}) for samples in sides])
            self._resting[alone] = units_of_rows(sharing, column)
        return {name: self._resting[alone][name] for name in names}

    def incomplete(self) -> str:
        """How many samples of the base are missing on either side; empty if none is."""
        base, new = self._keys
        missing = int((self.base["status"] != "ok").sum())
        lost = int(np.isin(base, new[(self.new["status"] == "ok").to_numpy()], invert=True).sum())
        if not missing and not lost:
            return ""
        return f"of {len(self.base)} samples, {missing} are missing in base and {lost} in new"

    @property
    def _sides(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        return self.base, self.new

    @cached_property
    def _sets(self) -> list[str]:
        return _texts(self._sides, "set")

    @cached_property
    def _questions(self) -> int:
        """Larger than the number of prompts and indices of a subject set."""
        return len(_texts(self._sides, "template")) * max(1, len(self._indexes))

    @cached_property
    def _indexes(self) -> list[int]:
        return sorted({int(index) for samples in self._sides for index in samples["index"].unique()}, key=str)

    @cached_property
    def _keys(self) -> tuple[np.ndarray, np.ndarray]:
        """A number for the prompt and index of each sample, equal on both sides and ordered like the texts."""
        templates, count = _texts(self._sides, "template"), max(1, len(self._indexes))
        base, new = (
            (_codes(samples["set"], self._sets) * len(templates) + _codes(samples["template"], templates)) * count
            + pd.Index(self._indexes, dtype=np.int64).get_indexer(samples["index"].to_numpy(dtype=np.int64))
            for samples in self._sides
        )
        return base, new


def costs_by_set(side: Side, method: str, samples: pd.DataFrame, column: str) -> dict[str, float]:
    """A cost of each subject set with samples."""
    finished = samples.loc[samples["status"] == "ok"]
    jobs = side.jobs(method)
    found: dict[str, float | None] = {}
    if column == "image_seconds":
        found |= {name: statistics.median(own.tolist()) for name, own in values_by_set(finished, "seconds").items()}
    elif column == "peak_memory_gib":
        peaks = {name: own.tolist() for name, own in values_by_set(finished, "peak_memory_bytes").items()}
        for name in finished["set"].unique():
            of_job = jobs.get(name, {}).get("peak_memory_bytes")
            own = [*peaks.get(name, []), *([of_job] if of_job is not None else [])]
            found[name] = max(own) / 2**30 if own else None
    else:
        field = {"customize_seconds": "seconds", "artefact_mib": "artefact_bytes"}.get(column, column)
        for name in finished["set"].unique():
            value = jobs.get(name, {}).get(field)
            found[name] = value / 2**20 if value is not None and column == "artefact_mib" else value
    return {name: float(value) for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class _Values:
    """Values by the numbers of their samples, ascending."""

    keys: np.ndarray
    values: np.ndarray


def _measured(samples: pd.DataFrame, column: str, keys: np.ndarray) -> _Values:
    """The values of a column; of samples with the same number, the last."""
    if column not in samples:
        return _Values(np.empty(0, np.int64), np.empty(0))
    values = samples[column].to_numpy(dtype=float)
    there = np.flatnonzero(~np.isnan(values))
    order = there[np.argsort(keys[there], kind="stable")]
    ordered = keys[order]
    last = order[np.append(ordered[1:] != ordered[:-1], True)] if len(order) else order
    return _Values(keys[last], values[last])


def _texts(sides: Sequence[pd.DataFrame], name: str) -> list[str]:
    return sorted({text for samples in sides for text in samples[name].cat.categories})


def _codes(texts: pd.Series, names: Sequence[str]) -> np.ndarray:
    """The positions of the names."""
    place = {name: number for number, name in enumerate(names)}
    numbers = np.array([place[name] for name in texts.cat.categories], dtype=np.int64)
    return numbers[texts.cat.codes.to_numpy()]


def _mean_of_means(parts: Sequence[np.ndarray]) -> float | None:
    return statistics.fmean(statistics.fmean(own.tolist()) for own in parts) if parts else None
