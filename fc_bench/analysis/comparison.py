"""The comparison of two runs: paired differences of their common measurements, with a verdict on each."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fc_bench.analysis.aggregate import COST_COLUMNS, columns_of
from fc_bench.analysis.comparability import Obstacles
from fc_bench.analysis.gate import CostTolerance, Gate, QualityTolerance
from fc_bench.analysis.pairing import Pair, Side, costs_by_set
from fc_bench.analysis.states import doubts, weight_doubts
from fc_bench.analysis.statistics import LEVEL, Estimate, cluster_bootstrap, units_of
from fc_bench.analysis.verdicts import Comparison, Report, Verdict
from fc_bench.errors import UserError
from fc_bench.model.yaml_file import nearest
from fc_bench.protocols import Column
from fc_bench.run_folder.records import RunFolder

WATCHED = ("image_seconds", "peak_memory_gib")
"""Cost columns that increase when a method's attention is recorded."""


@dataclass(frozen=True)
class _Question:
    """One comparison before it is made."""

    base_method: str
    new_method: str
    subjects: int
    column: Column
    allowed: QualityTolerance | CostTolerance | None


class _Sides:
    """Both runs; the samples of the last comparison are cached for the next one."""

    def __init__(self, base: RunFolder, new: RunFolder, columns: Sequence[Column]) -> None:
        names = [column.name for column in columns]
        self.base, self.new = Side(base, names), Side(new, names)
        self._last: tuple[tuple[str, str, int], Pair] | None = None

    def pair(self, question: _Question) -> Pair:
        """The samples of a comparison."""
        key = question.base_method, question.new_method, question.subjects
        if self._last is None or self._last[0] != key:
            self._last = None
            base, new = self.base.of(key[0], key[2]), self.new.of(key[1], key[2])
            self._last = key, Pair(base, new)
        return self._last[1]


def compare(base: RunFolder, new: RunFolder, gate: Gate, renamed: Mapping[str, str] | None = None) -> Report:
    """Pair the samples of two runs by (subject set, prompt, index) and judge every column of every method.

    Methods are paired by their label, or by `renamed` (base's label -> new's). A difference is `worse` or `better` if
    its whole interval lies beyond the tolerance; the interval is a cluster bootstrap of the paired differences at the
    gate's level. Raises UserError if a folder is not a run folder, or if a name in the gate or in `renamed` is unknown.
    """
    settings, other = base.settings(), new.settings()
    pairs, notes = _paired_methods(settings, other, renamed or {})
    columns = columns_of(base)
    measured = {column.name for column in columns}
    sides = _Sides(base, new, columns)
    allowed_quality, allowed_cost = _allowances(gate, settings, columns, [one for one, _ in pairs])
    questions = []
    for one, two in pairs:
        gated = gate.methods is None or one in gate.methods
        for size in sides.base.sizes(one):
            requested = [
                *((column, allowed_quality.get(column.name)) for column in columns),
                *((column, allowed_cost.get(column.name)) for column in COST_COLUMNS),
            ]
            made = [_Question(one, two, size, column, allowed if gated else None) for column, allowed in requested]
            pair = sides.pair(made[0])
            questions += [
                item for item in made if item.column.name not in measured or pair.has_values(item.column.name)
            ]
    gated_count = sum(1 for question in questions if question.allowed is not None)
    level = 1 - gate.false_alarms / gated_count if gated_count else LEVEL
    obstacles = Obstacles(settings, other)
    comparisons = []
    for question in questions:
        if question.column.name in measured:
            made = _quality(question, sides.pair(question), obstacles, level)
        else:
            made = _cost(question, sides, obstacles, level)
        if made is not None:
            comparisons.append(made)
    notes += obstacles.notes()
    both = {"base": settings, "new": other}
    notes += [*doubts(both), *weight_doubts(both)]
    return Report(tuple(comparisons), level, gate.false_alarms, tuple(notes))


def _quality(question: _Question, pair: Pair, obstacles: Obstacles, level: float) -> Comparison:
    column = question.column
    found = pair.differences(column.name)
    estimate = cluster_bootstrap(found.by_set, pair.units(column, list(found.by_set)), level=level)
    estimate = _certain(estimate, found.by_set)
    return _judged(
        question,
        found.base,
        found.new,
        estimate,
        found.pairs,
        len(pair.base),
        obstacles.to_quality(column),
        pair.incomplete(),
    )


def _cost(question: _Question, sides: _Sides, obstacles: Obstacles, level: float) -> Comparison | None:
    pair, column = sides.pair(question), question.column.name
    before = costs_by_set(sides.base, question.base_method, pair.base, column)
    after = costs_by_set(sides.new, question.new_method, pair.new, column)
    if not before and not after:
        return None
    shared = sorted(before.keys() & after.keys())
    reason = obstacles.to_cost(column)
    watched = question.base_method in sides.base.watched, question.new_method in sides.new.watched
    if column in WATCHED and watched[0] != watched[1]:
        reason = reason or "attention was recorded in only one run"
    if column in WATCHED:
        reason = reason or obstacles.to_shared_prefixes(question.base_method, question.new_method)
    ratios = {key: [_log_ratio(before[key], after[key])] for key in shared}
    appeared = any(math.isinf(value) for (value,) in ratios.values())
    if appeared:
        reason = reason or "it is zero in only one run, so there is no ratio"
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
        f"{lost} subject sets are measured in only one run" if lost else "",
        relative=True,
    )


def _certain(estimate: Estimate, differences: Mapping[str, Sequence[float] | np.ndarray]) -> Estimate:
    """Whether all values are equal: they are then unchanged without an interval."""
    same = bool(differences) and not any(np.any(values) for values in differences.values())
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
        missing = (
            "no pair of values"
            if not pairs
            else "no interval, because there are fewer than three independent subject sets"
        )
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
            f"{', '.join(base['methods'])}; new: {', '.join(new['methods'])}); match them with "
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
            raise UserError(f'The gate requires the method "{name}", which the new run does not have; run it as well.')
    if gate.quality is not None:
        return gate.quality, gate.cost
    headlines = [column for column in columns if column.headline and column.higher_is_better]
    return {column.name: QualityTolerance() for column in headlines}, gate.cost


def _log_ratio(base: float, new: float) -> float:
    if base == new:
        return 0.0
    return math.log(new / base) if base > 0 and new > 0 else math.inf
