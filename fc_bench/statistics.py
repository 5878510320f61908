"""Statistics of clustered measurements: images of one subject are correlated, so the subject is the unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 20230510
FEWEST_CLUSTERS = 3
"""Below this there is a mean but no interval."""


@dataclass(frozen=True)
class Estimate:
    """Mean over clusters of the cluster means, with its bootstrap interval; None where there is nothing to tell."""

    mean: float | None
    low: float | None
    high: float | None
    clusters: int


def cluster_bootstrap(
    values: Mapping[str, Sequence[float]],
    groups: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = SEED,
) -> Estimate:
    """Mean over clusters (subjects or subject sets -> their values), with an expanded percentile bootstrap interval.

    Each cluster counts once, however many values it has; clusters without values are left out. `groups` (cluster ->
    group) joins clusters that are no independent observations: whole groups are drawn then, and the mean stays that
    over clusters. Fewer than three groups give a mean without an interval, no cluster gives nothing. The draws depend
    on the seed and the number of groups alone, not on the clusters' order (they are sorted by name).

    The bootstrap's percentile interval of few observations n is too narrow. Both its ends are moved away from the mean
    by the factor t / z * sqrt(n / (n - 1)), with the quantiles t of Student's (n - 1 degrees of freedom) and z of the
    normal distribution: the factor of the expanded percentile interval (Hesterberg 2015, "What teachers should know
    about the bootstrap", section 5.3), applied to the ends and not to the percentiles, since the outermost percentiles
    of three or four observations do not reach far enough. An end can lie outside the range of the values.
    """
    means = {name: float(np.mean(values[name])) for name in sorted(values) if len(values[name])}
    if not means:
        return Estimate(None, None, None, 0)
    members: dict[str, list[float]] = {}
    for name, value in means.items():
        members.setdefault(groups[name] if groups else name, []).append(value)
    mean, count = float(np.mean(list(means.values()))), len(members)
    if count < FEWEST_CLUSTERS:
        return Estimate(mean, None, None, len(means))
    sums = np.array([sum(group) for group in members.values()])
    sizes = np.array([len(group) for group in members.values()])
    draws = np.random.default_rng(seed).integers(count, size=(resamples, count))
    drawn = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    wider = _expansion(count, level)
    return Estimate(mean, float(mean - wider * (mean - low)), float(mean + wider * (high - mean)), len(means))


def _expansion(count: int, level: float) -> float:
    from scipy.stats import t

    inner = (1 + level) / 2
    return float(t.ppf(inner, count - 1)) / NormalDist().inv_cdf(inner) * sqrt(count / (count - 1))
