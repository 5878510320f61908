"""The one frame that tables and figures are made of: the results of one or several runs, a row each.

    runs = read_runs([Path("runs/pocket"), Path("runs/alpha-0.5")])
    for together in alike(runs):
        table = frame(together)

Runs stand in one frame only when they asked and measured the same; `alike` sorts them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fc_bench.analysis.aggregate import COST_COLUMNS, columns_of, result_rows
from fc_bench.analysis.comparability import Obstacles
from fc_bench.analysis.measurements import Measurements, Row, read_measurements
from fc_bench.errors import UserError
from fc_bench.protocols import Column
from fc_bench.reports.escaping import plain
from fc_bench.run_folder.records import RunFolder

ANCHORS = {"ceiling": "ceiling (own photographs)", "floor": "floor (other person)"}
"""Rows of the suite's own photographs, and their titles."""


@dataclass(frozen=True)
class RequestedSamples:
    """The requested samples of a method, by (subject set, prompt template, index): their number and their hash."""

    count: int
    sha256: str

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True)
class Run:
    """A run folder, as a report reads it, each part once; `name` distinguishes it from the others of the report."""

    folder: RunFolder
    name: str
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Cache of results of this run and the others of its report."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Content of run.json."""
        return self.folder.settings()

    @cached_property
    def columns(self) -> list[Column]:
        """The metrics' columns as recorded."""
        return columns_of(self.folder)

    @cached_property
    def measured(self) -> Measurements:
        """The run's records in columns."""
        return read_measurements(self.folder)

    @property
    def samples(self) -> pd.DataFrame:
        """One row per planned sample, as `Measurements.samples`."""
        return self.measured.samples

    @cached_property
    def requested_samples(self) -> dict[tuple[int, str], RequestedSamples]:
        """(number of subjects, method) -> its requested samples."""
        planned = self.samples[["subjects", "method", "set", "template", "index"]]
        parts = planned.groupby(["subjects", "method"], observed=True, sort=False)
        return {(int(subjects), str(method)): _requested_samples(own) for (subjects, method), own in parts}  # type: ignore[misc]

    @cached_property
    def jobs(self) -> dict[tuple[str, str], Row]:
        """The last record of each job by (method, subject set)."""
        return self.folder.jobs()

    @cached_property
    def results(self) -> list[Row]:
        """The results, one row per value."""
        return result_rows(self.folder, self.measured)


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs in these folders, named after them; raises UserError if one is not a run folder or is given twice."""
    for path in paths:
        RunFolder(path).settings()
    return [Run(RunFolder(path), name) for path, name in zip(paths, run_names(paths), strict=True)]


def run_names(paths: Sequence[Path]) -> list[str]:
    """The folders' own names; with their parents if two are the same. Raises UserError if one is given twice."""
    resolved = [path.resolve() for path in paths]
    for path in paths:
        if resolved.count(path.resolve()) > 1:
            raise UserError(f"The run folder {path} is given twice; name it once.")
    depth = 1
    while depth < max((len(path.parts) for path in resolved), default=1):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(names):
            break
        depth += 1
    return [plain("/".join(path.parts[-depth:])) for path in resolved]


def alike(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """The runs in groups of comparable ones, in the given order.

    Runs of a group have the same suite (name, version, photographs), weights of the scorers and settings of the face
    models. Their columns of the same name have the same definition.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_request(run), []).append(run)
    split: list[list[Run]] = []
    for group in groups.values():
        own: list[list[Run]] = []
        for run in group:
            home = next((other for other in own if all(_same_columns(run, member) for member in other)), None)
            if home is None:
                own.append([run])
            else:
                home.append(run)
        split += own
    return [tuple(group) for group in split]


def columns(runs: Sequence[Run]) -> list[Column]:
    """The quality columns of comparable runs, in the order of the first run that has each."""
    found = {column.name: column for run in reversed(runs) for column in run.columns}
    order = dict.fromkeys(column.name for run in runs for column in run.columns)
    return [found[name] for name in order]


def rows(runs: Sequence[Run]) -> list[Row]:
    """The results of comparable runs (see `alike`): a row per label, number of subjects, category and column.

    Keys: `run`; `method` as recorded; `label`, the method's name in this report, with its run if several runs have it;
    `kind` ("method" or "anchor": ceiling and floor); `subjects`; `category` ("all": over all prompts); `column`;
    `mean`, `low` and `high` (95 % interval), None if missing; `n_sets`; `n_ok` of `n_total`. An anchor that several
    runs share appears once.
    """
    names = labels(runs)
    made: list[Row] = []
    seen: set[str] = set()
    for run in runs:
        for row in run.results:
            label = names[run.name, row["method"]]
            anchor = row["method"] in ANCHORS and row["method"] not in run.settings["methods"]
            content = json.dumps([label, row])
            if not (anchor and content in seen):
                kind = "anchor" if anchor else "method"
                made.append({"run": run.name, "method": row["method"], "label": label, "kind": kind, **row})
            seen.add(content)
    return made


def frame(runs: Sequence[Run]) -> pd.DataFrame:
    """`rows` as a frame, NaN for missing numbers."""
    order = ["run", "method", "label", "kind", "subjects", "category", "column", "mean", "low", "high"]
    made = pd.DataFrame(rows(runs), columns=[*order, "n_sets", "n_ok", "n_total"])
    return made.astype({"mean": float, "low": float, "high": float})


def samples(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per planned sample of comparable runs: as `Measurements.samples`, with `run` and `label`."""
    names = labels(runs)
    parts = []
    for run in runs:
        own = run.samples
        label = own["method"].astype(object).map({method: names[run.name, method] for method in own["method"].unique()})
        parts.append(own.assign(run=run.name, label=label))
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def incomparable_costs(runs: Sequence[Run]) -> dict[str, str]:
    """Cost column -> the reason why its values of these runs cannot be compared."""
    found: dict[str, str] = {}
    for one, other in combinations(runs, 2):
        obstacles = Obstacles(one.settings, other.settings)
        for column in COST_COLUMNS:
            reason = obstacles.to_cost(column.name)
            if reason:
                found.setdefault(column.name, f"{one.name} and {other.name}: {reason}")
    return found


def requested_samples(runs: Sequence[Run]) -> dict[int, dict[str, RequestedSamples]]:
    """Number of subjects -> label -> its requested samples."""
    found: dict[int, dict[str, RequestedSamples]] = {}
    names = labels(runs)
    for run in runs:
        for (subjects, method), own in run.requested_samples.items():
            found.setdefault(subjects, {})[names[run.name, method]] = own
    return {size: found[size] for size in sorted(found)}


def paired_samples(runs: Sequence[Run]) -> pd.DataFrame:
    """The samples in columns for `differences.paired_rows`.

    The label becomes `method`, the recorded method becomes `recorded`, and images get the run's name.
    """
    made = samples(runs)
    if len(runs) > 1:
        made["image"] = made["image"].where(made["image"].isna(), made["run"] + "/" + made["image"])
    return made.assign(method=made["label"], recorded=made["method"].astype(object))


def labels(runs: Sequence[Run]) -> dict[tuple[str, str], str]:
    """(run, method or anchor) -> its name in the report: the method's label, with the run if several have it.

    Anchors are named after their run only if runs disagree about them, because they come from the same photographs.
    """
    own = {(run.name, method): plain(method) for run in runs for method in run.settings["methods"]}
    count: dict[str, int] = {}
    for label in own.values():
        count[label] = count.get(label, 0) + 1
    named = {key: label if count[label] == 1 else f"{label} ({key[0]})" for key, label in own.items()}
    for anchor, title in ANCHORS.items():
        anchors = {run.name: _anchor(run, anchor) for run in runs}
        agree = len({text for text in anchors.values() if text != "[]"}) <= 1
        for run in runs:
            named.setdefault((run.name, anchor), title if agree else f"{title} ({run.name})")
    return named


def who(subjects: int) -> str:
    """The number of subjects in words, for titles."""
    return "one subject" if subjects == 1 else f"{subjects} subjects"


def _requested_samples(planned: pd.DataFrame) -> RequestedSamples:
    """The samples of one method and number of subjects; the hash depends on neither order nor repetition."""
    texts, codes = [], []
    for name in ("set", "template"):
        used, own = np.unique(planned[name].cat.codes.to_numpy(), return_inverse=True)
        texts.append(planned[name].cat.categories[used].tolist())
        codes.append(own)
    questions = np.unique(np.stack([*codes, planned["index"].to_numpy()]), axis=1)
    content = json.dumps(texts).encode() + np.ascontiguousarray(questions, dtype="<i8").tobytes()
    return RequestedSamples(questions.shape[1], hashlib.sha256(content).hexdigest())


def _anchor(run: Run, anchor: str) -> str:
    return json.dumps([row for row in run.results if row["method"] == anchor])


def _request(run: Run) -> str:
    suite = run.settings["suite"]
    keys = ("name", "version", "photograph_digests")
    parts = [{key: suite[key] for key in keys}, run.settings.get("scorers"), run.settings.get("faces")]
    return json.dumps(parts, sort_keys=True)


def _same_columns(one: Run, other: Run) -> bool:
    theirs = {column.name: column.definition() for column in other.columns}
    return all(column.definition() == theirs.get(column.name, column.definition()) for column in one.columns)


def image_sizes(settings: Mapping[str, Any]) -> str:
    """The sizes of a run's images: the sampler's resolution, and what prompts ask for in its place.

    A cost run has no suite.
    """
    suite, side = settings.get("suite", {}), settings["sampler"]["resolution"]
    parts = [part for part in (suite.get("single"), suite.get("multi"), *suite.get("sets", ())) if part]
    entries = (entry for part in parts for own in part["prompts"].values() for entry in own)
    sizes = sorted({tuple(entry["size"]) for entry in entries if isinstance(entry, dict) and "size" in entry})
    others = ", ".join(f"{width} x {height}" for width, height in sizes)
    return f"{side} x {side} pixels" + (f" ({others} where a prompt asks for it)" if others else "")
