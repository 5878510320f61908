"""The pieces that methods which tune share: the loss, the order of examples, latents, prompts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.tuning.latents import encode, pixels, square
from fc_bench.baselines.tuning.loop import Batch, Draws, diffusion_loss
from fc_bench.baselines.tuning.text import FrozenPrompts, encode_once, single_token
from fc_bench.errors import UserError
from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.condition import Condition
from fc_bench.model.families.diffusion import Diffusion
from fc_bench.protocols import Setting

from .conftest import of_sd1


@pytest.fixture
def base(setting: Setting) -> BasePipeline:
    return BasePipeline(setting)


class Constant(torch.nn.Module):
    """A UNet that predicts zero and remembers what it was shown."""

    dtype = torch.float32

    def forward(self, noisy, timesteps, encoder_hidden_states, return_dict):
        self.noisy, self.timesteps = noisy, timesteps
        return (torch.zeros_like(noisy),)


def expected_target(schedule, batch: Batch, unet: Constant) -> torch.Tensor:
    """The regression target, from what the UNet saw: the noise, or the velocity."""
    levels = schedule.alphas_cumprod[unet.timesteps].view(-1, 1, 1, 1)
    noise = (unet.noisy - levels.sqrt() * batch.latents) / (1 - levels).sqrt()
    if schedule.config.prediction_type == "epsilon":
        return noise
    return levels.sqrt() * noise - (1 - levels).sqrt() * batch.latents


@of_sd1
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_the_photographs_error_plus_the_weighted_class_images(prediction, base):
    schedule = base.diffusion().scheduler
    schedule = type(schedule).from_config(schedule.config, prediction_type=prediction)
    batch = Batch(torch.randn(4, 4, 8, 8), Condition(torch.zeros(4, 77, 16)), 2)
    unet = Constant()
    loss = diffusion_loss(base.family, unet, Diffusion(schedule), batch, Draws(3), 5, 0.5)
    squares = expected_target(schedule, batch, unet) ** 2
    assert loss == pytest.approx(float(squares[:2].mean() + 0.5 * squares[2:].mean()), rel=1e-4)


@of_sd1
def test_another_prediction_type_is_refused(base):
    schedule = base.diffusion().scheduler
    with pytest.raises(ModelInputError, match='prediction type "sample", which training does not support: set'):
        Diffusion(type(schedule).from_config(schedule.config, prediction_type="sample"))


@of_sd1
def test_without_class_images_the_prior_weight_does_not_matter(base):
    batch = Batch(torch.randn(2, 4, 8, 8), Condition(torch.zeros(2, 77, 16)), 2)
    one, other = (diffusion_loss(base.family, Constant(), base.diffusion(), batch, Draws(3), 0, w) for w in (0.0, 9.0))
    assert one == other


@of_sd1
def test_outside_the_mask_a_photographs_error_does_not_count(base):
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, 2:5, 3:6], mask[1, :, :4] = 1, 1
    batch = Batch(torch.randn(4, 4, 8, 8), Condition(torch.zeros(4, 77, 16)), 2, mask)
    unet = Constant()
    diffusion = base.diffusion()
    loss = diffusion_loss(base.family, unet, diffusion, batch, Draws(3), 0, 1.0)
    squares = expected_target(diffusion.scheduler, batch, unet) ** 2
    own = [squares[0, :, 2:5, 3:6].sum() / 9, squares[1, :, :4].sum() / 32]
    assert loss == pytest.approx(float(sum(own) / 2 + squares[2:].mean()), rel=1e-4)


def test_every_epoch_shows_each_item_once_in_another_order():
    draws = Draws(11)
    shown = [item for step in range(10) for item in draws.items(step, 3, 6)]
    epochs = [shown[start : start + 6] for start in range(0, 30, 6)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_draws_depend_on_seed_stream_and_position_alone():
    def drawn(seed: int, stream: int, position: int) -> float:
        return float(torch.rand(1, generator=Draws(seed).torch(stream, position)))

    assert drawn(1, 0, 0) == drawn(1, 0, 0)
    assert len({drawn(*key) for key in [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)]}) == 4


def test_sampled_posteriors_are_what_the_autoencoder_samples(base):
    pictures = torch.rand(3, 3, 64, 64) * 2 - 1
    found = encode(base.family, base.vae, pictures)
    expected = base.vae.encode(pictures).latent_dist  # pyright: ignore[reportAttributeAccessIssue]
    noise = torch.randn(2, *expected.mean.shape[1:])
    wanted = (expected.mean[[2, 0]] + expected.std[[2, 0]] * noise) * base.vae.config["scaling_factor"]
    assert torch.allclose(found.sample([2, 0], noise), wanted, atol=1e-5)


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (40, 40), (200, 131)])
def test_photographs_become_squares_around_their_centre(size):
    image = Image.new("RGB", size)
    image.putpixel((size[0] // 2, size[1] // 2), (255, 255, 255))
    cut = square(image, 64)
    assert cut.size == (64, 64)
    brightest = np.unravel_index(np.asarray(cut).sum(axis=2).argmax(), (64, 64))
    assert all(abs(int(place) - 32) <= 2 for place in brightest)
    assert pixels(cut).shape == (3, 64, 64)
    assert pixels(cut).min() >= -1


def test_frozen_prompts_are_the_encoders_features(base):
    prompts = ["a man", "a woman", "a man"]
    frozen = FrozenPrompts(base.family, base.text)(prompts)
    expected = encode_once(base.family, base.text, prompts)
    assert torch.allclose(frozen.text, expected.text, atol=1e-6)
    assert torch.equal(expected.text[0], expected.text[2])
    if expected.pooled is not None:
        assert torch.allclose(frozen.pooled, expected.pooled, atol=1e-6)  # pyright: ignore[reportArgumentType]


def test_a_word_of_several_tokens_is_refused_with_its_pieces(base):
    tokenizers = base.text.tokenizers
    assert single_token(tokenizers, "x", "The rare token") == tuple(
        tokenizer.convert_tokens_to_ids("x</w>") for tokenizer in tokenizers
    )
    with pytest.raises(UserError, match=r'The rare token "sk" has to be one token .* becomes "s", "k</w>"'):
        single_token(tokenizers, "sk", "The rare token")
