"""Photographs in an inspection: their person, the part that methods get, their content, and their names."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fc_bench.scoring.faces import Face
from fc_bench.suites.photographs import Crop

CELLS = 32
"""Cells per side whose mean colors are compared."""
CONTRAST = 2.0
"""Standard deviation of the cells below which a picture counts as blank."""
SURROUNDINGS, PATCH = 2.2, 24
"""Range of the surroundings of a face, in distances of eyes and mouth, and its cells per side."""
NAMED = 4
"""Number of photographs of a person that a sentence names."""

Key = tuple[str, int]
"""Id of a person and index of a photograph among theirs."""


@dataclass(frozen=True)
class Photograph:
    """A file, its name in sentences, and the part that methods get (None: all)."""

    path: Path
    name: str
    crop: Crop | None = None


@dataclass(frozen=True)
class Person:
    """A person with photographs, the reference first; one who is not `requested` appears only in the floor."""

    id: str
    photographs: tuple[Photograph, ...]
    requested: bool = True


@dataclass(frozen=True)
class Finding:
    """A finding about photographs, in a sentence; `blocks`: numbers would be wrong, so it is refused."""

    kind: str
    text: str
    blocks: bool = False
    photographs: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """The record in run.json of a finding that does not block."""
        return {"kind": self.kind, "text": self.text, "photographs": list(self.photographs)}


@dataclass(frozen=True)
class Look:
    """The content of a photograph: size, a hash of its pixels, colors of its cells [32, 32, 3] and its faces.

    `surroundings` of the largest face are cells [24, 24, 3] and a mask of those inside the photograph (None: no face).
    """

    size: tuple[int, int]
    pixels: bytes
    cells: np.ndarray
    faces: tuple[Face, ...]
    surroundings: tuple[np.ndarray, np.ndarray] | None

    @property
    def is_blank(self) -> bool:
        """Whether the picture is blank, so that it cannot be compared."""
        return float(self.cells.std()) < CONTRAST


@dataclass(frozen=True)
class Seen:
    """A photograph of a person: its index (from 0) and its content."""

    person: Person
    place: int
    look: Look

    @property
    def photograph(self) -> Photograph:
        """Its file, name and crop."""
        return self.person.photographs[self.place]

    @property
    def key(self) -> Key:
        """Its person's id and its index."""
        return (self.person.id, self.place)

    @property
    def is_reference(self) -> bool:
        """Whether it is the only photograph that tuning-free methods see."""
        return self.place == 0

    @property
    def given(self) -> str:
        """The part of the photograph that methods get."""
        return self.photograph.name if self.photograph.crop is None else f"the square of {self.photograph.name}"

    @property
    def named(self) -> str:
        """The photograph, its person, and whether it is the reference."""
        return f'{self.photograph.name} of "{self.person.id}"' + (", the reference" if self.is_reference else "")


def look_at(image: Image.Image, faces: Sequence[Face]) -> Look:
    """The content of an RGB image with these faces, largest first."""
    pixels = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()
    surroundings = _surroundings(image, faces[0]) if faces else None
    return Look(image.size, pixels, _cells(image), tuple(faces), surroundings)


def people_in(seen: Sequence[Seen]) -> list[str]:
    """The ids of the photographs' people, each once."""
    return list(dict.fromkeys(one.person.id for one in seen))


def names_of(seen: Sequence[Seen]) -> tuple[str, ...]:
    """The photographs' names."""
    return tuple(one.photograph.name for one in seen)


def repeated(names: Sequence[str]) -> list[str]:
    """Each name once, with its number of occurrences."""
    return [name if count == 1 else f"{name} (listed {count} times)" for name, count in Counter(names).items()]


def listed(texts: Iterable[str]) -> str:
    """`a, b and c`; of many names, the first ones and the number of the others."""
    every = list(texts)
    shown = every if len(every) <= NAMED else [*every[: NAMED - 1], f"{len(every) - NAMED + 1} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def _cells(image: Image.Image) -> np.ndarray:
    """Mean colors of the cells of a picture, [32, 32, 3]."""
    return np.asarray(image.resize((CELLS, CELLS), Image.Resampling.BOX), dtype=np.float32)


def _surroundings(image: Image.Image, face: Face) -> tuple[np.ndarray, np.ndarray] | None:
    """The surroundings of a face, upright and scaled with the face: colors, and a mask of the part inside the image."""
    if face.landmarks is None:
        return None
    import cv2

    eyes, mouth = face.landmarks[:2].mean(axis=0), face.landmarks[3:].mean(axis=0)
    down = mouth - eyes
    middle, reach = eyes + 0.4 * down, SURROUNDINGS * down
    across = np.array([reach[1], -reach[0]])
    corners = np.array([middle - across - reach, middle + across - reach, middle - across + reach], dtype=np.float32)
    fine = 4 * PATCH
    onto = cv2.getAffineTransform(corners, np.array([[0, 0], [fine, 0], [0, fine]], dtype=np.float32))
    inside = np.full((image.height, image.width), 255, dtype=np.uint8)
    colors, there = (
        cv2.resize(cv2.warpAffine(pixels, onto, (fine, fine)), (PATCH, PATCH), interpolation=cv2.INTER_AREA)
        for pixels in (np.asarray(image), inside)
    )
    return colors.astype(np.float32), there > 250
