"""Photographs of one's own people, cropped to the portraits that methods expect.

References of FastComposer are a person's head and shoulders (arXiv 2305.10431, section 5.1: the crop of a person in a
portrait of FFHQ; its evaluation takes CelebA's portraits), and tuned methods are evaluated on the same ones. In a
snapshot a person may be small or tilted: the square of FFHQ's alignment (Karras et al. 2019, arXiv 1812.04948,
appendix A) is cropped around the largest face, enlarged to keep hair and shoulders, and rotated upright.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fc_bench.errors import UserError
from fc_bench.inspection.looks import Person, Photograph
from fc_bench.model.pictures import OTHER_SUFFIXES, SUFFIXES, describe_left_out, image_files
from fc_bench.scoring.faces import Face, FaceFinder
from fc_bench.suites.photographs import Crop, cut_out, face_square, read_photograph

CONVERT = f"only {', '.join(SUFFIXES)} are read, so convert them"
ROOM = 1.25
"""Side of the portrait, in sides of FFHQ's square."""
NEAR_ENOUGH = 0.75
"""A photograph whose shorter side is at most 1 / NEAR_ENOUGH portraits counts as a portrait."""
UPRIGHT = 12.0
"""Largest tilt of a head in degrees that is not corrected."""


@dataclass(frozen=True)
class Portrait:
    """A photograph as methods get it; `crop` is None if it was already a square portrait."""

    source: Path
    image: Image.Image
    crop: Crop | None = None


def photographs_in(path: Path) -> list[Path]:
    """The photographs of a file or a folder (without its subfolders), in the order of their names, 2 before 10.

    Raises UserError if there is none.
    """
    if not path.exists() and not path.is_symlink():
        raise UserError(f"The photograph or folder {path} does not exist; correct its name.")
    if not path.is_dir():
        return [path]
    try:
        found = sorted_by_name(image_files(path))
        others = sorted_by_name(image_files(path, suffixes=(*OTHER_SUFFIXES, ".dvc")))
    except OSError as error:
        raise UserError(f"The folder {path} cannot be read ({error.strerror}); make it readable.") from None
    if not found and others:
        what = "convert its photographs to JPEG or PNG, or fetch them with dvc pull"
        raise UserError(f"The folder {path} holds {describe_left_out(others)} only, which are not read; {what}.")
    if not found:
        raise UserError(f"The folder {path} has no photograph ({', '.join(SUFFIXES)}); put one there.")
    return found


def portraits_in(path: Path, finder: FaceFinder | None, who: str) -> tuple[list[Portrait], list[str]]:
    """The portraits of a person in a photograph or folder, and a sentence for each one left out.

    Raises UserError if there is none.
    """
    found, unusable = portraits(photographs_in(path), finder, who)
    remarks = [f'Left out for "{who}": {reason}' for reason in unusable]
    return found, remarks + left_out(path, OTHER_SUFFIXES, CONVERT)


def left_out(folder: Path, suffixes: Sequence[str], why: str) -> list[str]:
    """A sentence on a folder's files with these suffixes, which are not read; empty if there are none."""
    found = sorted_by_name(image_files(folder, suffixes=suffixes)) if folder.is_dir() else []
    if not found:
        return []
    return [f"Left out of {folder}: {describe_left_out(found)}; {why}."]


def sorted_by_name(paths: Iterable[Path]) -> list[Path]:
    """The paths in the order of their names, with numbers by their value."""
    return sorted(paths, key=lambda path: ([_piece(text) for text in re.split(r"(\d+)", path.name.lower())], path.name))


def portraits(paths: Sequence[Path], finder: FaceFinder | None, who: str) -> tuple[list[Portrait], list[str]]:
    """The portraits of a person in photographs, and a sentence for each unusable photograph.

    Without a face finder the photographs stay unchanged. Raises UserError if none is usable, with the error of the
    first.
    """
    found: list[Portrait] = []
    unusable: list[str] = []
    for path in paths:
        try:
            image = read_photograph(path)
            found.append(Portrait(path, image) if finder is None else _portrait(path, image, finder.search(image)))
        except UserError as error:
            unusable.append(str(error))
    if not found:
        others = f" The other {len(unusable) - 1} cannot be used either." if len(unusable) > 1 else ""
        raise UserError(f'"{who}" has no usable photograph: {unusable[0]}{others}')
    return found, unusable


def person_of(who: str, found: Sequence[Portrait], squares: Mapping[Path, Crop] | None = None) -> Person:
    """A person for the inspection: photographs under their paths, and their crops.

    `squares` are the crops of photographs that were left unchanged.
    """
    later = squares or {}
    return Person(
        who, tuple(Photograph(one.source, str(one.source), one.crop or later.get(one.source)) for one in found)
    )


def crop_of(face: Face, size: tuple[int, int]) -> Crop | None:
    """The portrait crop of a photograph of that width and height; None if it is already a portrait."""
    if face.landmarks is None:
        center = ((face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2)
        side, degrees = 2 * ROOM * max(face.box[2] - face.box[0], face.box[3] - face.box[1]), 0.0
    else:
        eyes, mouth = face.landmarks[:2].mean(axis=0), face.landmarks[3:].mean(axis=0)
        across, down = face.landmarks[1] - face.landmarks[0], mouth - eyes
        middle = eyes + 0.1 * down
        center = (float(middle[0]), float(middle[1]))
        side = ROOM * max(4.0 * math.hypot(*across), 3.6 * math.hypot(*down))
        degrees = math.degrees(math.atan2(across[1], across[0]))
    leans = abs(degrees) > UPRIGHT
    if side >= NEAR_ENOUGH * min(size) and not leans:
        return None
    return Crop(center, min(side, float(min(size))), degrees if leans else 0.0)


def _portrait(path: Path, image: Image.Image, faces: Sequence[Face]) -> Portrait:
    if not faces:
        raise UserError(f"No face is found in the photograph {path}; use one with a clearly visible, larger face.")
    crop = crop_of(faces[0], image.size)
    if crop is None and image.width != image.height:
        crop = face_square(image.size, faces[0].box)
    return Portrait(path, image if crop is None else cut_out(image, crop), crop)


def _piece(text: str) -> tuple[int, int, str]:
    return (0, int(text), "") if text.isascii() and text.isdigit() else (1, 0, text)
