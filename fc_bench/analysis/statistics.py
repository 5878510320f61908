"""Statistics of clustered measurements: images of one subject are correlated, so the subject is the unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import NormalDist

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 20230510
FEWEST_UNITS = 3
"""Smallest number of units with an interval; fewer have only a mean."""
MOST_FLIPPED = 20
"""Up to this number of differences, the sign-flip test is exact, over all 2^n assignments of signs."""
BLOCK = 1000
"""Resamples drawn at a time; the draws do not depend on it."""

Units = Mapping[str, Sequence[str]]
"""Cluster -> the independent units it depends on: itself, or the subjects of a subject set."""


@dataclass(frozen=True)
class Estimate:
    """Mean over clusters of the cluster means, with its bootstrap interval; None for missing values."""

    mean: float | None
    low: float | None
    high: float | None
    clusters: int


def units_of(sets: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The units of subject sets (name -> subjects): each set, or its subjects if a subject is in several sets."""
    uses = Counter(subject for subjects in sets.values() for subject in set(subjects))
    overlapping = any(count > 1 for count in uses.values())
    return {name: tuple(dict.fromkeys(subjects)) if overlapping else (name,) for name, subjects in sets.items()}


def cluster_bootstrap(
    values: Mapping[str, Sequence[float] | np.ndarray],
    units: Units | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = SEED,
    bounds: tuple[float | None, float | None] = (None, None),
) -> Estimate:
    """Mean over clusters (subjects or subject sets -> their values), with an expanded percentile bootstrap interval.

    Each cluster counts once, however many values it has; clusters without values are left out. What is drawn, with
    replacement, are the `units` that the clusters rest on (default: each is its own); a cluster enters a resample as
    often as the product of its units' multiplicities. With one unit a cluster this is the cluster bootstrap; with the
    subjects of overlapping sets it is the vertex bootstrap of Snijders and Borgatti (1999, "Non-parametric standard
    errors and tests for network statistics", Connections 22): all pairs of n people are n observations, not n(n-1)/2.
    Fewer than three units or clusters give a mean without an interval, no cluster gives nothing. The draws depend on
    the seed and the number of units alone, not on the clusters' order (they are sorted by name).

    The bootstrap's percentile interval of few observations n is too narrow. Both its ends are moved away from the mean
    by the factor t / z * sqrt(n / (n - 1)), with the quantiles t of Student's (n - 1 degrees of freedom) and z of the
    normal distribution: the factor of the expanded percentile interval (Hesterberg 2015, "What teachers should know
    about the bootstrap", section 5.3), applied to the ends and not to the percentiles, since the outermost percentiles
    of three or four observations do not reach far enough. `bounds` are those of the measured quantity; no end lies
    beyond them.
    """
    means = {name: float(np.mean(values[name])) for name in sorted(values) if len(values[name])}
    if not means:
        return Estimate(None, None, None, 0)
    resting = {name: tuple(units[name]) if units else (name,) for name in means}
    names = list(dict.fromkeys(unit for own in resting.values() for unit in own))
    observed, count = np.array(list(means.values())), len(names)
    mean = float(observed.mean())
    if min(count, len(means)) < FEWEST_UNITS:
        return Estimate(mean, None, None, len(means))
    position = {name: number for number, name in enumerate(names)}
    places = tuple(tuple(position[unit] for unit in own) for own in resting.values())
    weights, totals = _weights(places, count, resamples, seed)
    resampled = (weights @ observed)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    wider = _expansion(count, level)
    return Estimate(
        mean, _within(mean - wider * (mean - low), bounds), _within(mean + wider * (high - mean), bounds), len(means)
    )


def paired_differences(
    base: Mapping[tuple[str, ...], float], new: Mapping[tuple[str, ...], float]
) -> dict[str, list[float]]:
    """New minus base over the common keys, by cluster; keys begin with their cluster's name."""
    differences: dict[str, list[float]] = {}
    for key in sorted(base.keys() & new.keys()):
        differences.setdefault(key[0], []).append(new[key] - base[key])
    return differences


def sign_flip_test(differences: Sequence[float], draws: int = 99_999, seed: int = SEED) -> float | None:
    """Two-sided p-value of the hypothesis that independent differences are equally likely to be negative or positive.

    Fisher's randomization test of the mean: exact, over all assignments of signs, for up to 20 differences; for more,
    by `draws` seeded random ones, including the observed one (Phipson and Smyth 2010, arXiv 1603.05766). None without
    any difference.
    """
    observed = np.asarray(differences, dtype=float)
    if not len(observed):
        return None
    if len(observed) <= MOST_FLIPPED:
        sums = np.zeros(1)
        for difference in observed:
            sums = np.concatenate([sums + difference, sums - difference])
        extra = 0
    else:
        signs = _signs(len(observed), draws, seed)
        blocks = range(0, draws, BLOCK)
        sums, extra = np.concatenate([signs[start : start + BLOCK].astype(float) @ observed for start in blocks]), 1
    # Equal sums differ in the last bits, depending on the order in which they were added up.
    threshold = abs(observed.sum()) - 1e-9 * np.abs(observed).sum()
    return float((np.count_nonzero(np.abs(sums) >= threshold) + extra) / (len(sums) + extra))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values of a family of tests (Holm 1979, "A simple sequentially rejective multiple test procedure")."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: (p_values[name], name))):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


@lru_cache(maxsize=2)
def _weights(
    places: tuple[tuple[int, ...], ...], count: int, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """How often each cluster is in each resample, float64 [resamples, clusters], and their sums; `places`: its units.

    Most columns of a table depend on the same clusters, so the last draws are cached.
    """
    drawn = multiplicities(count, resamples, seed)
    if places == tuple((number,) for number in range(count)):
        weights = drawn
    else:
        weights = np.empty((resamples, len(places)))
        for number, own in enumerate(places):
            weights[:, number] = drawn[:, own].prod(axis=1)
    return weights, weights.sum(axis=1)


@lru_cache(maxsize=1)
def multiplicities(count: int, resamples: int, seed: int) -> np.ndarray:
    """How often each of `count` units is drawn in each resample: float64 [resamples, count]."""
    generator = np.random.default_rng(seed)
    drawn = np.empty((resamples, count))
    for start in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - start)
        draws = generator.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        drawn[start : start + rows] = np.bincount(draws.ravel(), minlength=rows * count).reshape(rows, count)
    return drawn


@lru_cache(maxsize=1)
def _signs(count: int, draws: int, seed: int) -> np.ndarray:
    """Signs of `count` differences in each draw: int8 [draws, count]."""
    generator = np.random.default_rng(seed)
    signs = np.empty((draws, count), dtype=np.int8)
    for start in range(0, draws, BLOCK):
        rows = min(BLOCK, draws - start)
        signs[start : start + rows] = generator.choice([-1.0, 1.0], size=(rows, count))
    return signs


def _within(value: float, bounds: tuple[float | None, float | None]) -> float:
    lowest, highest = bounds
    value = float(value) if lowest is None else max(float(value), lowest)
    return value if highest is None else min(value, highest)


@lru_cache(maxsize=64)
def _expansion(count: int, level: float) -> float:
    from scipy.special import stdtrit  # Student's quantile; scipy.stats takes ten times as long to import

    inner = (1 + level) / 2
    return float(stdtrit(count - 1, inner)) / NormalDist().inv_cdf(inner) * sqrt(count / (count - 1))
