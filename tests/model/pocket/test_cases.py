"""Planted cases: each shows what its name says, and the same request shows the same."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from PIL import Image

from fc_bench.builtin import DATASETS
from fc_bench.model.pocket.canvas import SIZE
from fc_bench.model.pocket.cases import CASES, STRANGERS, Request, blend
from fc_bench.model.pocket.people import EVALUATION_PEOPLE, make_person, trait_vector
from fc_bench.model.pocket.render import Scene, compose_caption, render, scene_of
from fc_bench.model.pocket.subjects import suite_people
from fc_bench.model.pocket_vocabulary import ACCESSORIES, ACTIONS, CONTEXTS, STYLES

PEOPLE = suite_people()
PAIR = (PEOPLE["p03"], PEOPLE["p04"])


def request_of(size: int, number: int = 0, **scene: str) -> Request:
    return Request(PAIR[:size], Scene(**scene), number)


@pytest.mark.parametrize("size", CASES)
def test_a_case_follows_from_its_request_and_no_two_cases_are_alike(size: int) -> None:
    drawn = {name: draw(request_of(size)) for name, draw in CASES[size].items()}
    for name, draw in CASES[size].items():
        assert np.array_equal(draw(request_of(size)), drawn[name])
        assert name == "copied photograph" + "s" * (size - 1) or not np.array_equal(
            draw(request_of(size, 2)), drawn[name]
        )
    assert len({image.tobytes() for image in drawn.values()}) == len(drawn)


def test_swapped_places_hold_the_same_people_in_the_same_clothes() -> None:
    rng, again = (np.random.default_rng(5) for _ in range(2))
    right, swapped = render(PAIR, Scene(), rng, True), render(PAIR, Scene(), again, False)
    assert right.face_boxes[0, 2] < right.face_boxes[1, 0]
    assert swapped.face_boxes[1, 2] < swapped.face_boxes[0, 0]
    assert np.allclose(right.face_boxes[0] + [62, 0, 62, 0], swapped.face_boxes[0], atol=1e-3)


@pytest.mark.parametrize("size", CASES)
def test_copies_are_the_suites_own_photographs_to_the_pixel(size: int) -> None:
    (copied,) = (draw(request_of(size)) for name, draw in CASES[size].items() if name.startswith("copied"))
    assert copied.shape == (SIZE, SIZE, 3)
    width = SIZE // size
    for place, name in enumerate(("p03", "p04")[:size]):
        photograph = np.asarray(Image.open(DATASETS / "pocket" / "subjects" / name / "1.png"))
        part = copied[:, place * width : (place + 1) * width]
        assert any(np.array_equal(part, photograph[:, left : left + width]) for left in range(SIZE - width + 1))


def test_a_blend_is_nearer_to_both_than_they_are_to_each_other() -> None:
    people = list(PEOPLE.values())
    for one, other in pairwise(people):
        mixed = trait_vector(blend(one, other))
        ends = trait_vector(one), trait_vector(other)
        apart = np.linalg.norm(ends[0] - ends[1])
        distances = [float(np.linalg.norm(mixed - end)) for end in ends]
        assert max(distances) < 0.75 * apart
        assert abs(distances[0] - distances[1]) < 0.25 * apart


def test_a_blend_of_one_person_is_that_person() -> None:
    assert np.allclose(trait_vector(blend(PAIR[0], PAIR[0])), trait_vector(PAIR[0]))


def test_strangers_are_in_no_suite_and_have_the_class_nouns_of_those_whose_place_they_take() -> None:
    assert not {person.seed for person in PEOPLE.values()} & set(STRANGERS)
    assert set(STRANGERS) <= set(EVALUATION_PEOPLE)
    found = request_of(2).strangers()
    assert [stranger.noun for stranger in found] == [person.noun for person in PAIR]
    assert all(stranger.seed in STRANGERS for stranger in found)


def test_where_one_of_two_is_kept_it_is_each_in_turn() -> None:
    assert [request_of(2, number).kept for number in range(4)] == [0, 1, 0, 1]
    assert request_of(1, 3).kept == 0


@pytest.mark.parametrize("count", [1, 2])
def test_a_scene_is_found_by_its_caption(count: int) -> None:
    people = [make_person(seed) for seed in range(count)]
    for kinds in product(STYLES, (None, *ACCESSORIES), (None, *ACTIONS), (None, *list(CONTEXTS)[:2])):
        scene = Scene(*kinds)
        assert scene_of(compose_caption(people, scene)[0], people) == scene
    with pytest.raises(ValueError, match="no scene of the pocket world has the caption 'a cat'"):
        scene_of("a cat", people)
