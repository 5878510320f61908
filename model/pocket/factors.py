"""Pictures with controlled factors: who is shown and where, in which scene, and how each face and the picture look.

Pictures with the same key and seed share pose, expression, clothes, light and background, each drawn by a generator of
its own, so that whatever is changed in a subject matter changes alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fc_bench.model.pocket.canvas import SIZE, Canvas
from fc_bench.model.pocket.cases import STRANGERS, distance, mixture, mixtures
from fc_bench.model.pocket.people import Person, make_person
from fc_bench.model.pocket.portrait import Pose
from fc_bench.model.pocket.render import Picture, Scene, paint
from fc_bench.model.pocket.scenes import draw_background

HALF_HEIGHTS = {1: 36.5, 2: 28.0, 3: 19.0, 4: 21.0, 5: 18.5, 6: 16.5, 7: 15.0, 8: 14.0}
"""Number of places in a picture -> half the height of a face in pixels."""
MOST_PEOPLE = max(HALF_HEIGHTS)
TWO_ROWS = 4
"""Fewest places of which every other one is behind the others."""
LIGHTS = {
    "darker": (0.45, 0.45),
    "brighter": (1.5, 1.5),
    "from the left": (1.35, 0.4),
}
"""Light -> factor of the brightness at the left and at the right edge."""
NEAREST = 1e-3
"""Largest error of a stated trait distance."""


@dataclass(frozen=True)
class View:
    """What may differ between pictures of the same people in the same scene; the default changes nothing.

    `size` multiplies the faces' height; `turn` (of the head to a side, in half face widths), `tilt` (degrees), `smile`,
    `mouth_open` and `eyes_open` replace the drawn pose (None: as drawn); `light` is one of `LIGHTS`, `cover` one of
    `portrait.COVERS`; `resolution` is the side in pixels that the picture is reduced to and enlarged from, `jpeg` the
    quality of a compression.
    """

    size: float = 1.0
    turn: float | None = None
    tilt: float | None = None
    smile: float | None = None
    mouth_open: float | None = None
    eyes_open: float | None = None
    light: str | None = None
    cover: str | None = None
    resolution: int = SIZE
    jpeg: int | None = None


USUAL = View()


@dataclass(frozen=True)
class SubjectMatter:
    """All that decides a picture.

    `people` are those shown (None: a place that is left empty), in the order of the places from left to right;
    `key` are the seeds of those who were requested, `seed` tells pictures of them apart.
    """

    people: tuple[Person | None, ...]
    key: tuple[int, ...]
    seed: int
    scene: Scene = field(default_factory=Scene)
    view: View = USUAL

    def generator(self, purpose: int) -> np.random.Generator:
        """The generator of the background (0), the light (1) or, from 2 on, the pose in each place."""
        return np.random.default_rng([29, *self.key, self.seed, purpose])


def draw(matter: SubjectMatter) -> Picture:
    """The picture of a subject matter; raises ValueError for more than eight places.

    The annotations are of the picture before it is reduced, in the order of the people drawn, those behind first.
    """
    if not 1 <= len(matter.people) <= MOST_PEOPLE:
        raise ValueError(f"a picture has one to {MOST_PEOPLE} places, not {len(matter.people)}")
    canvas = Canvas()
    draw_background(canvas, matter.scene.context, matter.generator(0))
    shown = [(person, _pose(matter, place)) for place, person in enumerate(matter.people) if person is not None]
    if len(matter.people) >= TWO_ROWS:
        shown.sort(key=lambda one: one[1].y)
    people, poses = [person for person, _ in shown], [pose for _, pose in shown]
    picture = paint(canvas, people, poses, matter.scene, matter.generator(1), matter.view.cover)
    return replace(picture, image=_taken(picture.image, matter.view))


def stranger(key: Sequence[int], place: int, noun: str, purpose: int = 0) -> Person:
    """A person of a class noun who is in no suite, in the place of one who was requested."""
    rng = np.random.default_rng([31, *key, place, purpose])
    return make_person(STRANGERS[int(rng.integers(len(STRANGERS)))], noun)


def at_distances(person: Person, wanted: Sequence[float]) -> list[Person]:
    """People on the way to one stranger of the same class noun, each at a wanted trait distance from the person."""
    for number in range(1, len(STRANGERS)):
        other = stranger((person.seed,), 0, person.noun, number)
        found = [_between(person, other, one) for one in wanted] if distance(person, other) >= max(wanted) else [None]
        if None not in found:
            return [one for one in found if one is not None]
    raise ValueError(f"no stranger is at a trait distance of {max(wanted)} from the person {person.seed}")


def _between(person: Person, other: Person, wanted: float) -> Person | None:
    """The person at a trait distance on the way to another one; None if a category's change alone exceeds it.

    Categories are taken from the other in the same proportion as lengths, angles and colors.
    """
    from scipy.optimize import brentq

    starts, ends = mixtures(person, other, 0.0), mixtures(person, other, 1.0)
    by_categories = distance(person, starts[-1]) * wanted / distance(person, other)
    choices = [
        (abs(distance(person, start) - by_categories), number)
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
        if distance(person, start) <= wanted <= distance(person, end)
    ]
    if not choices:
        return None
    number = min(choices)[1]

    def beyond(share: float) -> float:
        return distance(person, mixture(person, other, share, number)) - wanted

    share: Any = brentq(beyond, 0.0, 1.0, xtol=NEAREST / 10)
    return mixture(person, other, share, number)


def _pose(matter: SubjectMatter, place: int) -> Pose:
    """The pose in a place, which depends on neither the other places nor who stands there."""
    person, view, places = matter.people[place], matter.view, len(matter.people)
    assert person is not None
    rng = matter.generator(2 + place)
    half_height = HALF_HEIGHTS[places] * rng.uniform(0.95, 1.05) * view.size
    sway, nod = rng.uniform(-1, 1, 2)
    x, y = _place(places, place)
    pose = Pose.draw(x + 2 * sway, y + 3 * nod, half_height / person.aspect, rng)
    if view.size < 1:
        # The shoulders end with the picture, so that a small person stands lower.
        pose = replace(pose, y=max(pose.y, SIZE - 4.2 * pose.radius))
    chosen = {
        "yaw": view.turn,
        "roll": None if view.tilt is None else math.radians(view.tilt),
        "smile": view.smile,
        "mouth_open": view.mouth_open,
        "eyes_open": view.eyes_open,
    }
    return replace(pose, **{name: value for name, value in chosen.items() if value is not None})


def _place(places: int, place: int) -> tuple[float, float]:
    """The middle of a face: side by side, from four on alternately behind and in front of each other."""
    if places == 1:
        return SIZE / 2, 62.0
    margin = 33.0 if places == 2 else 1.15 * HALF_HEIGHTS[places]
    x = margin + (SIZE - 2 * margin) * place / (places - 1)
    if places < TWO_ROWS:
        return x, 64.0
    back, front = 1.45 * HALF_HEIGHTS[places] + 4, SIZE - 1.5 * HALF_HEIGHTS[places]
    return x, (back, front)[place % 2]


def _taken(image: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """The picture in a light, reduced and compressed."""
    if view.light is not None:
        ramp = np.linspace(*LIGHTS[view.light], SIZE, dtype=np.float32)[None, :, None]
        image = np.clip(image * ramp, 0, 255).astype(np.uint8)
    if view.resolution != SIZE:
        small = cv2.resize(image, (view.resolution,) * 2, interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    if view.jpeg is not None:
        _, stored = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, view.jpeg])
        decoded: Any = cv2.imdecode(stored, cv2.IMREAD_COLOR)
        image = decoded[..., ::-1]
    return np.ascontiguousarray(image)
