"""The result of a comparison of two runs: a verdict on each column of each method, and one exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fc_bench.analysis.statistics import Estimate
from fc_bench.protocols import Column

Verdict = Literal["better", "worse", "changed", "unchanged", "not comparable"]


@dataclass(frozen=True)
class Comparison:
    """One column of one method on sets of `subjects` subjects, new compared with base.

    `difference` is new minus base (quality), or the ratio of new to base minus one (cost: `relative`), over `pairs`
    common samples (cost: subject sets) of `planned`. `incomplete` says what is missing, `reason` why there is no
    comparison.
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
        """Whether the gate checks it."""
        return self.tolerance is not None


@dataclass(frozen=True)
class Report:
    """All comparisons of two runs, the level of their intervals, and notes for the reader."""

    comparisons: tuple[Comparison, ...]
    level: float
    false_alarms: float
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0: nothing is refused, 1: a gated difference is, 3: one cannot be compared, 4: samples are missing."""
        gated = [item for item in self.comparisons if item.gated]
        if any(item.alarm for item in gated):
            return 1
        if any(item.incomplete for item in gated):
            return 4
        return 3 if not gated or any(item.verdict == "not comparable" for item in gated) else 0
