"""Copies among photographs: the same picture, re-saved, resized, mirrored or cropped differently."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from fc_bench.inspection.looks import (
    CELLS,
    PATCH,
    Finding,
    Key,
    Look,
    Seen,
    listed,
    names_of,
    people_in,
    repeated,
)

COARSE = 16
"""Cells per side whose mean colors are compared first."""
ALIKE, DIFFERENCE = 0.95, 64
"""Copies have at least this correlation of coarse cells, and at most this difference (of 255) in any cell.

JPEG files of quality 30 differ by up to 46 from the pocket photographs they were made of, two different ones by 113.
"""
BLOCK = 256
"""Number of pictures compared with all others at once."""
SAME_FACE, SAME_SHOT = 0.9, 0.93
"""Two crops of one shot have at least this cosine of the faces and this correlation of what surrounds them.

Different photographs of the pocket people reach a correlation of 0.89.
"""


class Copies:
    """Photographs that are the same picture, and those that are crops of the same shot."""

    def __init__(self, seen: Sequence[Seen]) -> None:
        pictures = _groups(len(seen), _copied_pairs([one.look for one in seen]))
        chained = [pair for group in pictures for pair in pairwise(group)]
        shots = _groups(len(seen), [*chained, *_cropped_pairs([one.look for one in seen])])
        self._pictures = [[seen[number] for number in group] for group in pictures]
        self._shots = [[seen[number] for number in group] for group in shots if group not in pictures]
        self._twins = {one.key: {twin.key for twin in group} for group in self._pictures + self._shots for one in group}
        self.shared = {one.key for group in self._pictures if len(people_in(group)) > 1 for one in group}
        """The photographs whose picture belongs to several people."""

    def twins(self, one: Seen) -> set[Key]:
        """The photographs of the same shot, including itself."""
        return self._twins.get(one.key, {one.key})

    def findings(self, measured: bool) -> Iterator[Finding]:
        """A sentence for each picture and each shot that occurs more than once.

        The picture of several people is refused if faces are measured, or if it is the reference of two people; a shot
        is refused if both hold.
        """
        for group in self._pictures:
            same = len({one.look.pixels for one in group}) == 1
            what = "same picture" if same else "same picture, re-saved, resized or mirrored"
            yield from _finding(group, what, refused=measured or _is_reference_of_two(group))
        for group in self._shots:
            refused = measured and _is_reference_of_two(group)
            yield from _finding(group, "same shot, cropped differently", refused)


def _is_reference_of_two(group: Sequence[Seen]) -> bool:
    return len(people_in([one for one in group if one.is_reference])) > 1


def _finding(group: Sequence[Seen], what: str, refused: bool) -> Iterator[Finding]:
    """The finding about equal photographs, if one of their people is requested."""
    if not any(one.person.requested for one in group):
        return
    people = people_in(group)
    own = [listed(repeated(names_of([one for one in group if one.person.id == who]))) for who in people]
    each = [f'{names} of "{who}"' for names, who in zip(own, people, strict=True)]
    text = f"{' and '.join(each)} are the {what}"
    if len(people) > 1:
        text += "; give each person photographs of their own."
        yield Finding("copies", text, refused, names_of(group))
    else:
        text += ", the reference among them" if any(one.is_reference for one in group) else ""
        yield Finding("copies", f"{text}; replace all but one.", photographs=names_of(group))


def _copied_pairs(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    """Pairs of photographs of one picture, also if re-saved, resized or mirrored; blank ones have no pairs."""
    numbers = [number for number, look in enumerate(looks) if not look.is_blank]
    cells = [looks[number].cells for number in numbers]
    outlines = [np.array([_outline(one) for one in way]) for way in (cells, [one[:, ::-1] for one in cells])]
    for one, other in _near(outlines[0], outlines, ALIKE):
        ways = (cells[one], cells[one][:, ::-1])
        if min(np.abs(way - cells[other]).max() for way in ways) <= DIFFERENCE:
            yield numbers[one], numbers[other]


def _cropped_pairs(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    """Pairs of photographs of one shot, by the largest face and its surroundings."""
    shown = [(number, look.surroundings) for number, look in enumerate(looks) if look.surroundings is not None]
    faces = np.array([looks[number].faces[0].embedding for number, _ in shown])
    for one, other in _near(faces, [faces], SAME_FACE):
        (first, (mine, inside)), (second, (theirs, also)) = shown[one], shown[other]
        both = inside & also
        if both.sum() >= PATCH and float(_standard(mine[both]) @ _standard(theirs[both])) >= SAME_SHOT:
            yield first, second


def _near(vectors: np.ndarray, others: Sequence[np.ndarray], least: float) -> Iterator[tuple[int, int]]:
    """Pairs of rows (the first before the second) whose product with a row of the others is at least the threshold."""
    for start in range(0, len(vectors), BLOCK):
        rows = vectors[start : start + BLOCK]
        near = np.maximum.reduce([rows @ each.T for each in others]) >= least
        for one, other in zip(*np.nonzero(near), strict=True):
            if start + one < other:
                yield start + int(one), int(other)


def _outline(cells: np.ndarray) -> np.ndarray:
    """The coarse cells without brightness and contrast: a unit-length vector."""
    step = CELLS // COARSE
    return _standard(cells.reshape(COARSE, step, COARSE, step, 3).mean(axis=(1, 3)))


def _standard(values: np.ndarray) -> np.ndarray:
    """The values as a vector of mean 0 and unit length."""
    centered = values.ravel() - values.mean()
    return centered / max(float(np.linalg.norm(centered)), 1e-6)


def _groups(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Connected groups of two and more, by these pairs."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    found = np.array(list(pairs), dtype=int).reshape(-1, 2)
    joined = coo_array((np.ones(len(found)), (found[:, 0], found[:, 1])), shape=(count, count))
    _, labels = connected_components(joined, directed=False)
    members: dict[int, list[int]] = {}
    for number, label in enumerate(labels):
        members.setdefault(int(label), []).append(number)
    return [group for group in members.values() if len(group) > 1]
