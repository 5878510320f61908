"""Power of the paired comparison: how many people, prompts and images a difference needs."""

from __future__ import annotations

from math import floor, inf, sqrt

import numpy as np

from fc_bench.analysis.statistics import LEVEL, MOST_FLIPPED

MOST_PEOPLE = 1_000_000
"""A larger number of people is taken to be out of reach."""
QUANTILES = 2000


def power(difference: float, deviation: float, people: int, level: float = LEVEL) -> float:
    """Probability that the sign-flip test over so many people rejects equality at 1 - `level`.

    `deviation` is the standard deviation between the people's mean paired differences, taken to be normal. The test is
    Fisher's randomization test of the mean, whose power is that of the t-test (Hoeffding 1952, "The large-sample power
    of tests based on permutations of observations"), at the level that 2^n assignments of signs attain. Where it
    rejects only differences of one sign (six people at 5 %), the power is that of this event; fewer never reach it.
    """
    from scipy.special import chdtri, ndtr, stdtrit

    rejected, error = _attained(people, 1 - level)
    if not rejected:
        return 0.0
    if deviation == 0:
        return 1.0 if difference else error
    effect = abs(difference) / deviation
    if rejected == 1:
        return float(ndtr(effect) ** people + ndtr(-effect) ** people)
    # The noncentral t distribution as a mean over the quantiles of the estimated deviation.
    freedom, shift = people - 1, effect * sqrt(people)
    estimated = np.sqrt(chdtri(freedom, (np.arange(QUANTILES) + 0.5) / QUANTILES) / freedom)
    critical = float(stdtrit(freedom, 1 - error / 2)) * estimated
    return float((ndtr(shift - critical) + ndtr(-shift - critical)).mean())


def people_needed(difference: float, deviation: float, wanted: float, level: float = LEVEL) -> int | None:
    """The smallest number of people with the wanted power; None above `MOST_PEOPLE`."""
    low, high = 1, 2
    while power(difference, deviation, high, level) < wanted:
        low, high = high, 2 * high
        if low > MOST_PEOPLE:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, deviation, middle, level) >= wanted else (middle, high)
    return high


def detectable(deviation: float, people: int, wanted: float, level: float = LEVEL) -> float | None:
    """The smallest difference with the wanted power; None where so few people never reach significance."""
    from scipy.optimize import brentq

    if not _attained(people, 1 - level)[0] or wanted >= 1:
        return None
    if deviation == 0:
        return 0.0
    if power(0.0, deviation, people, level) >= wanted:
        return 0.0
    most = deviation
    while power(most, deviation, people, level) < wanted:
        most *= 2
    found = brentq(lambda difference: power(float(difference), deviation, people, level) - wanted, 0.0, most)
    return float(found)  # pyright: ignore[reportArgumentType]


def deviation_interval(deviation: float, people: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a standard deviation estimated from so many people, from the chi-squared distribution."""
    from scipy.special import chdtri

    freedom = people - 1
    return tuple(  # pyright: ignore[reportReturnType]
        deviation * sqrt(freedom / float(chdtri(freedom, tail))) for tail in ((1 - level) / 2, (1 + level) / 2)
    )


def _attained(people: int, error: float) -> tuple[float, float]:
    """Pairs of opposite assignments of signs that the test rejects (inf above `MOST_FLIPPED` people), and its level."""
    if people > MOST_FLIPPED:
        return inf, error
    halves = 2 ** (people - 1)
    rejected = floor(error * halves + 1e-9)
    return rejected, rejected / halves
