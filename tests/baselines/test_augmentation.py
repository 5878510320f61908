"""Custom Diffusion's augmentation: the prompt tells the scale, and only the photograph's own cells count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fc_bench.baselines.tuning.augmentation import (
    CLOSE,
    FAR,
    Rescaling,
    draw_rescaling,
    rescale,
    rescaled_framing,
    valid_region,
)
from fc_bench.model.families.condition import Framing


def drawn(canvas: int, count: int = 400) -> list[Rescaling]:
    generator = np.random.default_rng(0)
    return [draw_rescaling(generator, canvas) for _ in range(count)]


def test_two_thirds_are_shrunk_to_at_least_a_third_and_the_others_enlarged():
    sides = np.array([how.side for how in drawn(128)])
    assert sides.min() >= 128 // 3
    assert sides.max() < 1.4 * 128
    assert not ((sides > 128) & (sides < 153)).any()
    assert 0.6 < (sides <= 128).mean() < 0.72


def test_the_prefix_tells_the_scale():
    found = drawn(128)
    assert all(how.prefix in FAR for how in found if how.side < 76.8)
    assert all(how.prefix == "" for how in found if 76.8 <= how.side <= 128)
    assert all(how.prefix in CLOSE for how in found if how.side > 128)
    assert {how.prefix for how in found} == {*FAR, *CLOSE, ""}


@pytest.mark.parametrize(("canvas", "cells"), [(64, 8), (128, 16), (512, 64)])
def test_no_region_is_empty_and_its_cells_touch_nothing_but_the_photograph(canvas, cells):
    white = Image.new("RGB", (90, 90), (255, 255, 255))
    for how in drawn(canvas, 150):
        mask = valid_region(how, canvas, cells)
        assert mask.sum() >= 1
        shown = rescale(white, how, canvas)
        assert shown.shape == (3, canvas, canvas)
        cell = canvas // cells
        inside = mask.repeat_interleave(cell, 1).repeat_interleave(cell, 2).bool()
        assert (shown[inside.expand_as(shown)] == 1).all()
        if how.side <= canvas:
            assert float((shown == 1).sum()) == 3 * how.side**2
            assert float((shown == 0).sum()) == 3 * (canvas**2 - how.side**2)
        else:
            assert mask.all()


def test_a_region_of_one_ring_keeps_the_cell_of_the_centre():
    mask = valid_region(Rescaling(21, 0, 40, ""), 64, 8)
    assert mask.nonzero().tolist() == [[0, 1, 6]]


def test_an_enlarged_photograph_is_cropped_where_the_draw_says():
    ramp = Image.fromarray(np.arange(100, dtype=np.uint8)[None].repeat(100, 0)).convert("RGB").resize((80, 80))
    left = rescale(ramp, Rescaling(80, 0, 0, ""), 64)
    right = rescale(ramp, Rescaling(80, 0, 16, ""), 64)
    torch.testing.assert_close(left[:, :, 16:], right[:, :, :-16])


def test_the_framing_is_the_original_size_and_what_is_cropped_of_the_rescaled_photograph():
    wide = Image.new("RGB", (90, 60))
    assert rescaled_framing(wide, Rescaling(64, 0, 0, ""), 64) == Framing((60, 90), (0, 16), (64, 64))
    assert rescaled_framing(wide, Rescaling(80, 7, 16, ""), 64) == Framing((60, 90), (7, 20 + 16), (64, 64))
    assert rescaled_framing(wide, Rescaling(32, 9, 30, ""), 64) == Framing((60, 90), (0, 8), (64, 64))
