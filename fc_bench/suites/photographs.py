"""Reads photographs, with one error message per defect of a file, and crops squares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fc_bench.errors import UserError
from fc_bench.model.pictures import UNREADABLE as UNREADABLE
from fc_bench.model.pictures import describe_unreadable, in_rgb

SMALLEST_SIDE = 32
"""Smallest side in pixels; face models find nothing in smaller images."""
LARGEST_SIDE = 16_384
MOST_PIXELS = 100_000_000
"""Limits against small files that unpack to huge images."""
HAIR = 0.25
"""Room around a face for hair and chin, in heights of the face's box; face and room are the head."""
PLACES = 16
"""Squares are aligned to this part of their side, so that rounding on another device moves none."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class Crop:
    """The square cropped from a photograph: its center and side in pixels, and its rotation in degrees."""

    center: tuple[float, float]
    side: float
    degrees: float = 0.0

    @property
    def box(self) -> Box:
        """Left, top, right and bottom of the square before its rotation."""
        (x, y), half = self.center, self.side / 2
        return (x - half, y - half, x + half, y + half)

    def inside(self, size: tuple[int, int]) -> Crop:
        """The crop moved into a photograph of that width and height."""
        half, (x, y) = self.side / 2, self.center
        return replace(self, center=(min(max(x, half), size[0] - half), min(max(y, half), size[1] - half)))


def read_photograph(path: Path, what: str = "photograph") -> Image.Image:
    """The photograph in RGB, upright (EXIF orientation applied); `what` names it in errors.

    16-bit values are reduced to 8 bits, an animation gives its first picture, and transparent parts become white.
    Raises UserError if the file is missing, unreadable, truncated or not a regular file, has a side outside 32 to
    16,384 pixels, or more than 100 million pixels.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"The {what} {path} is not a file; replace it.")
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


def center_square(size: tuple[int, int]) -> Crop:
    """The largest centered square of a photograph of that width and height."""
    side = min(size)
    return Crop(((size[0] - side) // 2 + side / 2, (size[1] - side) // 2 + side / 2), side)


def face_square(size: tuple[int, int], face: Box | None) -> Crop:
    """The largest square of a photograph of that width and height that shows the whole head around a face's box.

    The center square is taken if it shows the head, or without a face. Otherwise the face is centered as far as the
    photograph allows. If no square holds the head, the face alone counts; a larger face is cut off.
    """
    middle = center_square(size)
    if face is None:
        return middle
    long, side = (0 if size[0] > size[1] else 1), min(size)
    first, last, step = int(middle.box[long]), size[long] - side, max(1, side // PLACES)
    starts = sorted({0, last, *range(first % step, last + 1, step)})
    squares = [Crop(_moved(middle.center, long, start + side / 2), side) for start in starts]

    def distance(square: Crop) -> float:
        return abs(square.center[long] - (face[long] + face[long + 2]) / 2)

    for part in (_head(size, face), _within(size, face)):
        if holds(middle, part):
            return middle
        if holding := [square for square in squares if holds(square, part)]:
            return min(holding, key=distance)
    return min(squares, key=distance)


def shows_face(size: tuple[int, int], crop: Crop, face: Box) -> bool:
    """Whether an unrotated square shows everything that the photograph has of a face's box."""
    return holds(crop, _within(size, face))


def holds(square: Crop, box: Box) -> bool:
    """Whether an unrotated square shows the whole box."""
    left, top, right, bottom = square.box
    return left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom


def cut_out(image: Image.Image, crop: Crop) -> Image.Image:
    """The crop's square, moved into the photograph if it reaches beyond it.

    Missing corners of a rotated square are mirrored.
    """
    side = max(1, round(crop.side))
    x, y = crop.inside(image.size).center
    if not crop.degrees:
        left, top = round(x - crop.side / 2), round(y - crop.side / 2)
        return image.crop((left, top, left + side, top + side))
    import cv2

    turn = cv2.getRotationMatrix2D((x, y), crop.degrees, 1.0)
    turn[:, 2] += side / 2 - np.array([x, y])
    turned = cv2.warpAffine(
        np.asarray(image), turn, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return Image.fromarray(turned)


def _head(size: tuple[int, int], face: Box) -> Box:
    """The visible part of a face and its hair in a photograph of that width and height."""
    room = HAIR * (face[3] - face[1])
    return _within(size, (face[0] - room, face[1] - room, face[2] + room, face[3] + room))


def _within(size: tuple[int, int], box: Box) -> Box:
    return (max(0.0, box[0]), max(0.0, box[1]), min(size[0], box[2]), min(size[1], box[3]))


def _moved(center: tuple[float, float], axis: int, to: float) -> tuple[float, float]:
    return (to, center[1]) if axis == 0 else (center[0], to)


def _unreadable(path: Path, what: str, error: Exception) -> UserError:
    reason, remedy = describe_unreadable(path, error)
    return UserError(f"The {what} {path} cannot be read as an image ({reason}); {remedy}.")


def _size(image: Image.Image) -> str:
    return f"{image.width} x {image.height}"
