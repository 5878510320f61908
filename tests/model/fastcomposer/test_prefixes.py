"""Going on from a text-only prefix gives the images of sampling from the beginning, whoever the subjects are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fc_bench.model.backbones.schedulers import make_scheduler
from fc_bench.model.errors import ModelInputError
from fc_bench.model.fastcomposer.pipeline import FastComposerPipeline
from fc_bench.model.fastcomposer.prefixes import text_only_iterations
from fc_bench.model.fastcomposer.subject_attention import SubjectAttention
from fc_bench.protocols import Sampler

SCHEDULERS = ("pndm", "ddim", "dpm", "euler")
PLAIN = ["a man in the snow", "a man and a woman on the beach"]
PROMPTS = ["a man <|image|> in the snow", "a man <|image|> and a woman <|image|> on the beach"]
SAMPLING: dict[str, Any] = {"num_inference_steps": 8, "guidance_scale": 3.0, "height": 32, "width": 32}


def seeds() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in (3, 4)]


@pytest.fixture
def composed(pipeline: FastComposerPipeline, faces: list[Image.Image]) -> Any:
    """Images of the two prompts with given subjects; `first` says whose face comes first."""

    def make(first: int = 0, **inputs: Any) -> np.ndarray:
        subjects = [[faces[first]], [faces[first + 1], faces[first]]]
        asked = {**SAMPLING, "alpha": 0.5, **inputs}
        return pipeline(PROMPTS, subjects, generator=seeds(), output_type="np", **asked).images

    return make


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_images_from_a_prefix_are_those_from_the_beginning_for_all_subjects(composed, pipeline, scheduler, guidance):
    pipeline.scheduler = make_scheduler(scheduler, pipeline.scheduler.config)
    sampling = {**SAMPLING, "guidance_scale": guidance}
    sampler = Sampler(scheduler, 8, guidance, 32)
    count = text_only_iterations(0.5, sampler.steps, sampler.iterations)
    prefix = pipeline.text_only_prefix(PLAIN, count, seeds(), **sampling)
    for first in (0, 2):  # the prefix serves any number of times
        whole = composed(first, **sampling)
        np.testing.assert_array_equal(composed(first, prefix=prefix, **sampling), whole)
    assert np.abs(composed(0, **sampling) - composed(2, **sampling)).max() > 0


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_prefix_that_goes_on_from_a_shorter_one_is_the_longer_one(composed, pipeline, scheduler):
    pipeline.scheduler = make_scheduler(scheduler, pipeline.scheduler.config)
    short = pipeline.text_only_prefix(PLAIN, 2, seeds(), **SAMPLING)
    longer = pipeline.text_only_prefix(PLAIN, 5, seeds(), **SAMPLING, earlier=short)
    direct = pipeline.text_only_prefix(PLAIN, 5, seeds(), **SAMPLING)
    assert torch.equal(longer.latents, direct.latents)
    np.testing.assert_array_equal(composed(prefix=longer), composed(prefix=direct))
    # One that is shorter than what the images share is gone on from, too.
    np.testing.assert_array_equal(composed(prefix=short), composed())


def test_attention_of_images_from_a_prefix_is_that_from_the_beginning(composed, pipeline):
    prefix = pipeline.text_only_prefix(PLAIN, 5, seeds(), **SAMPLING)
    whole, branched = SubjectAttention(), SubjectAttention()
    composed(subject_attention=whole)
    composed(subject_attention=branched, prefix=prefix)
    for one, other in zip(whole.maps(), branched.maps(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_at_alpha_zero_the_prefix_is_the_whole_sampling(composed, pipeline):
    prefix = pipeline.text_only_prefix(PLAIN, 9, seeds(), **SAMPLING)  # PNDM's iterations for eight steps
    calls = []
    hook = pipeline.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        branched = composed(prefix=prefix, alpha=0.0)
    finally:
        hook.remove()
    assert not calls
    np.testing.assert_array_equal(branched, composed(alpha=0.0))


def test_a_prefix_of_another_batch_or_sampler_is_refused(composed, pipeline):
    prefix = pipeline.text_only_prefix(PLAIN[:1], 2, seeds()[:1], **SAMPLING)
    with pytest.raises(
        ModelInputError, match="the prefix has 1 images and 8 steps, but the call has 2 images and 8 steps"
    ):
        composed(prefix=prefix)
    prefix = pipeline.text_only_prefix(PLAIN, 2, seeds(), **{**SAMPLING, "num_inference_steps": 4})
    with pytest.raises(ModelInputError, match="has 2 images and 4 steps, but the call has 2 images and 8 steps"):
        composed(prefix=prefix)
    with pytest.raises(ModelInputError, match="leave out the prefix or the others"):
        composed(prefix=prefix, eta=0.5)


@pytest.mark.parametrize("steps", [1, 2, 8, 50])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_sampler_knows_its_iterations(pipeline, scheduler, steps):
    made = make_scheduler(scheduler, pipeline.scheduler.config)
    made.set_timesteps(steps)
    assert Sampler(scheduler, steps, 1.0, 32).iterations == len(made.timesteps)
