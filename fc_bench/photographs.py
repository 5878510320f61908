"""Reading photographs, with one sentence for each way in which a file can be unusable."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps

from fc_bench.errors import UserError
from fc_bench.model.pictures import UNREADABLE as UNREADABLE
from fc_bench.model.pictures import describe_unreadable, in_rgb

SMALLEST_SIDE = 32
"""Pixels; below this no face model finds anything."""
LARGEST_SIDE = 16_384
MOST_PIXELS = 100_000_000
"""A small file can hold far more; a photograph does not."""


def read_photograph(path: Path, what: str = "photograph") -> Image.Image:
    """The photograph in RGB, upright (EXIF orientation applied); `what` names it in errors.

    16 bits become 8, of an animation it is the first picture, transparent parts are white. Raises UserError when the
    file is missing, unreadable, truncated, no regular file, has a side outside 32 to 16,384 pixels or more than 100
    million pixels.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"The {what} {path} is no file; replace it.")
        with Image.open(path) as image:
            if max(image.size) > LARGEST_SIDE or image.width * image.height > MOST_PIXELS:
                raise UserError(
                    f"The {what} {path} is {_size(image)} pixels; make its sides smaller than {LARGEST_SIDE} and the "
                    f"whole smaller than {MOST_PIXELS:,} pixels."
                )
            image.load()
            upright = in_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        if not path.is_symlink():
            raise UserError(f"The {what} {path} does not exist; put it there or correct its name.") from None
        raise _unreadable(path, what, error) from None
    except UNREADABLE as error:
        raise _unreadable(path, what, error) from None
    if min(upright.size) < SMALLEST_SIDE:
        raise UserError(
            f"The {what} {path} is only {_size(upright)} pixels; use one of at least {SMALLEST_SIDE} x {SMALLEST_SIDE}."
        )
    return upright


def _unreadable(path: Path, what: str, error: Exception) -> UserError:
    reason, remedy = describe_unreadable(path, error)
    return UserError(f"The {what} {path} cannot be read as an image ({reason}); {remedy}.")


def _size(image: Image.Image) -> str:
    return f"{image.width} x {image.height}"
