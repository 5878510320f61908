"""Extrapolation from some steps to all: a call takes a fixed time plus a time per step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fc_bench.analysis.statistics import cluster_bootstrap
from fc_bench.cost.figures import Figure, percentiles


def seconds_per_step(calls: Sequence[Sequence[float]], period: int = 1) -> Figure | None:
    """Mean seconds of a step, from the seconds of consecutive steps of one or more calls.

    The mean is used because totals are sums. It covers the whole periods of each call's last steps, for steps that are
    not all alike. Its interval is the bootstrap over the periods, from three on (`statistics.cluster_bootstrap`), and
    assumes that they vary independently. None without a whole period.
    """
    periods: list[float] = []
    for steps in calls:
        whole = len(steps) // period * period
        last = np.asarray(steps[len(steps) - whole :], dtype=float)
        periods += [float(mean) for mean in last.reshape(-1, period).mean(axis=1)]
    if not periods:
        return None
    width = len(str(len(periods)))
    found = cluster_bootstrap({f"{number:0{width}}": [mean] for number, mean in enumerate(periods)}, bounds=(0, None))
    assert found.mean is not None
    return Figure(found.mean, found.low, found.high, len(periods), percentiles=percentiles(periods))


def extrapolated(seconds: float, taken: int, requested: int, step: Figure | None) -> Figure | None:
    """The time of `requested` steps from a call of `taken` steps: T(requested) = T(taken) + (requested - taken) step.

    The part that does not depend on the number of steps is in the measured call, which took `seconds`. The interval is
    that of the steps' mean times all steps, so that a completely measured call has one as well: how far another such
    call may deviate through the variation of its steps. None if the seconds of missing steps are unknown.
    """
    if step is None:
        return Figure(seconds) if taken == requested else None
    value = seconds + (requested - taken) * step.value
    if step.low is None or step.high is None:
        return Figure(value, extrapolated=taken != requested)
    low, high = value - requested * step.below, value + requested * step.above
    return Figure(value, max(low, 0.0), high, step.n, extrapolated=taken != requested)
