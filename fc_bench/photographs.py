"""Reading photographs, with one sentence for each way in which a file can be unusable."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from fc_bench.errors import UserError

SMALLEST_SIDE = 32
"""Pixels; below this no face model finds anything."""
LARGEST_SIDE = 16_384


def read_photograph(path: Path, what: str = "photograph") -> Image.Image:
    """The photograph in RGB, upright (EXIF orientation applied); `what` names it in errors.

    Raises UserError when the file is missing, unreadable, truncated, or has a side outside 32 to 16,384 pixels.
    """
    try:
        with Image.open(path) as image:
            if max(image.size) > LARGEST_SIDE:
                raise UserError(f"The {what} {path} is {_size(image)} pixels; make it smaller than {LARGEST_SIDE}.")
            image.load()
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise UserError(f"The {what} {path} does not exist; put it there or correct its name.") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"The {what} {path} cannot be read as an image ({error}); replace it.") from None
    if min(upright.size) < SMALLEST_SIDE:
        raise UserError(
            f"The {what} {path} is only {_size(upright)} pixels; use one of at least {SMALLEST_SIDE} x {SMALLEST_SIDE}."
        )
    return upright


def _size(image: Image.Image) -> str:
    return f"{image.width} x {image.height}"
