"""Custom Diffusion's augmentation shrinks a photograph on an empty canvas or enlarges it, and adapts the prompt.

arXiv 2212.04488, section 4 (training details), with the numbers of the diffusers example. The loss counts only the
latent cells that lie entirely inside the photograph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fc_bench.baselines.tuning.latents import framing, pixels
from fc_bench.model.families.condition import Framing

SHRUNK_SHARE = 0.66
"""Share of the photographs that are scaled to between a third and all of the canvas; the others are enlarged."""
LARGEST = 1.4
ENLARGED = (1.2, LARGEST)
"""Range of scales of enlarged photographs, relative to the side of the canvas."""
FAR = ("a far away ", "very small ")
"""Prefixes of the prompt for photographs smaller than `FAR_BELOW` of the canvas."""
FAR_BELOW = 0.6
CLOSE = ("zoomed in ", "close up ")
"""Prefixes of the prompt for enlarged photographs."""


@dataclass(frozen=True)
class Rescaling:
    """Scale and position of one photograph, in pixels, with the prefix of its prompt.

    `top` and `left` are offsets on the canvas, or inside the photograph if that is larger than the canvas.
    """

    side: int
    top: int
    left: int
    prefix: str


def draw_rescaling(generator: np.random.Generator, canvas: int) -> Rescaling:
    """A random rescaling for a canvas of `canvas` x `canvas` pixels."""
    if generator.random() < SHRUNK_SHARE:
        side = int(generator.integers(canvas // 3, canvas + 1))
    else:
        side = int(generator.integers(int(ENLARGED[0] * canvas), int(ENLARGED[1] * canvas)))
    top, left = (int(offset) for offset in generator.integers(abs(canvas - side) + 1, size=2))
    prefix = ""
    if side < FAR_BELOW * canvas:
        prefix = FAR[int(generator.integers(len(FAR)))]
    elif side > canvas:
        prefix = CLOSE[int(generator.integers(len(CLOSE)))]
    return Rescaling(side, top, left, prefix)


def identity(canvas: int) -> Rescaling:
    """The rescaling that makes a photograph fill the canvas exactly."""
    return Rescaling(canvas, 0, 0, "")


def rescale(photograph: Image.Image, rescaling: Rescaling, canvas: int) -> Tensor:
    """The canvas with a square photograph on it, [3, canvas, canvas] in -1..1; the rest of the canvas is zero."""
    side, top, left = rescaling.side, rescaling.top, rescaling.left
    resized = pixels(photograph.resize((side, side), Image.Resampling.BILINEAR))
    if side > canvas:
        return resized[:, top : top + canvas, left : left + canvas]
    picture = torch.zeros(3, canvas, canvas)
    picture[:, top : top + side, left : left + side] = resized
    return picture


def rescaled_framing(original: Image.Image, rescaling: Rescaling, canvas: int) -> Framing:
    """What the canvas shows of a photograph. The empty part of the canvas does not count as cropped."""
    center = framing(original, rescaling.side)
    inside = (rescaling.top, rescaling.left) if rescaling.side > canvas else (0, 0)
    corner = (center.corner[0] + inside[0], center.corner[1] + inside[1])
    return Framing(center.original, corner, (canvas, canvas))


def valid_region(rescaling: Rescaling, canvas: int, cells: int) -> Tensor:
    """Mask of the latent cells that count in the loss, [1, cells, cells]: the photograph without its outermost cells.

    The mask is never empty. On a canvas with few cells, the cell at the photograph's center counts.
    """
    mask = torch.zeros(1, cells, cells)
    if rescaling.side > canvas:
        return mask + 1
    factor = canvas // cells
    rows, columns = (_inner(offset, rescaling.side, factor) for offset in (rescaling.top, rescaling.left))
    mask[:, rows, columns] = 1
    return mask


def _inner(offset: int, side: int, factor: int) -> slice:
    first, last = offset // factor + 1, (offset + side) // factor - 1
    if first < last:
        return slice(first, last)
    center = (offset + side // 2) // factor
    return slice(center, center + 1)
