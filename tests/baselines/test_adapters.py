"""The adapters ask the pipelines for exactly what the run says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fc_bench.baselines.fastcomposer import FastComposer, FastComposerOptions
from fc_bench.baselines.pipeline_method import MethodOptions
from fc_bench.baselines.text_only import TextOnly
from fc_bench.protocols import Subject, fill

from .conftest import of_sd1

pytestmark = of_sd1


@pytest.fixture
def pixels(images_of, tmp_path) -> Callable[..., np.ndarray]:
    """Images of a template for subjects, [seeds, height, width, 3]."""

    def draw(method: Any, subjects: Sequence[Subject], template: str, seeds: Sequence[int]) -> np.ndarray:
        return images_of(method, method.customize(subjects, 0, tmp_path, None), template, seeds)

    return draw


def test_text_only_is_the_stock_pipeline_with_one_generator_per_image(
    setting, tunable, pixels, stock_pipeline, stock_images
):
    expected = stock_images(stock_pipeline(), "a photo of a man", [5, 6])
    ours = pixels(TextOnly(setting, MethodOptions()), [tunable["bob"]], "a photo of a {subject}", [5, 6])
    assert np.abs(ours - expected).max() <= 1  # convolutions may round otherwise in another memory format


def test_fastcomposer_mentions_each_subject_with_its_placeholder(setting, tunable):
    method = FastComposer(setting, FastComposerOptions())
    pair = [tunable["ann"], tunable["bob"]]
    mentions = [method.mention(subject, position) for position, subject in enumerate(pair)]
    assert fill("a photo of {subjects}", mentions) == "a photo of a woman <|image|> and a man <|image|>"


def test_fastcomposer_depends_on_the_photograph_and_on_alpha(setting, tunable, pixels):
    template = "a photo of a {subject}"
    whole = FastComposer(setting, FastComposerOptions(alpha=1))
    bob, cid = (pixels(whole, [tunable[name]], template, [5]) for name in ("bob", "cid"))
    assert (bob != cid).any()
    half = FastComposer(setting, FastComposerOptions(alpha=0.5))
    assert (pixels(half, [tunable["bob"]], template, [5]) != bob).any()


def test_fastcomposer_at_alpha_0_is_the_base_model_when_the_unet_is_the_same(setting, tunable, pixels):
    template = "a photo of a {subject}"
    fused = pixels(FastComposer(setting, FastComposerOptions(alpha=0)), [tunable["bob"]], template, [5, 6])
    plain = pixels(TextOnly(setting, MethodOptions()), [tunable["bob"]], template, [5, 6])
    assert np.abs(fused - plain).max() <= 1


def test_fastcomposer_gives_each_placeholder_its_own_photograph(setting, tunable, pixels):
    method = FastComposer(setting, FastComposerOptions(alpha=1))
    bob, cid = tunable["bob"], tunable["cid"]
    forward = pixels(method, [bob, cid], "a photo of {subjects}", [5])
    backward = pixels(method, [cid, bob], "a photo of {subjects}", [5])
    assert (forward != backward).any()
    other_first = pixels(method, [cid, cid], "a photo of {subjects}", [5])
    other_second = pixels(method, [bob, bob], "a photo of {subjects}", [5])
    assert (forward != other_first).any()
    assert (forward != other_second).any()


@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "dpm", "euler"])
def test_every_scheduler_of_a_suite_samples_finite_images(setting, tunable, pixels, scheduler):
    chosen = replace(setting, sampler=replace(setting.sampler, scheduler=scheduler))
    image = pixels(TextOnly(chosen, MethodOptions()), [tunable["ann"]], "a {subject}", [1])
    assert image.shape == (1, 64, 64, 3)
    assert image.std() > 0


def test_seed_decides_the_image(setting, tunable, pixels):
    one, two, again = pixels(TextOnly(setting, MethodOptions()), [tunable["ann"]], "a {subject}", [1, 2, 1])
    assert (one != two).any()
    assert np.abs(one - again).max() <= 1
