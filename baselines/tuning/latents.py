"""Photographs as posteriors of their latents, which are encoded once and sampled anew at every step.

For unchanged pixels this equals encoding them at every step. A single stored sample would not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fc_bench.model.autoencoder import posterior
from fc_bench.model.families.condition import Framing
from fc_bench.model.families.family import Family

BATCH = 8
"""Number of pictures that are encoded together."""


@dataclass(frozen=True)
class Posteriors:
    """Means and standard deviations of scaled latents, each [pictures, channels, height, width]."""

    mean: Tensor
    std: Tensor

    def sample(self, rows: Sequence[int], noise: Tensor) -> Tensor:
        """Latents of the given rows; `noise` is standard normal, [rows, channels, height, width]."""
        chosen = torch.as_tensor(rows, device=self.mean.device)
        return self.mean[chosen] + self.std[chosen] * noise


def square(image: Image.Image, side: int) -> Image.Image:
    """The center of a picture at `side` x `side` pixels; resized by its shorter side (bilinear), then cropped."""
    size, (top, left) = _resized(image, side)
    return image.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + side, top + side))


def framing(image: Image.Image, side: int) -> Framing:
    """What `square` shows of a picture."""
    return Framing((image.height, image.width), _resized(image, side)[1], (side, side))


def _resized(image: Image.Image, side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Width and height of a picture whose shorter side is `side`, and top and left of its center."""
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    return (width, height), ((height - side) // 2, (width - side) // 2)


def pixels(image: Image.Image) -> Tensor:
    """The picture's pixels, float32 [3, height, width] in -1..1."""
    return torch.from_numpy(np.array(image, dtype=np.float32) / 127.5 - 1.0).permute(2, 0, 1)


@torch.no_grad()
def encode(family: Family, vae: Any, pictures: Tensor) -> Posteriors:
    """Posteriors of pictures [pictures, 3, height, width] in -1..1, in float32.

    An autoencoder in float32 stays in it under autocast, because that of Stable Diffusion XL overflows in float16.
    """
    means, deviations = [], []
    kind = vae.device.type
    with torch.autocast(kind, enabled=torch.is_autocast_enabled(kind) and vae.dtype is not torch.float32):
        for batch in pictures.split(BATCH):
            found = posterior(vae, batch.to(vae.device, vae.dtype))
            means.append(found.mean.float())
            deviations.append(found.std.float())
    scale = family.latent_scale(vae)
    return Posteriors(torch.cat(means) * scale, torch.cat(deviations) * scale)
