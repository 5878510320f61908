"""Controlled factors: what is changed in a subject matter changes alone, and everything follows from its seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fc_bench.model.pocket.canvas import SIZE
from fc_bench.model.pocket.cases import blend, distance
from fc_bench.model.pocket.factors import (
    LIGHTS,
    MOST_PEOPLE,
    SubjectMatter,
    View,
    at_distances,
    draw,
    stranger,
)
from fc_bench.model.pocket.people import EVALUATION_PEOPLE, Person, make_person
from fc_bench.model.pocket.portrait import COVERS
from fc_bench.model.pocket.render import Scene
from fc_bench.model.pocket_vocabulary import ACCESSORIES, STYLES

PEOPLE = [make_person(EVALUATION_PEOPLE.start + 20_000 + number) for number in range(MOST_PEOPLE)]
VIEWS = [
    View(size=0.5),
    View(turn=0.3),
    View(tilt=30),
    View(smile=0.3),
    View(mouth_open=0.3),
    View(eyes_open=0.2),
    *(View(light=light) for light in LIGHTS),
    *(View(cover=cover) for cover in COVERS),
    View(resolution=48),
    View(jpeg=20),
]


def matter(people: tuple[Person | None, ...] = (PEOPLE[0],), seed: int = 3, **changed: object) -> SubjectMatter:
    return replace(SubjectMatter(people, (PEOPLE[0].seed,), seed, Scene(context="meadow")), **changed)


@pytest.mark.parametrize("count", range(1, MOST_PEOPLE + 1))
def test_a_picture_follows_from_its_subject_matter_and_shows_everyone_inside_it_from_left_to_right(count: int) -> None:
    people = tuple(PEOPLE[:count])
    picture = draw(matter(people))
    assert np.array_equal(picture.image, draw(matter(people)).image)
    assert not np.array_equal(picture.image, draw(matter(people, seed=4)).image)
    assert picture.face_boxes.min() > -4
    assert picture.face_boxes.max() < SIZE + 4
    across = {person.seed: box[0] + box[2] for person, box in zip(picture.people, picture.face_boxes, strict=True)}
    assert [person.seed for person in people] == sorted(across, key=across.__getitem__)


def test_more_people_than_there_are_places_for_are_refused() -> None:
    with pytest.raises(ValueError, match="one to 8 places, not 9"):
        draw(matter((*PEOPLE, PEOPLE[0])))


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_a_view_changes_the_picture_and_the_usual_one_does_not(view: View) -> None:
    usual = draw(matter())
    assert np.array_equal(draw(matter(view=View())).image, usual.image)
    assert np.abs(draw(matter(view=view)).image.astype(int) - usual.image).mean() > 0.3


@pytest.mark.parametrize("scene", [*(Scene(style=name) for name in STYLES), *(Scene(accessory=a) for a in ACCESSORIES)])
def test_another_style_or_accessory_keeps_pose_and_place(scene: Scene) -> None:
    changed = draw(matter(scene=replace(scene, context="meadow")))
    assert np.array_equal(changed.face_boxes, draw(matter()).face_boxes)
    assert np.array_equal(changed.landmarks, draw(matter()).landmarks)


def test_another_background_keeps_people_and_light() -> None:
    here, there = (draw(matter(scene=Scene(context=context))) for context in ("meadow", "night"))
    middle = (slice(50, 70), slice(54, 74))
    assert np.array_equal(here.image[middle], there.image[middle])
    assert not np.array_equal(here.image, there.image)


def test_an_empty_place_leaves_the_others_as_they_were() -> None:
    both, one = draw(matter((PEOPLE[0], PEOPLE[1]))), draw(matter((PEOPLE[0], None)))
    assert np.array_equal(both.face_boxes[0], one.face_boxes[0])
    assert np.array_equal(both.image[40:80, 18:48], one.image[40:80, 18:48])
    assert len(one.people) == 1


def test_somebody_else_in_a_place_has_the_same_pose() -> None:
    both, other = draw(matter((PEOPLE[0], PEOPLE[1]))), draw(matter((PEOPLE[0], PEOPLE[2])))
    centers = [(box[1, :2] + box[1, 2:]) / 2 for box in (both.face_boxes, other.face_boxes)]
    assert np.allclose(*centers, atol=3)
    assert np.array_equal(both.face_boxes[0], other.face_boxes[0])


def test_nobody_is_the_background_alone() -> None:
    nobody = draw(matter((None,)))
    assert np.array_equal(nobody.image[:8], draw(matter()).image[:8])
    assert len(nobody.people) == len(nobody.masks) == len(nobody.face_boxes) == 0


def test_people_stand_at_the_trait_distances_that_are_stated() -> None:
    wanted = [0.25, 0.5, 1.0, 2.0]
    for person in PEOPLE[:4]:
        assert [distance(person, other) for other in at_distances(person, wanted)] == pytest.approx(wanted, abs=2e-3)


def test_a_blend_moves_with_its_share_from_one_person_to_the_other() -> None:
    one, other = PEOPLE[0], stranger((1,), 0, PEOPLE[0].noun)
    way = [distance(one, blend(one, other, share=share)) / distance(one, other) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert way == sorted(way)
    assert way[0] == pytest.approx(0, abs=1e-6)
    assert way[-1] == pytest.approx(1, abs=1e-6)
