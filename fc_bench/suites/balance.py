"""Sets that are drawn from the subjects of a suite, balanced between subjects and between values of an attribute."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from fc_bench.errors import UserError
from fc_bench.suites.suite_file import DrawnSets, SubjectEntry

TRIES = 100
"""Number of draws of a set before it counts as impossible to find a new one."""


def drawn_sets(wanted: DrawnSets, subjects: Sequence[SubjectEntry], seed: int) -> list[tuple[str, ...]]:
    """The sets, the same for the same seed: no two have the same subjects.

    Each subject of a set is drawn from those that were drawn least, of the values of the attribute that were drawn
    least. Raises UserError if so many different sets are not found.
    """
    generator = random.Random(f"sets {seed}")
    values = {entry.id: entry.attributes[wanted.balance] if wanted.balance else "" for entry in subjects}
    drawn, by_value = Counter[str](), Counter[str]()
    found: dict[frozenset[str], tuple[str, ...]] = {}
    while len(found) < wanted.count:
        for attempt in range(TRIES):
            group = _drawn(wanted.people, values, drawn, by_value, generator, attempt / 10)
            if frozenset(group) not in found:
                break
        else:
            raise UserError(
                f"Only {len(found)} different sets of {wanted.people} were found, {wanted.count} are requested; lower "
                "the count under multi, or add subjects."
            )
        found[frozenset(group)] = group
        drawn.update(group)
        by_value.update(values[name] for name in group)
    return list(found.values())


def _drawn(
    people: int,
    values: dict[str, str],
    drawn: Counter[str],
    by_value: Counter[str],
    generator: random.Random,
    noise: float,
) -> tuple[str, ...]:
    """One set; `noise` is added to the numbers of draws, for sets that differ from those already drawn."""
    group: list[str] = []
    for _ in range(people):
        own = Counter(values[name] for name in group)
        order = {
            name: (
                by_value[value] + own[value] + noise * generator.random(),
                drawn[name] + noise * generator.random(),
                generator.random(),
            )
            for name, value in values.items()
        }
        group.append(min((name for name in values if name not in group), key=order.__getitem__))
    return tuple(group)
