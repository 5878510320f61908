"""How well a score discriminates between same and other people, and what a factor does to it: people are the unit.

A pair of pictures rests on two people, so what is resampled are people: a pair enters a resample as often as the
product of its people's multiplicities (`cluster_bootstrap` has the sources). Such a product has variance 3 where the
multiplicity of a pair drawn by itself has 1, so what pairs vary by themselves, beside their people, would count three
times. A second bootstrap, of the pairs alone, measures that variance. Dyadic standard errors take off twice of it
(Aronow, Samii and Assenova 2015, "Cluster-robust variance estimation for dyadic data", Political Analysis 23), which is
too much for rates of few people: of these it is taken off once, of correlations twice.

Intervals are those of Student's t with the bootstrap's standard error on a scale without bounds: the logit of rates,
Fisher's z of correlations. They cover in simulation where percentile intervals of few people miss a rate near 1.

Every function takes `people`, names [n] or [n, people of an observation]. Fewer than three people give a value without
an interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import atanh, log, sqrt, tanh

import numpy as np

from fc_bench.analysis.statistics import (
    FEWEST_UNITS,
    LEVEL,
    SEED,
    cluster_bootstrap,
    multiplicities,
    paired_differences,
)

RESAMPLES = 2000
PAIR_RESAMPLES = 500
FEWEST_FALSE_ACCEPTS = 5
MOST_WEIGHTS = 1_000_000
"""Weights (resamples times observations) held at a time; the results do not depend on it."""

People = Sequence[str] | Sequence[Sequence[str]] | np.ndarray
Weighted = Callable[[np.ndarray], np.ndarray]
"""Weights of the observations [resamples, n] -> the statistic in each resample; NaN where it is not defined."""


@dataclass(frozen=True)
class Scale:
    """A scale without bounds: there, back, and its slope."""

    there: Callable[[float], float]
    back: Callable[[float], float]
    slope: Callable[[float], float]


LINEAR = Scale(lambda value: value, lambda value: value, lambda value: 1.0)
LOGIT = Scale(
    lambda value: log(value / (1 - value)),
    lambda value: (1 + tanh(value / 2)) / 2,
    lambda value: 1 / (value * (1 - value)),
)
FISHER = Scale(atanh, tanh, lambda value: 1 / (1 - value**2))
MARGIN = 1e-6
"""Distance to a bound below which a value is taken to be that far from it, on a scale without bounds."""


@dataclass(frozen=True)
class Statistic:
    """A value with its interval over people; None for what is missing."""

    value: float | None
    low: float | None
    high: float | None
    people: int


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold at a false-accept rate and the share of same pairs at or above it."""

    false_accept_rate: float
    threshold: Statistic
    true_accepts: Statistic


@dataclass(frozen=True)
class Effect:
    """Mean paired difference to a base level, its interval over people, and the difference in standard deviations."""

    mean: float | None
    low: float | None
    high: float | None
    people: int
    pairs: int
    standardized: float | None
    """Mean difference over the standard deviation of the base level's values (Glass 1976)."""


def auc(scores: np.ndarray, people: People, resamples: int = RESAMPLES, level: float = LEVEL) -> Statistic:
    """Probability that a same pair scores above an other pair, ties half; `people` [n, 2], same where both are equal.

    The area under the ROC curve as the weighted Mann-Whitney statistic. Where same and other pairs do not overlap, no
    resample does: the interval is that of n errorless people out of n (Clopper and Pearson 1934).
    """
    curve = _Curve(scores, people)
    return _errorless(curve.statistic(curve.auc, resamples, level, LOGIT), level)


def equal_error_rate(scores: np.ndarray, people: People, resamples: int = RESAMPLES, level: float = LEVEL) -> Statistic:
    """Rate at which other pairs accepted and same pairs rejected are equally frequent; `people` as for `auc`.

    The rates are interpolated linearly between neighboring thresholds. Pairs without overlap as for `auc`.
    """
    curve = _Curve(scores, people)
    return _errorless(curve.statistic(curve.equal_error_rate, resamples, level, LOGIT), level)


def operating_point(
    scores: np.ndarray,
    people: People,
    false_accept_rate: float,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> OperatingPoint:
    """The threshold that the share `false_accept_rate` of other pairs reaches, and the share of same pairs that do.

    `people` as for `auc`. Both are missing with less than `fewest_other_pairs`. The interval of the true accepts holds
    the uncertainty of the threshold. Raises ValueError for a rate outside (0, 1).
    """
    if not 0 < false_accept_rate < 1:
        raise ValueError(f"A false-accept rate lies between 0 and 1, got {false_accept_rate}")
    curve = _Curve(scores, people)
    if np.count_nonzero(~curve.same) < fewest_other_pairs(false_accept_rate):
        missing = Statistic(None, None, None, curve.people)
        return OperatingPoint(false_accept_rate, missing, missing)
    threshold = curve.statistic(lambda weights: curve.threshold(weights, false_accept_rate), resamples, level, LINEAR)
    accepts = curve.statistic(lambda weights: curve.true_accepts(weights, false_accept_rate), resamples, level, LOGIT)
    return OperatingPoint(false_accept_rate, threshold, _errorless(accepts, level))


def fewest_other_pairs(false_accept_rate: float) -> int:
    """Number of other pairs of which five are falsely accepted at that rate, the fewest that a threshold rests on."""
    return int(np.ceil(FEWEST_FALSE_ACCEPTS / false_accept_rate - 1e-9))


def accepted(
    scores: np.ndarray, people: People, threshold: float, resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[Statistic, Statistic]:
    """Shares of same and of other pairs at or above a threshold that is given; `people` as for `auc`, either may lack.

    A share of 0 or 1 has the interval of n errorless people out of n.
    """
    names, passed = np.asarray(people), np.asarray(scores) >= threshold
    same, places = names[:, 0] == names[:, 1], _places(names)

    def share(kind: np.ndarray) -> Statistic:
        def of(weights: np.ndarray) -> np.ndarray:
            with np.errstate(invalid="ignore"):
                return (weights * (passed & kind)).sum(axis=1) / (weights * kind).sum(axis=1)

        return _errorless(_bootstrap(of, places, resamples, level, LOGIT), level)

    return share(same), share(~same)


def rank_correlation(
    first: np.ndarray, second: np.ndarray, people: People, resamples: int = RESAMPLES, level: float = LEVEL
) -> Statistic:
    """Spearman's correlation of two measurements [n] of the same observations; `people` [n] or [n, k] they rest on.

    Missing where one of them is constant.
    """
    ranks = [_Ranks(np.asarray(values, dtype=float)) for values in (first, second)]

    def correlation(weights: np.ndarray) -> np.ndarray:
        one, other = (rank.centered(weights) for rank in ranks)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weights * one * other).sum(1) / np.sqrt((weights * one**2).sum(1) * (weights * other**2).sum(1))

    return _bootstrap(correlation, _places(people), resamples, level, FISHER, repeated=2)


def paired_effect(
    base: Mapping[tuple[str, ...], float],
    other: Mapping[tuple[str, ...], float],
    units: Mapping[str, Sequence[str]] | None = None,
) -> Effect:
    """Other minus base level of a factor over their common keys, which begin with the person (then seed, prompt, ...).

    Each person counts once. `units`: the people that a key's first part stands for, where it is several.
    """
    differences = paired_differences(base, other)
    estimate = cluster_bootstrap(differences, units and {name: units[name] for name in differences})
    values = np.array([base[key] for key in sorted(base.keys() & other.keys())])
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    standardized = estimate.mean / spread if estimate.mean is not None and spread > 0 else None
    return Effect(estimate.mean, estimate.low, estimate.high, estimate.clusters, len(values), standardized)


class _Ranks:
    """Values [n], and what weights of them amount to below and at each distinct value."""

    def __init__(self, values: np.ndarray) -> None:
        self.order = np.argsort(values, kind="stable")
        self.distinct, starts, codes = np.unique(values[self.order], return_index=True, return_inverse=True)
        self.starts = starts
        self.codes = np.empty(len(values), dtype=int)
        self.codes[self.order] = codes

    def totals(self, weights: np.ndarray) -> np.ndarray:
        """Sum of the weights [resamples, n] at each distinct value, ascending: [resamples, distinct]."""
        return np.add.reduceat(weights[:, self.order], self.starts, axis=1)

    def centered(self, weights: np.ndarray) -> np.ndarray:
        """Middle ranks of the observations in each resample [resamples, n], minus their weighted mean."""
        at = self.totals(weights)
        return (at.cumsum(axis=1) - at / 2 - weights.sum(axis=1, keepdims=True) / 2)[:, self.codes]


class _Curve:
    """Same and other pairs over the distinct scores, for many weights of the pairs at once."""

    def __init__(self, scores: np.ndarray, people: People) -> None:
        names = np.asarray(people)
        if names.ndim != 2 or names.shape[1] != 2:
            raise ValueError(f"A pair has two people, got an array of {names.shape}")
        self.same = names[:, 0] == names[:, 1]
        if self.same.all() or not self.same.any():
            raise ValueError(f"It takes same and other pairs, got {'same' if self.same.any() else 'other'} ones alone")
        self.places = _places(names)
        self.people = int(self.places.max()) + 1
        self.scores = _Ranks(np.asarray(scores, dtype=float))

    def statistic(self, of: Weighted, resamples: int, level: float, scale: Scale) -> Statistic:
        return _bootstrap(of, self.places, resamples, level, scale)

    def auc(self, weights: np.ndarray) -> np.ndarray:
        same, other = (self.scores.totals(weights * kind) for kind in (self.same, ~self.same))
        with np.errstate(invalid="ignore"):
            return (same * (other.cumsum(axis=1) - other / 2)).sum(axis=1) / (same.sum(axis=1) * other.sum(axis=1))

    def equal_error_rate(self, weights: np.ndarray) -> np.ndarray:
        same, other = (self._share(weights, kind) for kind in (self.same, ~self.same))
        # At each distinct score as the threshold, and above them all.
        rejects, accepts = _below(same), 1 - _below(other)
        difference = rejects - accepts
        rows = np.arange(len(weights))
        after = (difference >= -1e-12).argmax(axis=1)
        before = np.maximum(after - 1, 0)
        step = difference[rows, after] - difference[rows, before]
        with np.errstate(invalid="ignore", divide="ignore"):
            way = np.where(step > 0, -difference[rows, before] / step, 0.0)
        return accepts[rows, before] + way * (accepts[rows, after] - accepts[rows, before])

    def threshold(self, weights: np.ndarray, rate: float) -> np.ndarray:
        """Upper quantile of the scores of other pairs, linear between the middles of their shares (Hazen 1914)."""
        other = self._share(weights, ~self.same)
        middles, seen, rows = other.cumsum(axis=1) - other / 2, other > 0, np.arange(len(weights))
        beyond, within = seen & (middles > 1 - rate), seen & (middles <= 1 - rate)
        after = np.where(beyond.any(axis=1), beyond.argmax(axis=1), _last(seen))
        before = np.where(within.any(axis=1), _last(within), after)
        step = middles[rows, after] - middles[rows, before]
        with np.errstate(invalid="ignore", divide="ignore"):
            way = np.where(step > 0, (1 - rate - middles[rows, before]) / step, 0.0)
        low, high = self.scores.distinct[before], self.scores.distinct[after]
        return np.where(np.isnan(other[:, 0]), np.nan, low + way * (high - low))

    def true_accepts(self, weights: np.ndarray, rate: float) -> np.ndarray:
        below = _below(self._share(weights, self.same))
        places = np.searchsorted(self.scores.distinct, self.threshold(weights, rate))
        return 1 - below[np.arange(len(weights)), places]

    def _share(self, weights: np.ndarray, kind: np.ndarray) -> np.ndarray:
        """Share of the pairs of a kind at each distinct score, [resamples, distinct]; NaN where there are none."""
        totals = self.scores.totals(weights * kind)
        with np.errstate(invalid="ignore"):
            return totals / totals.sum(axis=1, keepdims=True)


def _below(shares: np.ndarray) -> np.ndarray:
    """Share below each distinct score, and below a threshold above them all: [resamples, distinct + 1]."""
    return np.pad(shares.cumsum(axis=1), ((0, 0), (1, 0)))


def _last(marked: np.ndarray) -> np.ndarray:
    """Place of the last mark in each row."""
    return marked.shape[1] - 1 - marked[:, ::-1].argmax(axis=1)


def _places(people: People) -> np.ndarray:
    """Numbers of the people of each observation, [n, k]."""
    names = np.asarray(people)
    numbers = np.unique(names, return_inverse=True)[1].reshape(names.shape)
    return numbers[:, None] if numbers.ndim == 1 else numbers


def _bootstrap(
    of: Weighted, places: np.ndarray, resamples: int, level: float, scale: Scale, repeated: int = 1
) -> Statistic:
    """A statistic and its interval over people; `places` are the people of each observation.

    `repeated` is how often the variance of pairs by themselves is taken off.
    """
    from scipy.special import stdtrit

    count, size = int(places.max()) + 1, len(places)
    observed = float(of(np.ones((1, size)))[0])
    if np.isnan(observed):
        return Statistic(None, None, None, count)
    if count < FEWEST_UNITS:
        return Statistic(observed, None, None, count)
    drawn = multiplicities(count, resamples, SEED)
    variance = float(_resampled(of, lambda rows: _weights(drawn[rows], places), resamples, size).var())
    if variance == 0:
        return Statistic(observed, observed, observed, count)
    kept = max(variance - repeated * _variance_of_pairs(of, places), variance / 3) * count / (count - 1)
    inside = observed if scale is LINEAR else float(np.clip(observed, *_open(scale)))
    reach = float(stdtrit(count - 1, (1 + level) / 2)) * sqrt(kept) * scale.slope(inside)
    low, high = (scale.back(scale.there(inside) + way) for way in (-reach, reach))
    return Statistic(observed, min(low, observed), max(high, observed), count)


def _open(scale: Scale) -> tuple[float, float]:
    """The ends of a bounded scale, without the bounds themselves."""
    return (MARGIN if scale is LOGIT else MARGIN - 1), 1 - MARGIN


def _variance_of_pairs(of: Weighted, places: np.ndarray) -> float:
    """Variance of the statistic over resamples of the pairs of different people, by themselves."""
    groups, numbers = np.unique(np.sort(places, axis=1), axis=0, return_inverse=True)
    numbers = numbers.reshape(-1)
    paired = groups[:, 0] != groups[:, -1]
    if not paired.any():
        return 0.0
    random = np.random.default_rng(SEED)

    def weights(rows: slice) -> np.ndarray:
        drawn = np.ones((rows.stop - rows.start, len(groups)))
        drawn[:, paired] = random.poisson(1.0, size=(len(drawn), int(paired.sum())))
        return drawn[:, numbers]

    return float(_resampled(of, weights, PAIR_RESAMPLES, len(places)).var())


def _resampled(of: Weighted, weights: Callable[[slice], np.ndarray], resamples: int, size: int) -> np.ndarray:
    """The statistic in resamples, as many at a time as `MOST_WEIGHTS` allows, without those where it is not defined."""
    rows = max(1, MOST_WEIGHTS // size)
    blocks = [slice(start, min(start + rows, resamples)) for start in range(0, resamples, rows)]
    values = np.concatenate([of(weights(block)) for block in blocks])
    return values[~np.isnan(values)]


def _weights(drawn: np.ndarray, places: np.ndarray) -> np.ndarray:
    """How often each observation is in each resample: the product over its people, each person once."""
    weights = drawn[:, places[:, 0]]
    for number in range(1, places.shape[1]):
        repeated = (places[:, :number] == places[:, number, None]).any(axis=1)
        weights = weights * np.where(repeated, 1.0, drawn[:, places[:, number]])
    return weights


def _errorless(statistic: Statistic, level: float) -> Statistic:
    """The interval of a rate of 0 or 1: that of n people out of n (Clopper and Pearson 1934)."""
    if statistic.low is None or statistic.value not in (0.0, 1.0):
        return statistic
    reach = ((1 - level) / 2) ** (1 / statistic.people)
    low, high = (reach, 1.0) if statistic.value else (0.0, 1 - reach)
    return Statistic(statistic.value, low, high, statistic.people)
