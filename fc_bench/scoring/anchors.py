"""Anchors: the suite's own photographs as the best (ceiling) and the worst (floor) possible images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fc_bench.protocols import Subject


@dataclass(frozen=True)
class Anchor:
    """Photograph `number` (from 0) of each of `people`, in place of the generated images, for the row `row`."""

    row: str
    people: tuple[Subject, ...]
    number: int


def anchors_of(subjects: Sequence[Subject], everybody: Sequence[Subject]) -> list[Anchor]:
    """`ceiling`: other photographs of the subjects; `floor`: the first photograph of another person for each subject.

    Each person comes from a separate photograph. A row is left out if a subject has no second photograph, or if the
    suite has no other person for it. The other person is the next subject of the suite with the same noun (or the next
    one at all) outside the set; `everybody` are all subjects of the suite, in its order.
    """
    fewest = min(len(subject.photographs) for subject in subjects)
    anchors = [Anchor("ceiling", tuple(subjects), number) for number in range(1, fewest)]
    strangers = _strangers(subjects, everybody)
    if strangers is not None:
        anchors.append(Anchor("floor", tuple(strangers), 0))
    return anchors


def _strangers(subjects: Sequence[Subject], everybody: Sequence[Subject]) -> list[Subject] | None:
    """One other person per subject, all different; None if the suite has too few."""
    taken = {subject.id for subject in subjects}
    order = [subject.id for subject in everybody]
    strangers = []
    for subject in subjects:
        start = order.index(subject.id) + 1 if subject.id in order else 0
        following = [*everybody[start:], *everybody[:start]]
        free = [candidate for candidate in following if candidate.id not in taken]
        same_noun = [candidate for candidate in free if candidate.noun == subject.noun]
        if not free:
            return None
        strangers.append((same_noun or free)[0])
        taken.add(strangers[-1].id)
    return strangers
