"""A run as a pilot: the people, prompts and images a prompt that a difference between its methods needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt

import pandas as pd

from fc_bench.analysis.aggregate import by_method, units_of_rows
from fc_bench.analysis.differences import SAMPLE_KEY, independent, sample_differences
from fc_bench.analysis.power import detectable, deviation_interval, people_needed
from fc_bench.analysis.statistics import FEWEST_UNITS
from fc_bench.analysis.variance_components import PROMPT, Components, components
from fc_bench.errors import UserError
from fc_bench.model.yaml_file import nearest
from fc_bench.protocols import Column

PROMPTS = (1, 2, 5, 10, 20, 40, 80)
IMAGES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Pilot:
    """The variance components of a column: of a method's images, or of a method's differences to another."""

    method: str
    against: str | None
    column: Column
    subjects: int
    components: Components

    @property
    def name(self) -> str:
        """The method, or both."""
        return self.method if self.against is None else _pair(self.method, self.against)

    def detectable(self, wanted: float) -> float | None:
        """The smallest difference that the run detects with the wanted power."""
        found = self.components
        return detectable(sqrt(found.set_variance), found.people, wanted)

    def needed(self, difference: float, wanted: float, prompts: float, images: float) -> int | None:
        """People needed, each with so many prompts and images of each."""
        return people_needed(difference, self.components.deviation(prompts, images), wanted)

    def needed_interval(self, difference: float, wanted: float) -> tuple[int | None, int | None]:
        """Interval of the people needed with the run's prompts: a few people measure their own spread roughly."""
        found = self.components
        low, high = deviation_interval(sqrt(found.set_variance), found.people)
        return people_needed(difference, low, wanted), people_needed(difference, high, wanted)


@dataclass(frozen=True)
class Pilots:
    """The pilots of single methods and of pairs; `left_out`: pairs whose sets share images or subjects."""

    singles: Sequence[Pilot]
    pairs: Sequence[Pilot]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """People needed with so many prompts and images of each; None where no number in reach is enough."""

    prompts: int
    images: int
    people: int | None

    @property
    def total(self) -> int | None:
        """Images of a method."""
        return None if self.people is None else self.people * self.prompts * self.images


@dataclass(frozen=True)
class Doubling:
    """The run with twice of one thing: its size, what it detects, and the standard error of a difference.

    `error` is given the prompts and seeds, as in the test; `error_anew` is that of prompts and seeds drawn anew, None
    where a single prompt says nothing of others.
    """

    what: str
    people: int
    prompts: float
    images: float
    detectable: float | None
    error: float
    error_anew: float | None


@dataclass(frozen=True)
class Study:
    """A run as a pilot of a column, and the plans of one pair of its methods.

    `chosen` is the pair whose people differ most, so that its plan is enough for the others.
    """

    column: Column
    difference: float
    power: float
    pilots: Pilots
    chosen: Pilot
    plans: Sequence[Plan]
    doublings: Sequence[Doubling]


def study(
    samples: pd.DataFrame,
    column: Column,
    difference: float,
    power: float,
    method: str | None = None,
    against: str | None = None,
    subjects: int | None = None,
) -> Study:
    """Plan for a difference with a power; the arguments and errors are those of `pilots`."""
    found = pilots(samples, column, method, against, subjects)
    chosen = max(found.pairs, key=lambda pair: pair.components.set_variance)
    return Study(column, difference, power, found, chosen, plans(chosen, difference, power), doublings(chosen, power))


def pilots(
    samples: pd.DataFrame,
    column: Column,
    method: str | None = None,
    against: str | None = None,
    subjects: int | None = None,
) -> Pilots:
    """The pilots of methods, and of pairs of methods: of all, of those with one of the two, or of one.

    `samples` are those of `read_measurements`; `subjects` is the number of subjects an image, the smallest if not
    given. Raises UserError if the run lacks a method, values of the column, a second method or three independent sets.
    """
    labels = samples["method"].unique().tolist()
    for name in (method, against):
        if name is not None and name not in labels:
            raise UserError(f'The run has no method "{name}", {nearest(name, labels)}')
    if method is not None and method == against:
        raise UserError(f'"{method}" does not differ from itself; name another method with --against.')
    sizes = sorted(samples["subjects"].unique().tolist())
    if subjects is not None and subjects not in sizes:
        raise UserError(f"The run has no images of {subjects} subjects; it has those of {_listed(sizes)}.")
    size = sizes[0] if subjects is None else subjects
    own = {name: rows for name, rows in by_method(samples, size) if rows[column.name].notna().any()}
    if method and against:
        own = {name: rows for name, rows in own.items() if name in (method, against)}
    without = [name for name in (method, against) if name is not None and name not in own]
    if without or not own:
        of = f' of "{without[0]}"' if without else ""
        raise UserError(f'The run has no value of "{column.name}"{of} with {size} subjects an image; score it first.')
    chosen = [pair for pair in combinations(own, 2) if {method, against} - {None} <= set(pair)]
    if not chosen:
        raise UserError(f'The run has "{next(iter(own))}" alone; a difference takes a second method.')
    refused: dict[str, str] = {}
    singles, differences = [], []
    for name, rows in own.items():
        if _dependence(rows, column) is None:
            singles.append(_pilot(rows, column, size, name, None))
    for one, other in chosen:
        first, second = (one, other) if method == one or against == other else (other, one)
        new, base = (own[name].loc[:, [*SAMPLE_KEY, "image", column.name]] for name in (first, second))
        shared = _dependence(pd.concat([base, new]), column)
        if shared is None:
            found = sample_differences(base, new, [column.name])
            differences.append(_pilot(found, column, size, first, second))
        else:
            refused[_pair(first, second)] = shared
    if not differences:
        shared = next(iter(refused.values()))
        remedy = (
            "compare methods that see the subjects" if shared == "images" else "plan with sets of other people each"
        )
        raise UserError(
            f'The sets of {size} {"subject" if size == 1 else "subjects"} share {shared}, so "{column.name}" has no '
            f"independent differences; {remedy}."
        )
    return Pilots(singles, differences, tuple(refused))


def plans(pilot: Pilot, difference: float, wanted: float) -> list[Plan]:
    """People needed for a difference, by number of prompts and of images a prompt; only what the run can tell apart."""
    found = pilot.components
    prompts, images = (max(round(each), 1) for each in (found.prompts, found.images))
    return [
        Plan(each, of_each, pilot.needed(difference, wanted, each, of_each))
        for each in (sorted({*PROMPTS, prompts}) if found.prompts_vary else [prompts])
        for of_each in (sorted({*IMAGES, images}) if found.images_vary else [images])
    ]


def doublings(pilot: Pilot, wanted: float) -> list[Doubling]:
    """The run as it is, and with twice the people, prompts or images a prompt, where the run says what these do."""
    found = pilot.components
    rows = [("as it is", 1, 1, 1), ("twice the people", 2, 1, 1)]
    rows += [("twice the prompts", 1, 2, 1)] if found.prompts_vary else []
    rows += [("twice the images a prompt", 1, 1, 2)] if found.images_vary else []
    made = []
    for what, more_people, more_prompts, more_images in rows:
        people, prompts, images = (
            found.people * more_people,
            found.prompts * more_prompts,
            found.images * more_images,
        )
        deviation = found.deviation(prompts, images)
        own, common = deviation**2 / people, found.common_variance(prompts, images)
        anew = sqrt(own + common) if any(PROMPT in names for names in found.variances) else None
        reached = detectable(deviation, people, wanted)
        made.append(Doubling(what, people, prompts, images, reached, sqrt(own), anew))
    return made


def _pilot(rows: pd.DataFrame, column: Column, size: int, method: str, against: str | None) -> Pilot:
    own = rows.dropna(subset=column.name)
    people = own["set"].nunique()
    if people < FEWEST_UNITS:
        raise UserError(
            f'"{column.name}" has values of {people} {"subject" if size == 1 else "subject set"}'
            f"{'' if people == 1 else 's'}, from which their spread is not known; "
            f"run {FEWEST_UNITS} or more (better ten)."
        )
    found = components(*(own[name].to_numpy() for name in (column.name, "set", "template", "index")))
    return Pilot(method, against, column, size, found)


def _dependence(sharing: pd.DataFrame, column: Column) -> str | None:
    """What the sets of these samples share, `images` or `subjects`; None if each is an observation by itself."""
    units = units_of_rows(sharing, column)
    if independent(units):
        return None
    return "images" if all(len(own) == 1 for own in units.values()) else "subjects"


def _pair(method: str, against: str) -> str:
    return f"{method} − {against}"


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
