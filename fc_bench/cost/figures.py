"""Figures with intervals: medians of repeated calls, and what follows from several of them.

An interval is at 95 %. Where a figure follows from others its interval is recovered from theirs, which are taken as
independent (MOVER: Zou and Donner 2008, "Construction of confidence limits about effect measures: a general approach",
Statistics in Medicine 27). A measured figure without an interval counts as known exactly; one that was extrapolated and
has none leaves what follows from it without one, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fc_bench.analysis.statistics import LEVEL

FEWEST_FOR = {0.9: 10, 0.95: 60, 0.99: 300}
"""Percentile -> number of values it requires."""


@dataclass(frozen=True)
class Figure:
    """A value with its interval (None: none), from `n` measured values; `extrapolated` if not measured completely.

    `percentiles` are those that `n` values allow: 0.9, 0.95, 0.99.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 1
    extrapolated: bool = False
    percentiles: tuple[tuple[float, float], ...] = ()

    @property
    def below(self) -> float:
        """Distance from the value to the lower end of the interval."""
        return 0.0 if self.low is None else self.value - self.low

    @property
    def above(self) -> float:
        """Distance from the value to the upper end of the interval."""
        return 0.0 if self.high is None else self.high - self.value

    def times(self, factor: float) -> Figure:
        """The figure times a known positive number."""
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Figure(self.value * factor, low, high, self.n, self.extrapolated)


def median(values: Sequence[float]) -> Figure:
    """The median of repeated measurements with the interval of their order statistics (`median_interval`)."""
    low, high = median_interval(values) or (None, None)
    return Figure(float(np.median(values)), low, high, len(values), percentiles=percentiles(values))


def percentiles(values: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """The percentiles that these values allow, by their shares."""
    return tuple((share, float(np.quantile(values, share))) for share, n in FEWEST_FOR.items() if len(values) >= n)


def median_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Two of the values that enclose the median with at least probability `level`, for any distribution.

    They are the k-th smallest and the k-th largest, k as large as the binomial distribution allows (Hahn and Meeker
    1991, "Statistical Intervals", section 5.2). None for fewer than six values, whose extremes do not reach 95 %.
    """
    n, inside = len(values), (1 - level) / 2
    tail, rank = 0.0, 0
    while rank < n // 2:
        tail += math.comb(n, rank) / 2**n
        if tail > inside:
            break
        rank += 1
    if not rank:
        return None
    ordered = sorted(values)
    return ordered[rank - 1], ordered[n - rank]


def total(*parts: Figure) -> Figure:
    """The sum of independent figures."""
    value = sum(part.value for part in parts)
    n, extrapolated = min(part.n for part in parts), any(part.extrapolated for part in parts)
    if all(part.low is None for part in parts) or any(part.low is None and part.extrapolated for part in parts):
        return Figure(value, n=n, extrapolated=extrapolated)
    low = value - math.hypot(*(part.below for part in parts))
    high = value + math.hypot(*(part.above for part in parts))
    return Figure(value, low, high, n, extrapolated)


def difference(larger: Figure, smaller: Figure) -> Figure:
    """`larger` minus `smaller`, which are independent; may be negative."""
    low, high = (None if end is None else -end for end in (smaller.high, smaller.low))
    return total(larger, Figure(-smaller.value, low, high, smaller.n, smaller.extrapolated))


def ratio(numerator: Figure, denominator: Figure) -> Figure:
    """The quotient of independent positive figures; its interval is computed on the logarithms."""
    parts = []
    for part in (numerator, denominator):
        low, high = (None if end is None else math.log(max(end, 1e-12)) for end in (part.low, part.high))
        parts.append(Figure(math.log(part.value), low, high, part.n, part.extrapolated))
    logarithm = difference(*parts)
    low, high = (None if end is None else math.exp(end) for end in (logarithm.low, logarithm.high))
    return Figure(math.exp(logarithm.value), low, high, logarithm.n, logarithm.extrapolated)
