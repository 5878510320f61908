"""Amortised seconds, break-even points, speed-up and storage follow from the phases by arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fc_bench.cost.amortisation import (
    IMAGES,
    BreakEven,
    break_even,
    seconds_per_image,
    speed_up,
    stored_bytes,
    total_seconds,
)
from fc_bench.cost.figures import Figure
from fc_bench.cost.results import MethodCost

FAST = MethodCost(
    "fastcomposer", "fastcomposer", True, load=Figure(4), customize=Figure(0.5), image=Figure(2.0), artefact_bytes=0
)
TUNED = MethodCost(
    "dreambooth",
    "dreambooth",
    True,
    load=Figure(3),
    customize=Figure(1000, 900, 1200),
    image=Figure(1.5),
    class_images=Figure(400),
    artefact_bytes=2 * 2**30,
)
PLAIN = MethodCost("text-only", "text-only", False, load=Figure(1), image=Figure(2.0))


def test_total_is_load_customization_and_images():
    found = total_seconds(TUNED, 10)
    assert found == Figure(1018.0, 918.0, 1218.0)
    assert total_seconds(TUNED, 10, shared=True) == Figure(1418.0, 1318.0, 1618.0)
    assert total_seconds(TUNED, 10, load=False) == Figure(1015.0, 915.0, 1215.0)
    assert total_seconds(PLAIN, 10) == Figure(21.0)


def test_seconds_per_image_fall_to_those_of_an_image():
    curve = [seconds_per_image(TUNED, images) for images in IMAGES]
    values = [figure.value for figure in curve if figure is not None]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(1004.5)
    assert values[-1] == pytest.approx(1.5 + 1003 / 10_000)
    assert (IMAGES[0], IMAGES[-1], len(IMAGES)) == (1, 10_000, 37)


def test_break_even_is_where_the_totals_are_equal():
    found = break_even(FAST, TUNED)
    assert found is not None
    assert (found.sooner, found.later) == ("fastcomposer", "dreambooth")
    assert found.images == pytest.approx(998.5 / 0.5)
    short, long = (total_seconds(cost, round(found.images or 0)) for cost in (FAST, TUNED))
    assert short is not None
    assert long is not None
    assert short.value == pytest.approx(long.value)
    assert found.low == pytest.approx((998.5 - 100) / 0.5)
    assert found.high == pytest.approx((998.5 + 200) / 0.5)
    assert break_even(TUNED, FAST) == found
    shared = break_even(FAST, TUNED, shared=True)
    assert shared is not None
    assert shared.images == pytest.approx(1398.5 / 0.5)


def test_a_slower_image_never_breaks_even():
    assert break_even(FAST, replace(TUNED, image=Figure(2.5, 2.3, 2.7))) == BreakEven(
        "fastcomposer", "dreambooth", None
    )


def test_where_images_may_take_the_same_time_the_interval_has_no_end():
    found = break_even(FAST, replace(TUNED, image=Figure(1.5, 1.0, 2.1)))
    assert found is not None
    assert found.images == pytest.approx(998.5 / 0.5)
    assert found.low == pytest.approx((998.5 - 100) / 1.0)
    assert found.high is None
    turned = break_even(FAST, replace(TUNED, image=Figure(2.1, 1.5, 2.2)))
    assert turned is not None
    assert (turned.images, turned.high) == (None, None)
    assert turned.low == pytest.approx((998.5 - 100) / 0.5)


def test_what_was_not_measured_is_not_made_up():
    missing = replace(TUNED, customize=None)
    assert total_seconds(missing, 10) is None
    assert break_even(FAST, missing) is None
    assert speed_up(FAST, missing) is None
    assert seconds_per_image(replace(FAST, image=None), 10) is None
    assert stored_bytes(replace(TUNED, artefact_bytes=None), 10) is None


def test_speed_up_is_the_quotient_for_a_new_subject_without_loading():
    found = speed_up(FAST, TUNED)
    assert found is not None
    assert found.value == pytest.approx(1001.5 / 2.5)
    assert found.low == pytest.approx(901.5 / 2.5)
    assert found.high == pytest.approx(1201.5 / 2.5)
    shared = speed_up(FAST, TUNED, shared=True)
    assert shared is not None
    assert shared.value == pytest.approx(1401.5 / 2.5)
    many = speed_up(FAST, TUNED, images=10)
    assert many is not None
    assert many.value == pytest.approx(1015 / 20.5)


def test_storage_grows_with_the_subjects_and_only_with_what_is_kept():
    assert stored_bytes(TUNED, 1_000_000) == 2 * 2**30 * 10**6
    assert stored_bytes(FAST, 1_000_000) == 0
