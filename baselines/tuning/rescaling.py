"""Custom Diffusion's augmentation: a photograph is shrunk onto an empty canvas or enlarged, and the prompt says so.

arXiv 2212.04488, section 4 (training details), with the numbers of the diffusers example. Only the canvas's cells that
show nothing but the photograph count in the loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fc_bench.baselines.tuning.latents import pixels

SHRUNK_SHARE = 0.66
"""Share of the photographs drawn at a scale of a third to the whole canvas; the others are enlarged."""
LARGEST = 1.4
ENLARGED = (1.2, LARGEST)
"""Scales of enlarged photographs, in sides of the canvas."""
FAR = ("a far away ", "very small ")
"""Before the prompt of a photograph below `FAR_BELOW` of the canvas."""
FAR_BELOW = 0.6
CLOSE = ("zoomed in ", "close up ")
"""Before the prompt of an enlarged photograph."""


@dataclass(frozen=True)
class Rescaling:
    """How one photograph is seen: its side and, on the canvas or in the photograph, its offset, in pixels."""

    side: int
    top: int
    left: int
    prefix: str


def draw_rescaling(drawn: np.random.Generator, canvas: int) -> Rescaling:
    """A rescaling for a canvas of `canvas` x `canvas` pixels."""
    if drawn.random() < SHRUNK_SHARE:
        side = int(drawn.integers(canvas // 3, canvas + 1))
    else:
        side = int(drawn.integers(int(ENLARGED[0] * canvas), int(ENLARGED[1] * canvas)))
    top, left = (int(offset) for offset in drawn.integers(abs(canvas - side) + 1, size=2))
    prefix = ""
    if side < FAR_BELOW * canvas:
        prefix = FAR[int(drawn.integers(len(FAR)))]
    elif side > canvas:
        prefix = CLOSE[int(drawn.integers(len(CLOSE)))]
    return Rescaling(side, top, left, prefix)


def whole(canvas: int) -> Rescaling:
    """The photograph as it is, filling the canvas."""
    return Rescaling(canvas, 0, 0, "")


def rescale(photograph: Image.Image, how: Rescaling, canvas: int) -> Tensor:
    """A square photograph as the canvas shows it, [3, canvas, canvas] in -1..1, zero around it."""
    shown = pixels(photograph.resize((how.side, how.side), Image.Resampling.BILINEAR))
    if how.side > canvas:
        return shown[:, how.top : how.top + canvas, how.left : how.left + canvas]
    picture = torch.zeros(3, canvas, canvas)
    picture[:, how.top : how.top + how.side, how.left : how.left + how.side] = shown
    return picture


def valid_region(how: Rescaling, canvas: int, cells: int) -> Tensor:
    """1 where a cell of the latents counts, [1, cells, cells]: those of the photograph without their outermost ring.

    Never empty: where the ring is all there is (canvases of few cells), the cell of the photograph's centre counts.
    """
    mask = torch.zeros(1, cells, cells)
    if how.side > canvas:
        return mask + 1
    rows, columns = (_inner(offset, how.side, canvas // cells) for offset in (how.top, how.left))
    mask[:, rows, columns] = 1
    return mask


def _inner(offset: int, side: int, factor: int) -> slice:
    first, last = offset // factor + 1, (offset + side) // factor - 1
    if first < last:
        return slice(first, last)
    centre = (offset + side // 2) // factor
    return slice(centre, centre + 1)
