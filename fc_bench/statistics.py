"""Statistics of clustered measurements: images of one subject are correlated, so the subject is the unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 20230510


@dataclass(frozen=True)
class Estimate:
    """Mean over clusters of the cluster means, with its bootstrap interval; None where there is nothing to tell."""

    mean: float | None
    low: float | None
    high: float | None
    clusters: int


def cluster_bootstrap(
    values: Mapping[str, Sequence[float]], resamples: int = RESAMPLES, level: float = LEVEL, seed: int = SEED
) -> Estimate:
    """Percentile bootstrap over clusters (subjects or subject sets -> their values).

    Each cluster counts once, however many values it has; clusters without values are left out. One cluster gives a
    mean without an interval, none gives nothing. The draws depend on the seed and the number of clusters alone, not
    on the clusters' order (they are sorted by name).
    """
    means = np.array([np.mean(values[name]) for name in sorted(values) if len(values[name])], dtype=np.float64)
    if not len(means):
        return Estimate(None, None, None, 0)
    if len(means) == 1:
        return Estimate(float(means[0]), None, None, 1)
    draws = np.random.default_rng(seed).integers(len(means), size=(resamples, len(means)))
    low, high = np.quantile(means[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(means.mean()), float(low), float(high), len(means))
