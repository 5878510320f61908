"""Planted cases: pictures of which it is known how they fail a request for particular people.

A request names one or two people and a scene. The first case of each number of people is the truth, new pictures of the
right people; every other one has a single, known fault. The cases of a request share pose, expression, clothes, light
and background wherever they show as many people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

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


def blend(one: Person, other: Person) -> Person:
    """The person halfway between two in trait space.

    Lengths, angles and colors are means. Traits without a mean come from either, so that the distances to the two are
    as equal as they can be.
    """
    means = {
        field.name: (getattr(one, field.name) + getattr(other, field.name)) / 2
        for field in fields(Person)
        if field.type in ("float", "Color")
    }
    made = [
        replace(one, **means, **{name: getattr(source, name) for name, source in zip(_CATEGORIES, chosen, strict=True)})
        for chosen in product((one, other), repeat=len(_CATEGORIES))
    ]
    # Rounded: the opposite of a choice is as uneven, and the last bits must not decide between the two.
    return min(made, key=lambda person: round(abs(_distance(person, one) - _distance(person, other)), 4))


def _distance(one: Person, other: Person) -> float:
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
