"""Calibration of a face embedder on labelled photographs: same and other people, what detection loses, the threshold.

The photographs pass the inspection that a suite's photographs pass, and a face is the largest one in the square that
methods would get.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np

from fc_bench.analysis.discrimination import (
    OperatingPoint,
    Statistic,
    accepted,
    auc,
    equal_error_rate,
    fewest_other_pairs,
    operating_point,
)
from fc_bench.analysis.statistics import FEWEST_UNITS, SEED
from fc_bench.errors import UserError
from fc_bench.inspection.copies import Copies
from fc_bench.inspection.inspector import Inspector
from fc_bench.inspection.looks import Person, Photograph, Seen
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.progress import Progress
from fc_bench.protocols import Subject
from fc_bench.scoring.faces import FaceFinder
from fc_bench.suites.photographs import read_photograph

MOST_OTHER_PAIRS = 100_000
"""Pairs of different people that are looked at; of more, so many are drawn."""
BLOCK = 50_000
"""Pairs whose embeddings are multiplied at a time."""
EVERYTHING, ACROSS, LOOSE = "all", "across folders", "(no folder)"
"""Names of the rows beside those of the subfolders: all pairs, pairs of two subfolders, photographs in none."""


@dataclass(frozen=True)
class Found:
    """A photograph: its person, subfolder ("" for none), name, number of faces (None: unreadable), embedding."""

    person: str
    place: str
    name: str
    faces: int | None
    embedding: np.ndarray | None = None


@dataclass(frozen=True)
class Detection:
    """Photographs of a subfolder, and how many of them are unreadable, show no face, or several."""

    place: str
    photographs: int
    unreadable: int
    without_face: int
    several_faces: int

    @property
    def lost(self) -> float:
        """Share of the photographs in which no face is found, or that are unreadable."""
        return (self.unreadable + self.without_face) / self.photographs


@dataclass(frozen=True)
class Separation:
    """Same and other pairs of some photographs: their numbers, mean cosines, and how well the cosine separates them.

    `accepted_same` and `accepted_other` are the shares at or above the threshold of all photographs.
    """

    place: str
    people: int
    same_pairs: int
    other_pairs: int
    same: float | None
    other: float | None
    auc: Statistic | None
    equal_error_rate: Statistic | None
    accepted_same: Statistic | None
    accepted_other: Statistic | None


@dataclass(frozen=True)
class Pairs:
    """Pairs of photographs: cosines [n], people [n, 2], and the subfolders of the two [n, 2]."""

    cosines: np.ndarray
    people: np.ndarray
    places: np.ndarray

    @property
    def same(self) -> np.ndarray:
        """Whether the two show the same person, [n]."""
        return self.people[:, 0] == self.people[:, 1]

    def where(self, chosen: np.ndarray) -> Pairs:
        """Those of the pairs."""
        return Pairs(self.cosines[chosen], self.people[chosen], self.places[chosen])


@dataclass(frozen=True)
class Calibration:
    """What an embedder makes of labelled photographs; of `other_pairs` at most `MOST_OTHER_PAIRS` are among the pairs.

    `declared` is the threshold that the backbone already has for it.
    """

    embedder: str
    found: Sequence[Found]
    pairs: Pairs
    point: OperatingPoint
    other_pairs: int
    declared: float | None = None
    remarks: Sequence[str] = field(default=(), compare=False)

    @property
    def threshold(self) -> float:
        """The threshold to write down: rounded up to three decimals, so that it accepts no more."""
        assert self.point.threshold.value is not None
        return math.ceil(self.point.threshold.value * 1000 - 1e-9) / 1000

    @cached_property
    def at_declared(self) -> tuple[Statistic, Statistic] | None:
        """Shares of same and of other pairs that reach the declared threshold; None without one."""
        return None if self.declared is None else accepted(self.pairs.cosines, self.pairs.people, self.declared)

    @cached_property
    def detections(self) -> list[Detection]:
        """All photographs, then those of each subfolder if there is any."""
        places = _places(self.found)
        groups = {EVERYTHING: list(self.found)} | {
            place: [one for one in self.found if one.place == place] for place in places
        }
        return [
            Detection(
                place or LOOSE,
                len(own),
                sum(one.faces is None for one in own),
                sum(one.faces == 0 for one in own),
                sum((one.faces or 0) > 1 for one in own),
            )
            for place, own in groups.items()
        ]

    @cached_property
    def separations(self) -> list[Separation]:
        """All pairs, then those within each subfolder, then those of two subfolders, if there are any subfolders."""
        places = _places(self.found)
        first, second = self.pairs.places.T
        groups = {place or LOOSE: (first == place) & (second == place) for place in places}
        groups |= {ACROSS: first != second} if len(places) > 1 else {}
        everything = {EVERYTHING: np.ones(len(first), dtype=bool)}
        return [self._separation(place, self.pairs.where(chosen)) for place, chosen in (everything | groups).items()]

    def _separation(self, place: str, pairs: Pairs) -> Separation:
        same, cosines = pairs.same, pairs.cosines
        both = bool(same.any() and not same.all())
        shares = accepted(cosines, pairs.people, self.threshold) if len(cosines) else (None, None)
        return Separation(
            place,
            len(np.unique(pairs.people)),
            int(same.sum()),
            int((~same).sum()),
            float(cosines[same].mean()) if same.any() else None,
            float(cosines[~same].mean()) if not same.all() else None,
            auc(cosines, pairs.people) if both else None,
            equal_error_rate(cosines, pairs.people) if both else None,
            shares[0] if same.any() else None,
            shares[1] if not same.all() else None,
        )


def calibrate(
    people: Mapping[str, Sequence[tuple[str, Path]]],
    backbone: Backbone,
    embedder: int,
    false_accept_rate: float,
    show: Progress,
    device: str = "cpu",
) -> Calibration:
    """Calibrate an embedder of the backbone on photographs: person -> subfolder and file of each.

    Copies of a photograph form no pair, and a photograph that several people have forms none at all. Raises UserError
    if there are too few people or photographs for the false-accept rate, and the errors of loading the models.
    """
    inspector = Inspector(FaceFinder(backbone, device))
    shown = _people(people, inspector)
    found, seen = _found(people, shown, inspector, embedder, show)
    used = [(one, photograph) for one, photograph in zip(found, seen, strict=True) if one.embedding is not None]
    _refuse_too_few([one for one, _ in used], len(people), false_accept_rate, backbone.faces[embedder].name)
    pairs, others = _pairs(used)
    if np.count_nonzero(~pairs.same) < fewest_other_pairs(false_accept_rate) or not pairs.same.any():
        raise UserError(
            "Too few pairs of photographs are left without copies; add photographs, or state a higher "
            "--false-accept-rate."
        )
    point = operating_point(pairs.cosines, pairs.people, false_accept_rate)
    remarks = [finding.text for finding in inspector.inspect(shown).findings if finding.kind not in LOSSES]
    faces = backbone.faces[embedder]
    return Calibration(faces.name, found, pairs, point, others, faces.threshold, remarks)


LOSSES = ("no-face", "unreadable")
"""Findings of the inspection that the table of detection counts."""


def _people(people: Mapping[str, Sequence[tuple[str, Path]]], inspector: Inspector) -> list[Person]:
    """The people for the inspection, with the squares of their photographs."""
    subjects = [Subject(person, "person", tuple(path for _, path in own)) for person, own in people.items()]
    crops = inspector.crops(subjects)
    return [
        Person(subject.id, tuple(Photograph(path, f"{subject.id}/{path.name}", crops.get(path)) for path in own))
        for subject in subjects
        if (own := subject.photographs)
    ]


def _found(
    people: Mapping[str, Sequence[tuple[str, Path]]],
    shown: Sequence[Person],
    inspector: Inspector,
    embedder: int,
    show: Progress,
) -> tuple[list[Found], list[Seen | None]]:
    """Every photograph, and what the inspection saw of it (None: unreadable)."""
    found: list[Found] = []
    seen: list[Seen | None] = []
    for person in shown:
        for number, ((place, path), photograph) in enumerate(zip(people[person.id], person.photographs, strict=True)):
            try:
                one = Seen(person, number, inspector.look(path))
                faces = inspector.shown_faces(one, embedder)
            except UserError as error:
                if not _is_unreadable(path):
                    raise
                show.say(str(error))
                found.append(Found(person.id, place, photograph.name, None))
                seen.append(None)
            else:
                embedding = faces[0].embedding if faces else None
                found.append(Found(person.id, place, photograph.name, len(faces), embedding))
                seen.append(one)
            show.advance()
    return found, seen


def _is_unreadable(path: Path) -> bool:
    """Whether it is the photograph that cannot be read, not the models that fail."""
    try:
        read_photograph(path)
    except UserError:
        return True
    return False


def _refuse_too_few(used: Sequence[Found], people: int, rate: float, embedder: str) -> None:
    """Raise UserError, with what is needed, if there are too few pairs for the false-accept rate."""
    counts = np.unique([one.person for one in used], return_counts=True)[1] if used else np.array([], dtype=int)
    with_face = f"{embedder} finds a face in {len(used)} photographs of {len(counts)} of the {people} people"
    if len(counts) < FEWEST_UNITS:
        raise UserError(f"{with_face}; an interval needs at least {FEWEST_UNITS} people, so add photographs of others.")
    if counts.max() < 2:
        raise UserError(f"{with_face}, one of each; add a second photograph of each person.")
    needed, there = fewest_other_pairs(rate), (int(counts.sum()) ** 2 - int((counts**2).sum())) // 2
    if there < needed:
        each = float(counts.mean())
        enough = math.ceil((1 + math.sqrt(1 + 8 * needed / each**2)) / 2)
        raise UserError(
            f"A false-accept rate of {rate:g} needs {needed} pairs of different people, and {with_face}, which are "
            f"{there} pairs; add people (about {enough} with {each:.0f} photographs each are enough), or state a "
            "higher --false-accept-rate."
        )


def _pairs(used: Sequence[tuple[Found, Seen | None]]) -> tuple[Pairs, int]:
    """The pairs of photographs without copies, and how many other pairs there are before some are drawn."""
    copies = Copies([seen for _, seen in used if seen is not None])
    own = [(one, seen) for one, seen in used if seen is not None and seen.key not in copies.shared]
    people, places = np.array([one.person for one, _ in own]), np.array([one.place for one, _ in own])
    same = [
        (first, second)
        for person in dict.fromkeys(people.tolist())
        for first, second in combinations(np.flatnonzero(people == person).tolist(), 2)
        if own[second][1].key not in copies.twins(own[first][1])
    ]
    sizes = np.unique(people, return_counts=True)[1]
    count = (len(own) ** 2 - int((sizes**2).sum())) // 2
    pairs = np.concatenate([np.array(same, dtype=int).reshape(-1, 2), _other_pairs(people, count)])
    embeddings = np.array([one.embedding for one, _ in own])
    cosines = np.concatenate(
        [
            (embeddings[block[:, 0]] * embeddings[block[:, 1]]).sum(axis=1)
            for block in np.array_split(pairs, 1 + len(pairs) // BLOCK)
        ]
    )
    return Pairs(cosines, people[pairs], places[pairs]), count


def _other_pairs(people: np.ndarray, count: int) -> np.ndarray:
    """The pairs of photographs [n, 2] of different people, or `MOST_OTHER_PAIRS` of them, drawn by a seed."""
    if count <= MOST_OTHER_PAIRS:
        pairs = np.stack(np.triu_indices(len(people), 1), axis=1)
        return pairs[people[pairs[:, 0]] != people[pairs[:, 1]]]
    rng, found = np.random.default_rng(SEED), np.empty((0, 2), dtype=int)
    while len(found) < MOST_OTHER_PAIRS:
        drawn = np.sort(rng.integers(0, len(people), (MOST_OTHER_PAIRS, 2)), axis=1)
        found = np.unique(np.concatenate([found, drawn[people[drawn[:, 0]] != people[drawn[:, 1]]]]), axis=0)
    return found[np.sort(rng.choice(len(found), MOST_OTHER_PAIRS, replace=False))]


def _places(found: Sequence[Found]) -> list[str]:
    """The subfolders in the order of their names; none if every photograph lies in its person's folder itself."""
    places = sorted({one.place for one in found})
    return [] if places == [""] else places
