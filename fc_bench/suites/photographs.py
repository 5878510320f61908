"""Reading photographs, with one sentence for each way in which a file can be unusable, and cutting squares out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fc_bench.errors import UserError
from fc_bench.model.pictures import UNREADABLE as UNREADABLE
from fc_bench.model.pictures import describe_unreadable, in_rgb

SMALLEST_SIDE = 32
"""Pixels; below this no face model finds anything."""
LARGEST_SIDE = 16_384
MOST_PIXELS = 100_000_000
"""A small file can hold far more; a photograph does not."""
HAIR = 0.25
"""Room around a face for hair and chin, in heights of the face's box; together they are the head."""
PLACES = 16
"""Squares lie at steps of this part of their side, so that rounding on another device moves none."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class Crop:
    """The square cut out of a photograph: center and side in pixels, and the degrees it was turned by."""

    center: tuple[float, float]
    side: float
    degrees: float = 0.0

    @property
    def box(self) -> Box:
        """Of the square before it was turned."""
        (x, y), half = self.center, self.side / 2
        return (x - half, y - half, x + half, y + half)

    def inside(self, size: tuple[int, int]) -> Crop:
        """Moved into a photograph of that width and height, where it reaches beyond it."""
        half, (x, y) = self.side / 2, self.center
        return replace(self, center=(min(max(x, half), size[0] - half), min(max(y, half), size[1] - half)))


def read_photograph(path: Path, what: str = "photograph") -> Image.Image:
    """The photograph in RGB, upright (EXIF orientation applied); `what` names it in errors.

    16 bits become 8, of an animation it is the first picture, transparent parts are white. Raises UserError when the
    file is missing, unreadable, truncated, no regular file, has a side outside 32 to 16,384 pixels or more than 100
    million pixels.
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
    """The largest square in the middle of a photograph of that width and height."""
    side = min(size)
    return Crop(((size[0] - side) // 2 + side / 2, (size[1] - side) // 2 + side / 2), side)


def face_square(size: tuple[int, int], face: Box | None) -> Crop:
    """The largest square of a photograph of that width and height that shows the whole head around a face's box.

    It is the center square where that does, and without a face. Else the face is in its middle, as far as the
    photograph reaches. A head that no square holds counts by its face alone, and a larger face is cut off.
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
    """Whether a square that is not turned shows all that the photograph has of a face's box."""
    return holds(crop, _within(size, face))


def holds(square: Crop, box: Box) -> bool:
    """Whether a square that is not turned shows the whole box."""
    left, top, right, bottom = square.box
    return left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom


def cut_out(image: Image.Image, crop: Crop) -> Image.Image:
    """The crop's square, moved into the photograph where it would reach beyond it.

    What a turned square still lacks at its corners is mirrored.
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
    """What a photograph of that width and height shows of a face and the hair around it."""
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
