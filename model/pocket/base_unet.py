"""Training the pocket base model: a latent-diffusion UNet conditioned on the pocket CLIP's text encoder.

It stands where Stable Diffusion v1.5 stands in the real setting: text to image, trained on captions that describe
traits, ignorant of any particular person.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from fc_bench.model.attention import attention_for, use_attention
from fc_bench.model.pocket.canvas import SIZE
from fc_bench.model.pocket.clip import WIDTH, tokenize_captions
from fc_bench.model.pocket.dataset import PackedDataset
from fc_bench.model.pocket.stage import StageSettings, train_stage
from fc_bench.model.pocket.vae import LATENT_CHANNELS, LATENT_SIZE

_NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}
_UNCONDITIONAL_SHARE = 0.1
_PLAIN_CAPTION_SHARE = 0.5
_HEAD_WEIGHT, _ELSEWHERE_WEIGHT = 2.0, 0.7


def build_unet() -> UNet2DConditionModel:
    """An untrained pocket UNet: three levels (16, 8, 4 pixels), text attention on the upper two and in the middle."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(64, 96, 160),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=32,
    )


def build_sampler() -> DPMSolverMultistepScheduler:
    """The pocket backbone's default sampler, DPM-Solver++ with trailing spacing."""
    return DPMSolverMultistepScheduler(**_NOISE, timestep_spacing="trailing", steps_offset=1)


def training_noise() -> DDPMScheduler:
    """The forward process the pocket models are trained with."""
    return DDPMScheduler(**_NOISE, clip_sample=False)


def train_base_unet(
    unet: UNet2DConditionModel,
    data: PackedDataset,
    latents: NDArray[np.float16],
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    folder: Path,
    settings: StageSettings,
    device: torch.device,
) -> None:
    """Train `unet` in place by v-prediction on cached latents: heads weighted higher, timesteps stratified."""
    use_attention(unet, attention_for(device))
    nn.Module.to(text_encoder.eval().requires_grad_(False), device)
    token_ids = tokenize_captions(data, tokenizer)
    empty = np.array(tokenizer("", padding="max_length").input_ids, np.int16)
    denoising = Denoising(data, latents, device)
    batch = settings.batch_size

    def loss(rng: np.random.Generator, progress: float) -> dict[str, Tensor]:
        index = rng.integers(0, data.train_count, batch)
        plain = rng.random(batch) < _PLAIN_CAPTION_SHARE
        ids = token_ids[index, np.where(plain, 0, rng.integers(1, token_ids.shape[1], batch))]
        ids = np.where(rng.random((batch, 1)) < _UNCONDITIONAL_SHARE, empty, ids)
        return denoising.losses(unet, index, encode_text(text_encoder, ids, device))

    train_stage(folder, {"unet": unet}, loss, settings, device)


@torch.no_grad()
def encode_text(text_encoder: CLIPTextModel, ids: NDArray[np.int16], device: torch.device) -> Tensor:
    """Hidden states of token ids [N, CONTEXT_LENGTH], in half precision."""
    with torch.autocast(device.type, torch.bfloat16):
        return text_encoder(input_ids=torch.from_numpy(ids.astype(np.int64)).to(device))[0]


class Denoising:
    """v-prediction on cached latents: heads weighted higher, timesteps stratified over the batch."""

    def __init__(self, data: PackedDataset, latents: NDArray[np.float16], device: torch.device) -> None:
        self._latents, self._weights, self._device = latents, _head_weights(data), device
        self._noise = training_noise()

    def losses(
        self, unet: UNet2DConditionModel, index: NDArray[np.int64], states: Tensor, **conditions: Any
    ) -> dict[str, Tensor]:
        """Losses of the pictures `index` with text states; `conditions` are further arguments of the UNet."""
        count = len(index)
        pair = torch.from_numpy(self._latents[index]).to(self._device).float()
        clean = pair[:, 0] + pair[:, 1] * torch.randn_like(pair[:, 0])
        added = torch.randn_like(clean)
        strata = (torch.arange(count) + torch.rand(count)) / count
        timesteps: Any = (strata * self._noise.config["num_train_timesteps"]).long().to(self._device)
        noisy = self._noise.add_noise(clean, added, timesteps)
        velocity = self._noise.get_velocity(clean, added, timesteps)
        with torch.autocast(self._device.type, torch.bfloat16):
            predicted = unet(noisy, timesteps, states, **conditions).sample
        square = (predicted.float() - velocity).pow(2)
        weight = torch.from_numpy(self._weights[index]).to(self._device).float()[:, None]
        return {"loss": (square * weight).mean(), "mse": square.mean()}


def _head_weights(data: PackedDataset) -> NDArray[np.float16]:
    """Loss weight of each latent pixel, [N, 16, 16]: high on heads (face boxes grown by a quarter), mean about 1."""
    centers = (np.arange(LATENT_SIZE) + 0.5) * SIZE / LATENT_SIZE
    weights = np.full((len(data.annotations), LATENT_SIZE, LATENT_SIZE), _ELSEWHERE_WEIGHT, np.float16)
    for row, annotation in zip(weights, data.annotations, strict=True):
        for x0, y0, x1, y1 in annotation["face_boxes"]:
            grow_x, grow_y = (x1 - x0) / 8, (y1 - y0) / 8
            inside_x = (centers > x0 - grow_x) & (centers < x1 + grow_x)
            inside_y = (centers > y0 - 2 * grow_y) & (centers < y1 + grow_y)
            row[np.outer(inside_y, inside_x)] = _HEAD_WEIGHT
    return weights
