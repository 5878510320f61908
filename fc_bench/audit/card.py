"""Metric cards: what the scores of an examination say about each column of a metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from fc_bench.analysis.discrimination import Effect, Statistic, auc, equal_error_rate, paired_effect, rank_correlation
from fc_bench.audit.design import (
    BASE,
    BLEND,
    FLOORS,
    LARGEST_WITH_FAULTS,
    OTHER_PEOPLE,
    TRAIT_DISTANCE,
    Key,
    Level,
    Role,
    levels,
)
from fc_bench.protocols import Column, Metric, derived_from

NOTABLE = 0.1
"""Part of the scale from which on an effect is named in words."""
CLOSE = 1e-6
"""Values nearer to a bound than this are at it."""

Place = tuple[str, str, bool]
"""Factor, level, and whether strangers are shown."""


@dataclass(frozen=True)
class Scale:
    """What full marks and failure are for requests of one size: means of the base level and of `floor`."""

    subjects: int
    ceiling: float
    floor: float
    of: Key

    @property
    def length(self) -> float:
        """Ceiling minus floor; negative where lower values are better."""
        return self.ceiling - self.floor


@dataclass(frozen=True)
class LevelEffect:
    """What a level does to a column, over the same people and seeds.

    `cost` and its interval are parts of the scale, positive toward the floor (None without a scale). `missing` is the
    share of pictures without a value that have one at the base level.
    """

    level: Level
    subjects: int
    others: bool
    pictures: int
    mean: float | None
    effect: Effect
    cost: float | None
    low: float | None
    high: float | None
    missing: float

    @property
    def role(self) -> Role:
        """The level's role."""
        return self.level.role

    @property
    def notable(self) -> bool:
        """Whether it is a part of the scale that is named in words."""
        return abs(self.cost or 0) >= NOTABLE

    @property
    def toward_floor(self) -> bool:
        """Whether the whole interval is a cost."""
        return self.low is not None and self.low > 0

    @property
    def toward_ceiling(self) -> bool:
        """Whether the whole interval is a gain."""
        return self.high is not None and self.high < 0


@dataclass(frozen=True)
class Separation:
    """How well a column tells one subject from strangers at one level: area under the ROC curve, means of both."""

    level: Key
    same: float
    other: float
    auc: Statistic


@dataclass(frozen=True)
class ColumnCard:
    """Everything that an examination says about one column.

    `scales` by number of subjects; `effects` in the design's order; `correlations` are Spearman's, of the value with
    the trait distance and with the stranger's share; `steps` compare each trait distance with the one before.
    """

    column: Column
    scales: Mapping[int, Scale]
    effects: tuple[LevelEffect, ...]
    separations: tuple[Separation, ...]
    equal_error: Statistic | None
    correlations: Mapping[str, Statistic]
    steps: tuple[tuple[float, Effect], ...]
    at_ceiling: float | None
    at_floor: float | None
    repeatability: float | None
    """Standard deviation over seeds of the same people, as part of the scale."""
    people: int
    """Number of people that were examined."""
    unseen: int
    """People among them whose reference photograph shows the metric no face, so that they have no value."""

    @cached_property
    def faults(self) -> tuple[LevelEffect, ...]:
        """Effects of what a request did not want, for as many people as faults are examined for."""
        return tuple(one for one in self._judged if one.role == "fault")

    @cached_property
    def nuisances(self) -> tuple[LevelEffect, ...]:
        """Effects of what ought not to matter, on the right people."""
        return tuple(one for one in self._judged if one.role == "nuisance")

    @property
    def _judged(self) -> Iterator[LevelEffect]:
        return (one for one in self.effects if not one.others and one.subjects <= LARGEST_WITH_FAULTS)

    @property
    def sees(self) -> list[LevelEffect]:
        """Faults that cost a notable part of the scale, the dearest first; without a direction, those that move it."""
        found = (one for one in self.faults if one.toward_floor and one.notable)
        return sorted(found, key=lambda one: -(one.cost or 0))

    @property
    def rewards(self) -> list[LevelEffect]:
        """Faults that raise the value by a notable part of the scale, the greatest gain first."""
        found = (one for one in self.faults if one.toward_ceiling and one.notable)
        return sorted(found, key=lambda one: one.cost or 0)

    @property
    def barely(self) -> list[LevelEffect]:
        """Faults that move the value, but by less than a notable part of the scale."""
        return [one for one in self.faults if (one.toward_floor or one.toward_ceiling) and not one.notable]

    @property
    def blind_to(self) -> list[LevelEffect]:
        """Faults whose cost is not distinguishable from nothing."""
        return [one for one in self.faults if one.low is not None and not (one.toward_floor or one.toward_ceiling)]

    @property
    def leaves_out(self) -> list[LevelEffect]:
        """Faults of which images get no value, and thereby cost nothing."""
        return [one for one in self.faults if one.missing > 0]

    @property
    def biases(self) -> list[LevelEffect]:
        """What ought not to matter and moves the value by a notable part of the scale, the largest first."""
        found = (one for one in self.nuisances if (one.toward_floor or one.toward_ceiling) and one.notable)
        return sorted(found, key=lambda one: -abs(one.cost or 0))

    @property
    def invariant_to(self) -> list[LevelEffect]:
        """What ought not to matter and does not, by less than a notable part of the scale with all of its interval."""
        return [
            one
            for one in self.nuisances
            if one.low is not None and one.high is not None and max(-one.low, one.high) < NOTABLE
        ]

    @property
    def seen_from(self) -> float | None:
        """The smallest trait distance that lowers the value."""
        return next((one.level.amount for one in self.effects if _is_distance(one) and one.toward_floor), None)

    @property
    def falls_until(self) -> float | None:
        """The largest trait distance at which the value still falls; beyond it, worse is not distinguished."""
        sign = -np.sign(self.scales[1].length) if 1 in self.scales else 0
        still = [
            amount
            for amount, step in self.steps
            if step.low is not None and step.high is not None and min(sign * step.low, sign * step.high) > 0
        ]
        return max(still, default=None)


@dataclass(frozen=True)
class Card:
    """The card of a metric: its columns, and those without any value."""

    metric: str
    description: str
    columns: tuple[ColumnCard, ...]
    without_values: tuple[Column, ...]
    derived: str | None = None


def cards_of(scores: pd.DataFrame, metrics: Mapping[str, type[Metric]]) -> list[Card]:
    """The card of each metric."""
    return [card_of(name, metric, scores) for name, metric in metrics.items()]


def card_of(name: str, metric: type[Metric], scores: pd.DataFrame) -> Card:
    """The card of a metric from the scores of an examination."""
    found, missing = [], []
    for column in metric.columns:
        if column.name in scores and scores[column.name].notna().any():
            found.append(column_card(column, scores))
        else:
            missing.append(column)
    return Card(name, metric.description, tuple(found), tuple(missing), derived_from(metric))


def column_card(column: Column, scores: pd.DataFrame) -> ColumnCard:
    """The card of one column."""
    values = _Values(column, scores)
    scales = {size: scale for size in values.sizes if (scale := _scale(values, size)) is not None}
    effects = tuple(effect for size in values.sizes for effect in _effects(values, size, scales.get(size)))
    one = scales.get(1)
    bound = _bounds(column, one)
    return ColumnCard(
        column,
        scales,
        effects,
        tuple(_separations(values, one)) if one else (),
        _equal_error(values, one) if one else None,
        dict(_correlations(values)),
        tuple(_steps(values)),
        values.share_at((*BASE, False), bound[0]),
        values.share_at((*BASE, True), bound[1]),
        _repeatability(values, scales),
        *values.people(),
    )


class _Values:
    """The values of a column by number of subjects and place: (people, seed) -> value."""

    def __init__(self, column: Column, scores: pd.DataFrame) -> None:
        self.column = column
        self._found: dict[int, dict[Place, dict[tuple[str, ...], float]]] = {}
        self._all: dict[int, dict[Place, int]] = {}
        self._people: dict[int, set[str]] = {}
        facts = scores[["subjects", "factor", "level", "others", "people", "seed"]].itertuples(index=False, name=None)
        for (size, factor, level, others, people, seed), value in zip(facts, scores[column.name], strict=True):
            place = (factor, level, bool(others))
            own = self._found.setdefault(size, {}).setdefault(place, {})
            if not np.isnan(value):
                own[(people, str(seed))] = float(value)
            self._people.setdefault(size, set()).update(people.split("+"))
            counts = self._all.setdefault(size, {})
            counts[place] = counts.get(place, 0) + 1

    @property
    def sizes(self) -> list[int]:
        """Numbers of subjects that have values."""
        return sorted(size for size, own in self._found.items() if any(own.values()))

    def at(self, size: int, place: Place) -> Mapping[tuple[str, ...], float]:
        """The values at a level; empty without any."""
        return self._found[size].get(place, {})

    def people(self) -> tuple[int, int]:
        """Number of people, and of those without any value, in pictures of the fewest subjects that have values."""
        size = min(self.sizes)
        known = {person for own in self._found[size].values() for people, _ in own for person in people.split("+")}
        return len(self._people[size]), len(self._people[size] - known)

    def pictures(self, size: int, place: Place) -> int:
        """Pictures examined at a level."""
        return self._all[size].get(place, 0)

    def mean(self, size: int, place: Place) -> float | None:
        """The mean over people (sets of them) of their means."""
        own: dict[str, list[float]] = {}
        for (people, _), value in self.at(size, place).items():
            own.setdefault(people, []).append(value)
        return float(np.mean([np.mean(values) for values in own.values()])) if own else None

    def effect(self, size: int, base: Place, place: Place) -> Effect:
        """The paired effect of a level."""
        before, after = self.at(size, base), self.at(size, place)
        return paired_effect(before, after, {people: people.split("+") for people, _ in before})

    def share_at(self, place: Place, bound: float | None) -> float | None:
        """The share of one subject's values at a bound."""
        values = list(self.at(1, place).values()) if 1 in self._found else []
        if bound is None or not values:
            return None
        return float(np.mean(np.abs(np.array(values) - bound) < CLOSE))


def _place(key: Key, others: bool = False) -> Place:
    """The place of a level; other people are the base level with strangers."""
    return (*BASE, True) if key == OTHER_PEOPLE else (*key, others)


def _scale(values: _Values, size: int) -> Scale | None:
    """The scale: the first of the floors that costs something."""
    bases = {level.key: level.base for level in levels(size)}
    better = values.column.higher_is_better
    for floor in FLOORS:
        base = bases.get(floor, BASE)
        effect = values.effect(size, _place(base), _place(floor))
        low, high = effect.low, effect.high
        ceiling, bottom = values.mean(size, _place(base)), values.mean(size, _place(floor))
        if low is None or high is None or ceiling is None or bottom is None:
            continue
        if (high < 0 and better is not False) or (low > 0 and better is not True):
            return Scale(size, ceiling, bottom, floor)
    return None


def _effects(values: _Values, size: int, scale: Scale | None) -> Iterator[LevelEffect]:
    if values.at(size, (*BASE, False)):
        other = Level(*OTHER_PEOPLE, "fault", levels(size)[0].show)
        yield _effect(values, size, scale, other, _place(BASE), _place(OTHER_PEOPLE), False)
    for level in levels(size):
        for others in (False, True) if level.with_others else (False,):
            place, base = _place(level.key, others), _place(level.base, others)
            if place != base and values.at(size, base) and values.pictures(size, place):
                yield _effect(values, size, scale, level, base, place, others)


def _effect(
    values: _Values, size: int, scale: Scale | None, level: Level, base: Place, place: Place, others: bool
) -> LevelEffect:
    effect = values.effect(size, base, place)
    before, after = values.at(size, base), values.at(size, place)
    ends = sorted(_cost(end, scale) for end in (effect.low, effect.high) if end is not None) if scale else []
    return LevelEffect(
        level,
        size,
        others,
        values.pictures(size, place),
        values.mean(size, place),
        effect,
        _cost(effect.mean, scale) if scale and effect.mean is not None else None,
        *(ends if len(ends) == 2 else (None, None)),
        missing=len(before.keys() - after.keys()) / len(before),
    )


def _cost(effect: float, scale: Scale) -> float:
    return -effect / scale.length


def _bounds(column: Column, scale: Scale | None) -> tuple[float | None, float | None]:
    """The bounds at the ceiling's and at the floor's end."""
    low, high = column.bounds
    return (high, low) if scale is None or scale.length > 0 else (low, high)


def _pairs(values: _Values, level: Key) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Values of one subject at a level, and who was requested and who is shown."""
    found, people = [], []
    for others in (False, True):
        for (person, _), value in values.at(1, (*level, others)).items():
            found.append(value)
            people.append((person, f"stranger of {person}" if others else person))
    return np.array(found), people


def _separations(values: _Values, scale: Scale) -> Iterator[Separation]:
    for level in levels(1):
        means = [values.mean(1, (*level.key, others)) for others in (False, True)]
        if level.with_others and means[0] is not None and means[1] is not None:
            found, people = _pairs(values, level.key)
            yield Separation(level.key, means[0], means[1], auc(np.sign(scale.length) * found, people))


def _equal_error(values: _Values, scale: Scale) -> Statistic | None:
    found, people = _pairs(values, BASE)
    if len({one == other for one, other in people}) < 2:
        return None
    return equal_error_rate(np.sign(scale.length) * found, people)


def _correlations(values: _Values) -> Iterator[tuple[str, Statistic]]:
    for factor in (TRAIT_DISTANCE, BLEND):
        rows = (
            [(0.0, people, value) for (people, _), value in values.at(1, (*BASE, False)).items()]
            if 1 in values.sizes
            else []
        )
        if factor == BLEND and rows:
            rows += [(1.0, people, value) for (people, _), value in values.at(1, (*BASE, True)).items()]
        for level in levels(1):
            if level.factor == factor and level.amount is not None and 1 in values.sizes:
                own = values.at(1, (*level.key, False))
                rows += [(level.amount, people, value) for (people, _), value in own.items()]
        if len({amount for amount, _, _ in rows}) > 2:
            amounts, people, found = zip(*rows, strict=True)
            yield factor, rank_correlation(np.array(found), np.array(amounts), list(people))


def _steps(values: _Values) -> Iterator[tuple[float, Effect]]:
    """Each trait distance against the one before."""
    if 1 not in values.sizes:
        return
    before = _place(BASE)
    for level in levels(1):
        if level.factor == TRAIT_DISTANCE and level.amount is not None and values.at(1, _place(level.key)):
            yield level.amount, values.effect(1, before, _place(level.key))
            before = _place(level.key)


def _repeatability(values: _Values, scales: Mapping[int, Scale]) -> float | None:
    size = min(scales, default=None)
    if size is None:
        return None
    own: dict[str, list[float]] = {}
    for (people, _), value in values.at(size, (*BASE, False)).items():
        own.setdefault(people, []).append(value)
    spreads = [np.var(found, ddof=1) for found in own.values() if len(found) > 1]
    return float(np.sqrt(np.mean(spreads)) / abs(scales[size].length)) if spreads else None


def _is_distance(effect: LevelEffect) -> bool:
    return effect.level.factor == TRAIT_DISTANCE and not effect.others
