"""The identity metric against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fc_bench.metrics.identity import identity_score
from fc_bench.model.matching import greedy_matching
from fc_bench.scoring.faces import Face


def face(*embedding: float, side: float = 10) -> Face:
    vector = np.array(embedding, dtype=np.float32)
    return Face((0, 0, side, side), 1.0, vector / np.linalg.norm(vector))


def reference(*embedding: float) -> np.ndarray:
    return face(*embedding).embedding


X, Y, Z = (1, 0, 0), (0, 1, 0), (0, 0, 1)


def test_one_subject_is_compared_with_the_largest_face_only():
    score = identity_score([reference(*X)], [face(3, 4, 0, side=20), face(*X, side=5)]).values
    assert score["identity"] == pytest.approx(0.6)
    assert score["identity_detected"] == pytest.approx(0.6)
    assert score["face_count"] == 0
    assert score["detection_rate"] == 1
    assert score["identity_other"] is None


def test_no_face_counts_zero_in_the_protocol_and_nothing_elsewhere():
    score = identity_score([reference(*X)], []).values
    assert score == {
        "identity": 0.0,
        "identity_optimal": 0.0,
        "identity_mean": 0.0,
        "identity_detected": None,
        "identity_other": None,
        "identity_mixing": None,
        "told_apart": None,
        "in_order": None,
        "detection_rate": 0.0,
        "face_count": 0.0,
    }


def test_negative_similarity_counts_zero_in_the_protocol_and_stays_negative_beside_it():
    score = identity_score([reference(*X)], [face(-3, 4, 0)]).values
    assert score["identity"] == 0
    assert score["identity_detected"] == pytest.approx(-0.6)


def test_two_subjects_give_the_minimum_the_mean_and_the_mixing():
    faces = [face(0.8, 0.6, 0), face(0.1, 0.7, np.sqrt(0.5))]
    score = identity_score([reference(*X), reference(*Y)], faces).values
    assert score["identity"] == pytest.approx(0.7)
    assert score["identity_mean"] == pytest.approx((0.8 + 0.7) / 2)
    assert score["identity_other"] == pytest.approx((0.6 + 0.1) / 2)
    assert score["identity_mixing"] == pytest.approx((0.6 + 0.1) / 2 - (0.8 + 0.7) / 2)
    assert score["told_apart"] == 1
    assert score["face_count"] == 1


def test_two_subjects_and_one_face_leave_one_subject_at_zero():
    score = identity_score([reference(*X), reference(*Y)], [face(3, 4, 0)]).values
    assert score["identity"] == 0
    assert score["identity_mean"] == pytest.approx(0.4)
    assert score["identity_detected"] == pytest.approx(0.8)
    assert score["told_apart"] == 0
    assert score["detection_rate"] == 0.5
    assert score["face_count"] == 0


def test_face_that_resembles_the_other_person_more_is_not_told_apart():
    faces = [face(*X), face(0.8, 0.6, 0)]
    score = identity_score([reference(*X), reference(*Y)], faces).values
    assert score["identity"] == pytest.approx(0.6)
    assert score["told_apart"] == 0


def test_optimal_assignment_gives_the_smaller_person_what_the_greedy_one_took():
    # Cosines [[0.9, 0.8], [0.85, 0.1]]: greedy takes 0.9 and is left with 0.1, the optimum is 0.8 + 0.85.
    people = [np.array([1, 0, 0, 0.0]), np.array([0, 1, 0, 0.0])]
    one, two = np.array([0.9, 0.85]), np.array([0.8, 0.1])
    # Lengths beyond one are of no account: the score multiplies what it is given.
    found = [Face((0, 0, 10, 10), 1.0, np.array([*cosines, 0, 0])) for cosines in (one, two)]
    score = identity_score(people, found).values
    assert score["identity"] == pytest.approx(0.1)
    assert score["identity_optimal"] == pytest.approx(0.8)


def test_a_third_smaller_face_is_not_matched_but_breaks_the_count():
    faces = [face(3, 4, 0, side=30), face(4, 3, 0, side=20), face(*X, side=5)]
    score = identity_score([reference(*X), reference(*Y)], faces)
    assert score.values["identity"] == pytest.approx(0.8)
    assert score.values["face_count"] == 0
    assert len(score.details["similarities"][0]) == 3


def at(left: float, *embedding: float) -> Face:
    found = face(*embedding)
    return Face((left, 0, left + 10, 10), 1.0, found.embedding)


@pytest.mark.parametrize(("places", "expected"), [((10, 60), 1.0), ((60, 10), 0.0), ((10, 10), 0.0)])
def test_people_stand_in_the_prompt_s_order_or_not(places, expected):
    faces = [at(places[0], *X), at(places[1], *Y)]
    for order in (faces, faces[::-1]):
        assert identity_score([reference(*X), reference(*Y)], order).values["in_order"] == expected


def test_order_is_not_kept_where_somebody_has_no_face():
    assert identity_score([reference(*X), reference(*Y)], [at(10, *X)]).values["in_order"] == 0


def test_matching_takes_the_largest_entry_first_even_if_the_sum_suffers():
    matrix = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert greedy_matching(matrix) == {0: 0, 1: 1}
    assert greedy_matching(matrix.T) == {0: 0, 1: 1}


@pytest.mark.parametrize("seed", range(20))
def test_score_does_not_depend_on_the_order_of_subjects_or_faces(seed):
    random = np.random.default_rng(seed)
    references = [reference(*random.normal(size=4)) for _ in range(3)]
    faces = [face(*random.normal(size=4), side=10) for _ in range(3)]
    first = identity_score(references, faces).values
    turned = identity_score(
        [references[i] for i in random.permutation(3)], [faces[i] for i in random.permutation(3)]
    ).values
    assert first == pytest.approx(turned)


@pytest.mark.parametrize("seed", range(20))
def test_matching_is_one_to_one_and_complete(seed):
    random = np.random.default_rng(seed)
    rows, columns = (int(x) for x in random.integers(1, 6, size=2))
    matched = greedy_matching(random.normal(size=(rows, columns)))
    assert len(matched) == len(set(matched.values())) == min(rows, columns)
