"""Attention localization against values worked out by hand, and on faces that are really found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fc_bench.metrics.attention_localization import AttentionLocalization, localization_score
from fc_bench.protocols import ScoredSample

LEFT, RIGHT = (0.0, 0.25, 0.25, 0.75), (0.75, 0.25, 1.0, 0.75)
"""Boxes of an eighth of the image."""


def even(side=8):
    return np.full((side, side), 1 / side**2, dtype=np.float32)


def inside(box, share, side=8):
    """That share of the attention evenly in the box, the rest evenly around it; the box lies on the grid."""
    x0, y0, x1, y1 = (round(edge * side) for edge in box)
    mask = np.zeros((side, side), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return np.where(mask, share / mask.sum(), (1 - share) / (~mask).sum()).astype(np.float32)


def test_even_attention_is_at_chance_whatever_the_box():
    for box in (LEFT, (0.1, 0.2, 0.33, 0.91), (0.0, 0.0, 1.0, 1.0)):
        score = localization_score(even()[None], {0: box})
        area = (box[2] - box[0]) * (box[3] - box[1])
        assert score.values["attention_on_own"] == pytest.approx(area)
        assert score.values["attention_over_chance"] == pytest.approx(1)
        assert score.details["face_area"]["0"] == pytest.approx(area, abs=1e-6)
        assert score.values["attention_on_others"] is None


def test_share_in_the_own_box_is_the_value_and_the_share_in_the_others_stands_beside_it():
    maps = np.stack([inside(LEFT, 0.6), inside(LEFT, 0.3)])
    values = localization_score(maps, {0: LEFT, 1: RIGHT}).values
    # Of the second subject 0.7 lie outside LEFT, evenly, and a seventh of that area is RIGHT.
    assert values["attention_on_own"] == pytest.approx((0.6 + 0.7 / 7) / 2)
    assert values["attention_on_others"] == pytest.approx((0.4 / 7 + 0.3) / 2)
    assert values["attention_over_chance"] == pytest.approx((0.6 + 0.1) / 2 * 8)
    assert values["attention_among_faces"] == pytest.approx((0.6 / (0.6 + 0.4 / 7) + 0.1 / 0.4) / 2)


def test_place_that_lies_half_in_the_box_counts_half():
    maps = np.zeros((1, 4, 4), dtype=np.float32)
    maps[0, 1, 1] = 1
    assert localization_score(maps, {0: (0.0, 0.0, 0.375, 1.0)}).values["attention_on_own"] == pytest.approx(0.5)
    assert localization_score(maps, {0: (0.3, 0.3, 0.425, 0.425)}).values["attention_on_own"] == pytest.approx(0.25)


def test_attention_where_two_others_overlap_counts_once():
    one, two = (0.0, 0.0, 0.5, 0.5), (0.25, 0.0, 0.75, 0.5)
    values = localization_score(np.stack([even()] * 3), {0: RIGHT, 1: one, 2: two}).values
    beside_first = 0.75 * 0.5
    beside_second = 0.125 + 0.25  # RIGHT and two touch and do not overlap
    beside_third = 0.125 + 0.25
    assert values["attention_on_others"] == pytest.approx((beside_first + beside_second + beside_third) / 3)


def test_subject_without_a_face_has_no_own_share_and_may_still_look_at_the_other():
    score = localization_score(np.stack([inside(LEFT, 0.6), inside(LEFT, 0.5)]), {0: LEFT})
    assert score.values["attention_on_own"] == pytest.approx(0.6)
    assert score.values["attention_on_others"] == pytest.approx(0.5)
    assert score.values["attention_among_faces"] is None
    assert localization_score(even()[None], {}).values == {
        "attention_on_own": None,
        "attention_on_others": None,
        "attention_among_faces": None,
        "attention_over_chance": None,
    }


@pytest.mark.parametrize("seed", range(10))
def test_values_depend_neither_on_the_order_of_the_subjects_nor_on_the_fineness_of_the_map(seed):
    random = np.random.default_rng(seed)
    maps = random.dirichlet(np.ones(36), size=3).reshape(3, 6, 6)
    corners = np.sort(random.uniform(size=(3, 2, 2)), axis=2)
    boxes = {k: (corners[k, 0, 0], corners[k, 1, 0], corners[k, 0, 1], corners[k, 1, 1]) for k in range(3)}
    first = localization_score(maps, boxes).values
    order = random.permutation(3)
    turned = localization_score(maps[order], {place: boxes[who] for place, who in enumerate(order)}).values
    assert turned == pytest.approx(first)
    finer = np.kron(maps, np.ones((1, 3, 3))) / 9
    assert localization_score(finer, boxes).values == pytest.approx(first)


@pytest.fixture
def pair(subjects, people, portrait, side_by_side):
    """Bob left of Ann, asked for in the other order; Ann's attention is on the right face, Bob's on the left."""
    image = side_by_side(portrait(people["bob"][1]), portrait(people["ann"][1]))
    left, right = np.zeros((128, 128)), np.zeros((128, 128))
    left[32:80, 4:52], right[32:80, 68:116] = 1 / 48**2, 1 / 48**2
    maps = np.stack([right, left]).astype(np.float32)
    return ScoredSample(image, "a photo", (subjects["ann"], subjects["bob"]), attention=maps)


def test_faces_are_found_and_matched_as_for_identity(setting, pair):
    metric = AttentionLocalization(setting)
    right = metric.score(pair).values
    assert right["attention_on_own"] == pytest.approx(1, abs=1e-6)
    assert right["attention_on_others"] == pytest.approx(0, abs=1e-6)
    assert right["attention_among_faces"] == pytest.approx(1, abs=1e-6)
    assert right["attention_over_chance"] == pytest.approx(128**2 / 48**2, rel=1e-5)
    confused = metric.score(replace(pair, attention=pair.attention[::-1])).values
    assert confused["attention_on_own"] == pytest.approx(0, abs=1e-6)
    assert confused["attention_on_others"] == pytest.approx(1, abs=1e-6)
    swapped = replace(pair, subjects=pair.subjects[::-1], attention=pair.attention[::-1])
    assert metric.score(swapped).values == pytest.approx(right)


def test_missing_where_the_method_shows_no_attention_or_no_face_is_found(setting, pair):
    metric = AttentionLocalization(setting)
    blind = metric.score(replace(pair, attention=None))
    assert set(blind.values.values()) == {None}
    assert blind.details == {"reason": "the method showed no attention for this image"}
    faceless = metric.score(replace(pair, image=Image.new("RGB", (128, 128), "gray")))
    assert set(faceless.values.values()) == {None}
