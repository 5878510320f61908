"""Comparing two runs: paired differences of what both have measured, and a verdict on each."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd

from fc_bench.aggregate import COST_COLUMNS, Row, columns_of, sample_rows, units_of_rows
from fc_bench.errors import UserError
from fc_bench.gate import CostTolerance, Gate, QualityTolerance
from fc_bench.model.yaml_file import nearest
from fc_bench.protocols import Column
from fc_bench.records import RunFolder
from fc_bench.statistics import LEVEL, Estimate, Units, cluster_bootstrap, paired_differences, units_of

Verdict = Literal["better", "worse", "changed", "unchanged", "not comparable"]
Values = dict[tuple[str, ...], float]
Grouped = dict[tuple[str, int], list[Row]]
"""Samples by method and number of subjects."""

DETERMINISTIC = ("steps", "artefact_mib")
"""Cost columns that do not depend on the machine."""
WATCHED = ("image_seconds", "peak_memory_gib")
"""Cost columns that watching a method's attention adds to."""


@dataclass(frozen=True)
class Comparison:
    """One column of one method on sets of `subjects` subjects, new beside base.

    `difference` is new minus base (quality), or the ratio of new to base minus one (cost: `relative`), over `pairs`
    samples (cost: subject sets) that both have, of `planned`. `incomplete` says what is missing, `reason` why there is
    no comparison.
    """

    method: str
    new_method: str
    subjects: int
    column: Column
    base: float | None
    new: float | None
    difference: Estimate
    relative: bool
    pairs: int
    planned: int
    tolerance: float | None
    alarm: bool
    verdict: Verdict
    incomplete: str = ""
    reason: str = ""

    @property
    def gated(self) -> bool:
        """Whether the gate looks at it."""
        return self.tolerance is not None


@dataclass(frozen=True)
class Report:
    """All comparisons of two runs, the level of their intervals, and what a reader has to know beside them."""

    comparisons: tuple[Comparison, ...]
    level: float
    false_alarms: float
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 nothing is refused, 1 a gated difference is, 3 a gated one cannot be compared, 4 samples are missing."""
        gated = [item for item in self.comparisons if item.gated]
        if any(item.alarm for item in gated):
            return 1
        if any(item.incomplete for item in gated):
            return 4
        return 3 if not gated or any(item.verdict == "not comparable" for item in gated) else 0


@dataclass(frozen=True)
class _Question:
    """One comparison before it is made."""

    base_method: str
    new_method: str
    subjects: int
    column: Column
    allowed: QualityTolerance | CostTolerance | None


def compare(base: RunFolder, new: RunFolder, gate: Gate, renamed: Mapping[str, str] | None = None) -> Report:
    """Pair the samples of two runs by (subject set, prompt, index) and judge every column of every method.

    Methods are paired by their label, or as `renamed` says (base's label -> new's). A difference is `worse` or `better`
    when its whole interval lies beyond the tolerance; the interval is a cluster bootstrap of the paired differences at
    the gate's level. Raises UserError when a folder is no run, or a name in the gate or in `renamed` is unknown.
    """
    settings, other = base.settings(), new.settings()
    pairs, notes = _paired_methods(settings, other, renamed or {})
    rows, new_rows = _grouped(sample_rows(base)), _grouped(sample_rows(new))
    columns = columns_of(base)
    allowed_quality, allowed_cost = _allowances(gate, settings, columns, [one for one, _ in pairs])
    questions = []
    for one, two in pairs:
        gated = gate.methods is None or one in gate.methods
        for size in sorted(size for method, size in rows if method == one):
            for column in columns:
                questions.append(_Question(one, two, size, column, allowed_quality.get(column.name) if gated else None))
            for column in COST_COLUMNS:
                questions.append(_Question(one, two, size, column, allowed_cost.get(column.name) if gated else None))
    measured = {column.name: column for column in columns}
    gated_count = sum(
        1 for question in questions if question.allowed is not None and _has_values(question, rows, measured)
    )
    level = 1 - gate.false_alarms / gated_count if gated_count else LEVEL
    obstacles = Obstacles(settings, other)
    comparisons = []
    for question in questions:
        if not _has_values(question, rows, measured):
            continue
        if question.column.name in measured:
            made = _quality(question, rows, new_rows, obstacles, level)
        else:
            made = _cost(question, base, new, rows, new_rows, obstacles, level)
        if made is not None:
            comparisons.append(made)
    notes += obstacles.notes()
    return Report(tuple(comparisons), level, gate.false_alarms, tuple(notes))


def _grouped(rows: Sequence[Row]) -> Grouped:
    groups: Grouped = {}
    for row in rows:
        groups.setdefault((row["method"], row["subjects"]), []).append(row)
    return groups


def _has_values(question: _Question, rows: Grouped, measured: Mapping[str, Column]) -> bool:
    """Whether the base has the column for this method and size at all (mixing of one subject, say, it has not)."""
    own = rows.get((question.base_method, question.subjects), [])
    return question.column.name not in measured or any(row[question.column.name] is not None for row in own)


def _quality(question: _Question, rows: Grouped, new_rows: Grouped, obstacles: Obstacles, level: float) -> Comparison:
    column = question.column
    base = rows.get((question.base_method, question.subjects), [])
    new = new_rows.get((question.new_method, question.subjects), [])
    before, after = _values(base, column), _values(new, column)
    differences = paired_differences(before, after)
    pairs = sum(map(len, differences.values()))
    sharing = pd.DataFrame([*base, *new] if column.of_image_alone else base, columns=["set", "image"])
    estimate = cluster_bootstrap(differences, _within(units_of_rows(sharing, column), differences), level=level)
    estimate = _certain(estimate, differences)
    there = {_key(other) for other in new if other["status"] == "ok"}
    lost = [row for row in base if _key(row) not in there]
    missing = [row for row in base if row["status"] != "ok"]
    incomplete = ""
    if missing or lost:
        incomplete = f"of {len(base)} samples {len(missing)} are missing in base, {len(lost)} in new"
    return _judged(
        question,
        _mean_over_sets({key: before[key] for key in before.keys() & after.keys()}),
        _mean_over_sets({key: after[key] for key in before.keys() & after.keys()}),
        estimate,
        pairs,
        len(base),
        obstacles.to_quality(column),
        incomplete,
    )


def _cost(
    question: _Question,
    base: RunFolder,
    new: RunFolder,
    rows: Grouped,
    new_rows: Grouped,
    obstacles: Obstacles,
    level: float,
) -> Comparison | None:
    before = _cost_values(base, rows, question.base_method, question.subjects, question.column.name)
    after = _cost_values(new, new_rows, question.new_method, question.subjects, question.column.name)
    if not before and not after:
        return None
    shared = sorted(before.keys() & after.keys())
    of_methods = ((question.base_method, rows), (question.new_method, new_rows))
    reason = obstacles.to_cost(question.column.name)
    watched = [
        any(row["attention"] for (method, _), own in grouped.items() if method == name for row in own)
        for name, grouped in of_methods
    ]
    if question.column.name in WATCHED and watched[0] != watched[1]:
        reason = reason or "attention was watched in one run alone"
    if question.column.name in WATCHED:
        reason = reason or obstacles.to_shared_prefixes(question.base_method, question.new_method)
    ratios = {key[0]: [_log_ratio(before[key], after[key])] for key in shared}
    appeared = any(math.isinf(value) for (value,) in ratios.values())
    if appeared:
        reason = reason or "it is zero in one run and not in the other, a ratio says nothing"
        ratios = {}
    estimate = cluster_bootstrap(ratios, units_of({name: name.split("+") for name in ratios}), level=level)
    mean, low, high = (
        None if value is None else math.expm1(value) for value in (estimate.mean, estimate.low, estimate.high)
    )
    relative = Estimate(mean, low, high, estimate.clusters)
    relative = _certain(relative, ratios)
    lost = len(before.keys() ^ after.keys())
    return _judged(
        question,
        statistics.fmean(before[key] for key in shared) if shared else None,
        statistics.fmean(after[key] for key in shared) if shared else None,
        relative,
        len(ratios),
        len(before.keys() | after.keys()),
        reason,
        f"{lost} subject sets are measured in one run alone" if lost else "",
        relative=True,
    )


def _certain(estimate: Estimate, differences: Mapping[str, Sequence[float]]) -> Estimate:
    """Values that are equal one by one need no interval to be unchanged, however few they are."""
    same = bool(differences) and not any(value for values in differences.values() for value in values)
    return Estimate(0.0, 0.0, 0.0, estimate.clusters) if same else estimate


def _judged(
    question: _Question,
    base: float | None,
    new: float | None,
    difference: Estimate,
    pairs: int,
    planned: int,
    reason: str,
    incomplete: str,
    relative: bool = False,
) -> Comparison:
    tolerance = question.allowed.tolerance if question.allowed is not None else None
    margin = tolerance or 0.0
    verdict: Verdict = "unchanged"
    if reason:
        verdict = "not comparable"
    elif difference.low is None or difference.high is None:
        verdict = "not comparable"
        missing = "no pair of values" if not pairs else "no interval from fewer than three independent subject sets"
        reason = incomplete or missing
    elif difference.low > margin or difference.high < -margin:
        rose = difference.low > margin
        better = question.column.higher_is_better
        verdict = "changed" if better is None else "better" if rose == better else "worse"
    both = isinstance(question.allowed, QualityTolerance) and question.allowed.sides == "both"
    alarm = tolerance is not None and (verdict in ("worse", "changed") or (both and verdict == "better"))
    return Comparison(
        question.base_method,
        question.new_method,
        question.subjects,
        question.column,
        base,
        new,
        difference,
        relative,
        pairs,
        planned,
        tolerance,
        alarm,
        verdict,
        incomplete,
        reason,
    )


class Obstacles:
    """Why columns of two runs cannot be compared, from their settings (run.json)."""

    def __init__(self, base: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self._base, self._new = base, new
        asked = {"name": "suite", "version": "version of the suite", "photograph_digests": "photographs"}
        self._asked = [what for key, what in asked.items() if base["suite"][key] != new["suite"][key]]

    def to_quality(self, column: Column) -> str:
        """Empty when the runs asked and measured the same."""
        different = list(self._asked)
        metric = next(name for name, columns in self._base["columns"].items() if column.name in _names(columns))
        theirs = {item["name"]: asdict(Column(**item)) for item in self._new["columns"].get(metric, [])}
        if column.name not in theirs:
            return "the new run has not measured it"
        if theirs[column.name] != asdict(column):
            different.append("definition of the column")
        parts = ("clip", "faces", *self._base["metrics"].get(metric, {}).get("scorers", ()))
        before, after = (run.get("scorers", {}) for run in (self._base, self._new))
        if any(before.get(part) != after.get(part) for part in parts):
            different.append("scoring weights")
        if self._base.get("faces") != self._new.get("faces"):
            different.append("settings of the face models")
        return _listed(different)

    def to_cost(self, column: str) -> str:
        """Empty when both were measured on equal machines under equal conditions."""
        different = list(self._asked)
        if self._base["dtype"] != self._new["dtype"]:
            different.append("number format")
        if column not in DETERMINISTIC:
            if self._base["device"] != self._new["device"] or _machines(self._base) != _machines(self._new):
                different.append("hardware, torch or number of threads")
            if self._base["sampler"] != self._new["sampler"]:
                different.append("sampler")
        return _listed(different)

    def to_shared_prefixes(self, base: str, new: str) -> str:
        """Empty when both methods shared their text-only prefixes, or neither did: seconds are sums of parts then."""
        shared = [
            any(label in command.get("shared_prefixes", ()) for command in settings["commands"])
            for label, settings in ((base, self._base), (new, self._new))
        ]
        return "text-only prefixes were shared in one run alone" if shared[0] != shared[1] else ""

    def notes(self) -> Iterator[str]:
        """Differences that leave quality comparable."""
        if self._base["suite"]["seed"] != self._new["suite"]["seed"]:
            yield "The runs have different seeds: pairs share subject and prompt, not the noise."
        if self._base["sampler"] != self._new["sampler"]:
            yield "The runs have different sampler settings."
        if self._base["dtype"] != self._new["dtype"]:
            yield "The runs have different number formats."
        if self._base["backbone"] != self._new["backbone"]:
            yield f"The runs have different backbones: {self._base['backbone']} and {self._new['backbone']}."


def _paired_methods(
    base: Mapping[str, Any], new: Mapping[str, Any], renamed: Mapping[str, str]
) -> tuple[list[tuple[str, str]], list[str]]:
    for name, label, there in (
        *(("base", label, base["methods"]) for label in renamed),
        *(("new", label, new["methods"]) for label in renamed.values()),
    ):
        if label not in there:
            raise UserError(f'The {name} run has no method "{label}", {nearest(label, there)}')
    pairs = [(label, renamed.get(label, label)) for label in base["methods"]]
    found = [pair for pair in pairs if pair[1] in new["methods"]]
    notes = [f"{one} is not in the new run." for one, two in pairs if two not in new["methods"]]
    if not found:
        raise UserError(
            "The two runs have no method in common (base: "
            f"{', '.join(base['methods'])}; new: {', '.join(new['methods'])}); say which belong together with "
            "--method BASE=NEW."
        )
    return found, notes


def _allowances(
    gate: Gate, settings: Mapping[str, Any], columns: Sequence[Column], paired: Sequence[str]
) -> tuple[dict[str, QualityTolerance], dict[str, CostTolerance]]:
    names = [column.name for column in columns]
    for name in gate.quality or {}:
        if name not in names:
            raise UserError(f'The gate names the quality column "{name}", {nearest(name, names)}')
    costs = [column.name for column in COST_COLUMNS]
    for name in gate.cost:
        if name not in costs:
            raise UserError(f'The gate names the cost column "{name}", {nearest(name, costs)}')
    for name in gate.methods or []:
        if name not in settings["methods"]:
            raise UserError(f'The gate names the method "{name}", {nearest(name, settings["methods"])}')
        if name not in paired:
            raise UserError(f'The gate asks for the method "{name}", which the new run does not have; run it, too.')
    if gate.quality is not None:
        return gate.quality, gate.cost
    headlines = [column for column in columns if column.headline and column.higher_is_better]
    return {column.name: QualityTolerance() for column in headlines}, gate.cost


def _cost_values(folder: RunFolder, rows: Grouped, method: str, subjects: int, column: str) -> Values:
    """A cost of each subject set."""
    sets: dict[str, list[Row]] = {}
    for row in rows.get((method, subjects), []):
        if row["status"] == "ok":
            sets.setdefault(row["set"], []).append(row)
    jobs = {name: job for (label, name), job in folder.jobs().items() if label == method and job["status"] == "ok"}
    found: dict[tuple[str, ...], float | None] = {}
    for name, own in sets.items():
        job = jobs.get(name, {})
        if column == "image_seconds":
            seconds = [row["seconds"] for row in own if row["seconds"] is not None]
            found[name,] = statistics.median(seconds) if seconds else None
        elif column == "peak_memory_gib":
            peaks = [row["peak_memory_bytes"] for row in own if row["peak_memory_bytes"] is not None]
            peaks += [job["peak_memory_bytes"]] if job.get("peak_memory_bytes") is not None else []
            found[name,] = max(peaks) / 2**30 if peaks else None
        elif column == "artefact_mib":
            found[name,] = job["artefact_bytes"] / 2**20 if "artefact_bytes" in job else None
        else:
            found[name,] = job.get({"customize_seconds": "seconds"}.get(column, column))
    return {key: float(value) for key, value in found.items() if value is not None}


def _log_ratio(base: float, new: float) -> float:
    if base == new:
        return 0.0
    return math.log(new / base) if base > 0 and new > 0 else math.inf


def _values(rows: Sequence[Row], column: Column) -> Values:
    return {_key(row): row[column.name] for row in rows if row.get(column.name) is not None}


def _key(row: Row) -> tuple[str, ...]:
    return row["set"], row["template"], str(row["index"])


def _within(units: Units, sets: Mapping[str, Any]) -> Units:
    return {name: units[name] for name in sets}


def _mean_over_sets(values: Values) -> float | None:
    sets: dict[str, list[float]] = {}
    for key, value in values.items():
        sets.setdefault(key[0], []).append(value)
    return statistics.fmean(statistics.fmean(own) for own in sets.values()) if sets else None


def _machines(settings: Mapping[str, Any]) -> set[tuple[Any, ...]]:
    keys = ("processor", "cores", "torch_threads")
    return {
        (
            *(machine.get(key) for key in keys),
            *machine["accelerators"],
            command["versions"]["torch"],
        )
        for command in settings["commands"]
        for machine in command.get("workers") or [command["hardware"]]
    }


def _names(columns: Sequence[Mapping[str, Any]]) -> list[str]:
    return [column["name"] for column in columns]


def _listed(different: Sequence[str]) -> str:
    return f"different {', '.join(different)}" if different else ""
