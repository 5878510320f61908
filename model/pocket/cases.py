"""Planted cases: pictures of which it is known how they fail a request for particular people.

A request names one or two people and a scene. The first case of each number of people is the truth, new pictures of the
right people; every other one has a single, known fault. The cases of a request share pose, expression, clothes, light
and background wherever they show as many people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fc_bench.model.pocket.canvas import SIZE
from fc_bench.model.pocket.people import EVALUATION_PEOPLE, Person, make_person, trait_vector
from fc_bench.model.pocket.render import Scene, render, render_background, render_photograph

STRANGERS = EVALUATION_PEOPLE[50_000:]
"""Seeds of the people that are in no suite and take somebody's place."""

_CATEGORIES = ("noun", "hair_style", "facial_hair", "eye_color", "nose_shape", "mole", "freckles")
"""Traits of which there is no mean."""


@dataclass(frozen=True)
class Request:
    """The people to be shown, in the prompt's order, in a scene; `number` tells requests of the same people apart.

    Every other request keeps the second person where a case keeps one of two.
    """

    people: tuple[Person, ...]
    scene: Scene
    number: int

    @property
    def kept(self) -> int:
        """Index of the person that is kept where a case keeps one of two."""
        return self.number % len(self.people)

    def strangers(self) -> list[Person]:
        """For each person one that is in no suite, of the same class noun."""
        rng = self._generator(1)
        return [make_person(STRANGERS[int(rng.integers(len(STRANGERS)))], person.noun) for person in self.people]

    def show(self, people: Sequence[Person], first_on_left: bool = True) -> NDArray[np.uint8]:
        """A new picture of these people, [128, 128, 3]."""
        return render(people, self.scene, self._generator(0), first_on_left).image

    def background(self) -> NDArray[np.uint8]:
        """The scene without anyone in it, [128, 128, 3]."""
        return render_background(self.scene.context, self._generator(0), self.scene.style)

    def _generator(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([23, *(person.seed for person in self.people), self.number, purpose])


Draw = Callable[[Request], NDArray[np.uint8]]
"""The picture of a case, [128, 128, 3] RGB."""


def blend(one: Person, other: Person, *, share: float = 0.5) -> Person:
    """The person at a share of the way from one person to another in trait space, by default halfway.

    Lengths, angles and colors are weighted means. Traits without a mean come from either, so that the distances to the
    two are as nearly in that proportion as they can be.
    """

    def unevenness(person: Person) -> float:
        # Rounded: the opposite of a choice is as uneven, and the last bits must not decide between the two.
        own, others = distance(person, one), distance(person, other)
        return round(2 * abs((1 - share) * own - share * others), 4)

    return min(mixtures(one, other, share), key=unevenness)


def mixtures(one: Person, other: Person, share: float) -> list[Person]:
    """The people with weighted means of the traits that have one, and either person's categories, in all ways."""
    means = _means(one, other, share)
    return [replace(one, **means, **_categories(one, other, number)) for number in range(2 ** len(_CATEGORIES))]


def mixture(one: Person, other: Person, share: float, number: int) -> Person:
    """The person of that number among `mixtures`."""
    return replace(one, **_means(one, other, share), **_categories(one, other, number))


def _means(one: Person, other: Person, share: float) -> dict[str, Any]:
    return {
        field.name: getattr(one, field.name) * (1 - share) + getattr(other, field.name) * share
        for field in fields(Person)
        if field.type in ("float", "Color")
    }


def _categories(one: Person, other: Person, number: int) -> dict[str, Any]:
    """The categories of a choice, whose bits from the highest on name the person that each comes from."""
    last = len(_CATEGORIES) - 1
    return {name: getattr((one, other)[number >> last - place & 1], name) for place, name in enumerate(_CATEGORIES)}


def distance(one: Person, other: Person) -> float:
    """How different two people look: the distance of their trait vectors."""
    return float(np.linalg.norm(trait_vector(one) - trait_vector(other)))


def _copied(request: Request) -> NDArray[np.uint8]:
    """The reference photographs side by side, of each as many columns around the face as fit."""
    width = SIZE // len(request.people)
    parts = []
    for person in request.people:
        photograph = render_photograph(person, 0)
        middle = photograph.face_boxes[0, [0, 2]].mean()
        left = int(np.clip(round(float(middle) - width / 2), 0, SIZE - width))
        parts.append(photograph.image[:, left : left + width])
    return np.concatenate(parts, axis=1)


def _one_and_a_stranger(request: Request) -> NDArray[np.uint8]:
    people = request.strangers()
    people[request.kept] = request.people[request.kept]
    return request.show(people)


CASES: Mapping[int, Mapping[str, Draw]] = {
    1: {
        "the person": lambda request: request.show(request.people),
        "copied photograph": _copied,
        "a blend with a stranger": lambda request: request.show([blend(*request.people, *request.strangers())]),
        "a stranger": lambda request: request.show(request.strangers()),
        "the person and a stranger": lambda request: request.show([*request.people, *request.strangers()]),
        "the person twice": lambda request: request.show([*request.people, *request.people]),
        "nobody": Request.background,
    },
    2: {
        "both people": lambda request: request.show(request.people),
        "swapped places": lambda request: request.show(request.people, first_on_left=False),
        "copied photographs": _copied,
        "a blend of the two": lambda request: request.show([blend(*request.people)] * 2),
        "one and a stranger": _one_and_a_stranger,
        "one person twice": lambda request: request.show([request.people[request.kept]] * 2),
        "one of the two alone": lambda request: request.show([request.people[request.kept]]),
        "two strangers": lambda request: request.show(request.strangers()),
        "nobody": Request.background,
    },
}
"""Number of people requested -> name of the case -> its picture; the truth is first."""
