"""Random augmentation of subject crops, so that the model learns identity instead of pose, color and framing.

FastComposer (arXiv 2305.10431), section 5.1: zoom, rotation, color jitter, blur, grayscale, flip, elastic deformation.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, interpolate, pad

from fc_bench.model.training.config import AugmentationConfig

ELASTIC_GRID = 6
LUMA = (0.299, 0.587, 0.114)


def augment(pixels: Tensor, config: AugmentationConfig, rng: np.random.Generator) -> Tensor:
    """A randomly augmented square crop [3, size, size] in 0..1; pixels from outside the crop are black."""
    zoom = rng.uniform(1, config.max_zoom) if rng.random() < config.zoom else 1.0
    degrees = rng.uniform(-config.max_degrees, config.max_degrees) if rng.random() < config.rotate else 0.0
    mirror = -1.0 if rng.random() < config.flip else 1.0
    elastic = config.elastic_strength if rng.random() < config.elastic else 0.0
    pixels = _warp(pixels, zoom, degrees, mirror, elastic, rng)
    if rng.random() < config.color_jitter:
        pixels = _jitter(pixels, config.jitter_strength, rng)
    if rng.random() < config.blur:
        pixels = _blur(pixels, rng.uniform(0, config.max_blur) * pixels.shape[-1])
    if rng.random() < config.grayscale:
        pixels = _luma(pixels).expand_as(pixels)
    return pixels


def _warp(
    pixels: Tensor, zoom: float, degrees: float, mirror: float, elastic: float, rng: np.random.Generator
) -> Tensor:
    """Zoom, rotation, flip and elastic deformation in a single resampling."""
    if (zoom, degrees, mirror, elastic) == (1.0, 0.0, 1.0, 0.0):
        return pixels
    cosine, sine = math.cos(math.radians(degrees)) / zoom, math.sin(math.radians(degrees)) / zoom
    matrix = torch.tensor([[[mirror * cosine, -sine, 0.0], [mirror * sine, cosine, 0.0]]])
    size = [1, *pixels.shape]
    grid = affine_grid(matrix, size, align_corners=False)
    if elastic:
        displacement = torch.from_numpy(rng.normal(0, 2 * elastic, (1, 2, ELASTIC_GRID, ELASTIC_GRID))).float()
        smooth = interpolate(displacement, pixels.shape[-2:], mode="bicubic", align_corners=True)
        grid = grid + smooth.permute(0, 2, 3, 1)
    return grid_sample(pixels[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]


def _jitter(pixels: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    brightness, contrast, saturation = (rng.uniform(1 - strength, 1 + strength) for _ in range(3))
    pixels = pixels * brightness
    pixels = (pixels - pixels.mean()) * contrast + pixels.mean()
    gray = _luma(pixels)
    return ((pixels - gray) * saturation + gray).clamp(0, 1)


def _blur(pixels: Tensor, sigma: float) -> Tensor:
    radius = math.ceil(2 * sigma)
    if sigma < 0.1:
        return pixels
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = pad(pixels[:, None], (radius,) * 4, mode="replicate")
    return conv2d(conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[:, 0]


def _luma(pixels: Tensor) -> Tensor:
    return (pixels * torch.tensor(LUMA).view(3, 1, 1)).sum(0, keepdim=True)
