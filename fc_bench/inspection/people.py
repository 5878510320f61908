"""The people that photographs show, judged by their faces: the expected person or another one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from fc_bench.inspection.copies import Copies
from fc_bench.inspection.looks import Finding, Seen, listed, names_of, people_in

PLAINLY = 0.2
"""A face is plainly another person's where its cosine with that person's photographs is higher by so much.

Every photograph of the pocket people resembles the others of its person more than anybody else's, by at least 0.17.
"""
HARDLY = 1 / 3
"""A photograph hardly resembles others if its cosine with them is at most this share of their mutual cosine."""
AGREE = 0.3
"""Smallest mutual cosine of the others for this judgment."""
SIMILAR = 0.5
"""A second face with this share of the largest one's area counts as equally large."""


class Resemblance:
    """Whether photographs show the person they belong to, by their largest faces.

    Photographs that several people share are left out, because their owner is unknown.
    """

    def __init__(self, seen: Sequence[Seen], copies: Copies) -> None:
        self._seen = [one for one in seen if one.look.faces and one.key not in copies.shared]
        self._ids = people_in(self._seen)
        self._owners = np.array([self._ids.index(one.person.id) for one in self._seen], dtype=int)
        self._faces = np.array([one.look.faces[0].embedding for one in self._seen])
        self._copies = copies
        self._means = self._means_of(range(len(self._seen)))

    def findings(self, measured: bool) -> Iterator[Finding]:
        """A sentence for each doubtful face, and for people who may be the same; references are refused if measured."""
        several: dict[tuple[str, bool], list[int]] = {}
        right: list[int] = []
        for number, one in enumerate(self._seen):
            wrong = self._wrong(number) if one.person.requested else None
            if wrong is not None:
                yield Finding("other-person", wrong, measured and one.is_reference, names_of([one]))
                continue
            right.append(number)
            faces = one.look.faces
            if len(faces) > 1 and one.person.requested:
                several.setdefault((one.person.id, faces[1].area >= SIMILAR * faces[0].area), []).append(number)
        for (_, similar), numbers in several.items():
            yield self._several(numbers, similar)
        yield from self._same_people(right)

    def _means_of(self, numbers: Sequence[int]) -> np.ndarray:
        """Mean face of each person in these photographs, [people, dim], zero for a person without a face.

        The mean cosine of two people's photographs is the product of their means.
        """
        sums = np.zeros((len(self._ids), *self._faces.shape[1:]))
        np.add.at(sums, self._owners[list(numbers)], self._faces[list(numbers)])
        counts = np.bincount(self._owners[list(numbers)], minlength=len(self._ids))
        return sums / np.maximum(counts, 1)[:, None]

    def _wrong(self, number: int) -> str | None:
        """Why the largest face of a photograph is not its person's, by that person's other photographs."""
        one, others = self._seen[number], self._others(number)
        if not others:
            return None
        whose = f"{one.named}{',' if one.is_reference else ''}"
        them = f'the other photographs of "{one.person.id}"'
        each = [float((self._faces[others] @ face.embedding).mean()) for face in one.look.faces]
        own, best = each[0], max(each)
        rival, theirs = self._rival(number)
        if best - own > PLAINLY:
            like = f' (it resembles "{rival}", {theirs:.2f})' if theirs - own > PLAINLY else ""
            return (
                f"The largest of the {len(each)} faces in {whose} belongs to another person{like}: {them} resemble a "
                f"smaller face, {best:.2f} to {own:.2f}; crop the photograph to that one."
            )
        if theirs - own > PLAINLY:
            return (
                f'{whose} resembles the photographs of "{rival}" ({theirs:.2f}) more than {them} ({own:.2f}); '
                "move it to the right folder or replace it."
            )
        agreement = _agreement(self._faces[others])
        if agreement is not None and agreement >= AGREE and own <= HARDLY * agreement:
            return (
                f"{whose} hardly resembles {them} ({own:.2f}), which resemble each other ({agreement:.2f}); replace it "
                "if it shows another person."
            )
        return None

    def _others(self, number: int) -> list[int]:
        """The other photographs of the same person, without those of the same shot."""
        twins = self._copies.twins(self._seen[number])
        same = np.flatnonzero(self._owners == self._owners[number])
        return [int(other) for other in same if self._seen[other].key not in twins]

    def _rival(self, number: int) -> tuple[str, float]:
        """The other person whose photographs the largest face resembles most, and its mean cosine with them."""
        cosines = self._means @ self._faces[number]
        cosines[self._owners[number]] = -np.inf
        best = int(cosines.argmax())
        return self._ids[best], float(cosines[best])

    def _several(self, numbers: Sequence[int], similar: bool) -> Finding:
        """The finding about a person's photographs with more than one face."""
        own = [self._seen[number] for number in numbers]
        count, like = f"show{'s' if len(own) == 1 else ''} several faces", ""
        if len(own) == 1:
            count = f"shows {len(own[0].look.faces)} faces"
            like = self._likeness(numbers[0])
        how = " of similar size" if similar else ""
        text = f'{listed(names_of(own))} of "{own[0].person.id}" {count}{how}; the largest is used{like}, so crop the '
        return Finding("several-faces", f"{text}photograph if another person is meant.", photographs=names_of(own))

    def _likeness(self, number: int) -> str:
        """The person that the largest face resembles, if it does so much more than the other faces."""
        rival, theirs = self._rival(number)
        if not np.isfinite(theirs):
            return ""
        mean = self._means[self._ids.index(rival)]
        others = max(float(mean @ face.embedding) for face in self._seen[number].look.faces[1:])
        return f' (it resembles "{rival}", {theirs:.2f})' if theirs - others > 2 * PLAINLY else ""

    def _same_people(self, right: Sequence[int]) -> Iterator[Finding]:
        """People whose photographs resemble another person's as much as each other."""
        owners = self._owners[list(right)]
        agreement = [_agreement(self._faces[list(right)][owners == place]) for place in range(len(self._ids))]
        between = (means := self._means_of(right)) @ means.T
        for one, other in combinations(range(len(self._ids)), 2):
            known = [value for place in (one, other) if (value := agreement[place]) is not None]
            if known and AGREE <= min(known) <= between[one, other]:
                text = f'The photographs of "{self._ids[one]}" resemble those of "{self._ids[other]}"'
                text += f" ({between[one, other]:.2f}) as much as each other ({min(known):.2f}); keep one of the two if"
                yield Finding("same-person", f"{text} they are the same person.")


def _agreement(faces: np.ndarray) -> float | None:
    """Mean cosine of faces [n, dim] with each other; None for fewer than two."""
    if len(faces) < 2:
        return None
    return float((faces @ faces.T)[np.triu_indices(len(faces), 1)].mean())
