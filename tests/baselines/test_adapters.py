"""The adapters ask the pipelines for exactly what the run says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fc_bench.baselines.fastcomposer import FastComposer, FastComposerOptions
from fc_bench.baselines.text_only import TextOnly, TextOnlyOptions
from fc_bench.model.backbone import read_backbone
from fc_bench.protocols import Request, Sampler, Setting, Subject, fill


@pytest.fixture(scope="module")
def setting(tiny_backbone: Path) -> Setting:
    return Setting(read_backbone(str(tiny_backbone)), Sampler("ddim", 4, 3.0, 64), "cpu", "float32")


@pytest.fixture
def subjects(tmp_path: Path, people, portrait) -> dict[str, Subject]:
    found = {}
    for name, (noun, color) in people.items():
        portrait(color).save(tmp_path / f"{name}.png")
        found[name] = Subject(name, noun, (tmp_path / f"{name}.png",))
    return found


def pixels(method, subjects: list[Subject], template: str, seeds: list[int], folder: Path) -> np.ndarray:
    """Images of the template for the subjects, [seeds, height, width, 3]."""
    customization = method.customize(subjects, 0, folder, None)
    mentions = [method.mention(subject, position) for position, subject in enumerate(subjects)]
    plain = fill(template, [subject.noun for subject in subjects])
    requests = [Request(fill(template, mentions), plain, seed) for seed in seeds]
    return np.stack([np.asarray(image) for image in method.generate(customization, requests)]).astype(np.int16)


def test_text_only_is_the_stock_pipeline_with_one_generator_per_image(setting, subjects, tmp_path):
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    stock = StableDiffusionPipeline.from_pretrained(setting.backbone.path("pipeline"), safety_checker=None)
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    expected = stock(
        ["a photo of a man"] * 2,
        num_inference_steps=4,
        guidance_scale=3.0,
        height=64,
        width=64,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in (5, 6)],
    ).images
    ours = pixels(TextOnly(setting, TextOnlyOptions()), [subjects["bob"]], "a photo of a {subject}", [5, 6], tmp_path)
    assert (ours == np.stack([np.asarray(image) for image in expected])).all()


def test_fastcomposer_mentions_each_subject_with_its_placeholder(setting, subjects):
    method = FastComposer(setting, FastComposerOptions())
    pair = [subjects["ann"], subjects["bob"]]
    mentions = [method.mention(subject, position) for position, subject in enumerate(pair)]
    assert fill("a photo of {subjects}", mentions) == "a photo of a woman <|image|> and a man <|image|>"


def test_fastcomposer_depends_on_the_photograph_and_on_alpha(setting, subjects, tmp_path):
    template = "a photo of a {subject}"
    whole = FastComposer(setting, FastComposerOptions(alpha=1))
    bob, cid = (pixels(whole, [subjects[name]], template, [5], tmp_path) for name in ("bob", "cid"))
    assert (bob != cid).any()
    half = FastComposer(setting, FastComposerOptions(alpha=0.5))
    assert (pixels(half, [subjects["bob"]], template, [5], tmp_path) != bob).any()


def test_fastcomposer_at_alpha_0_is_the_base_model_when_the_unet_is_the_same(setting, subjects, tmp_path):
    template = "a photo of a {subject}"
    fused = pixels(FastComposer(setting, FastComposerOptions(alpha=0)), [subjects["bob"]], template, [5, 6], tmp_path)
    plain = pixels(TextOnly(setting, TextOnlyOptions()), [subjects["bob"]], template, [5, 6], tmp_path)
    assert np.abs(fused - plain).max() <= 1


def test_fastcomposer_gives_each_placeholder_its_own_photograph(setting, subjects, tmp_path):
    method = FastComposer(setting, FastComposerOptions(alpha=1))
    bob, cid = subjects["bob"], subjects["cid"]
    forward = pixels(method, [bob, cid], "a photo of {subjects}", [5], tmp_path)
    backward = pixels(method, [cid, bob], "a photo of {subjects}", [5], tmp_path)
    assert (forward != backward).any()
    other_first = pixels(method, [cid, cid], "a photo of {subjects}", [5], tmp_path)
    other_second = pixels(method, [bob, bob], "a photo of {subjects}", [5], tmp_path)
    assert (forward != other_first).any()
    assert (forward != other_second).any()


@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "dpm", "euler"])
def test_every_scheduler_of_a_suite_samples_finite_images(setting, subjects, tmp_path, scheduler):
    chosen = Setting(setting.backbone, Sampler(scheduler, 3, 2.0, 64), "cpu", "float32")
    image = pixels(TextOnly(chosen, TextOnlyOptions()), [subjects["ann"]], "a {subject}", [1], tmp_path)
    assert image.shape == (1, 64, 64, 3)
    assert image.std() > 0


def test_seed_decides_the_image(setting, subjects, tmp_path):
    one, two, again = pixels(
        TextOnly(setting, TextOnlyOptions()), [subjects["ann"]], "a {subject}", [1, 2, 1], tmp_path
    )
    assert (one != two).any()
    assert np.abs(one - again).max() <= 1
