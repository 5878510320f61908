"""Photographs as an inspection sees them: whose, what methods get of them, how they look, how sentences name them."""

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
"""A picture is compared by the mean colors of so many cells a side."""
CONTRAST = 2.0
"""Standard deviation of the cells below which a picture shows nothing that could be compared."""
SURROUNDINGS, PATCH = 2.2, 24
"""What surrounds a face is compared up to so many distances of eyes and mouth, by so many cells a side."""
NAMED = 4
"""Photographs of a person that a sentence names."""

Key = tuple[str, int]
"""Id of a person and place of a photograph among theirs."""


@dataclass(frozen=True)
class Photograph:
    """A file, its name in sentences, and what methods get of it (None: all)."""

    path: Path
    name: str
    crop: Crop | None = None


@dataclass(frozen=True)
class Person:
    """Somebody with photographs, the reference first; one who is not `requested` stands in the floor alone."""

    id: str
    photographs: tuple[Photograph, ...]
    requested: bool = True


@dataclass(frozen=True)
class Finding:
    """One thing about photographs, in a sentence; `blocks`: numbers would be wrong, so it is refused."""

    kind: str
    text: str
    blocks: bool = False
    photographs: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As run.json keeps it, where it blocks nothing."""
        return {"kind": self.kind, "text": self.text, "photographs": list(self.photographs)}


@dataclass(frozen=True)
class Look:
    """What is kept of a photograph: size, a hash of its pixels, colors of its cells [32, 32, 3] and its faces.

    `surroundings` of the largest face are cells [24, 24, 3], and which of them lie in the photograph (None: no face).
    """

    size: tuple[int, int]
    pixels: bytes
    cells: np.ndarray
    faces: tuple[Face, ...]
    surroundings: tuple[np.ndarray, np.ndarray] | None

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing that could be compared."""
        return float(self.cells.std()) < CONTRAST


@dataclass(frozen=True)
class Seen:
    """A photograph in its place: whose, which one (from 0), and how it looks."""

    person: Person
    place: int
    look: Look

    @property
    def photograph(self) -> Photograph:
        """Its file, name and crop."""
        return self.person.photographs[self.place]

    @property
    def key(self) -> Key:
        """Whose and which one."""
        return (self.person.id, self.place)

    @property
    def is_reference(self) -> bool:
        """Whether methods that do not tune see this one alone."""
        return self.place == 0

    @property
    def given(self) -> str:
        """What methods get of the photograph."""
        return self.photograph.name if self.photograph.crop is None else f"the square of {self.photograph.name}"

    @property
    def named(self) -> str:
        """The photograph, whose it is, and whether it is the reference."""
        return f'{self.photograph.name} of "{self.person.id}"' + (", the reference" if self.is_reference else "")


def look_at(image: Image.Image, faces: Sequence[Face]) -> Look:
    """How an RGB image with these faces, largest first, looks."""
    pixels = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()
    surroundings = _surroundings(image, faces[0]) if faces else None
    return Look(image.size, pixels, _cells(image), tuple(faces), surroundings)


def people_in(seen: Sequence[Seen]) -> list[str]:
    """The ids of those whose photographs they are, each once."""
    return list(dict.fromkeys(one.person.id for one in seen))


def names_of(seen: Sequence[Seen]) -> tuple[str, ...]:
    """The photographs' names."""
    return tuple(one.photograph.name for one in seen)


def repeated(names: Sequence[str]) -> list[str]:
    """Each name once, with how often it is there."""
    return [name if count == 1 else f"{name} (listed {count} times)" for name, count in Counter(names).items()]


def listed(texts: Iterable[str]) -> str:
    """`a, b and c`; of many the first, and how many there are besides."""
    every = list(texts)
    shown = every if len(every) <= NAMED else [*every[: NAMED - 1], f"{len(every) - NAMED + 1} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def _cells(image: Image.Image) -> np.ndarray:
    """Mean colors of the cells of a picture, [32, 32, 3]."""
    return np.asarray(image.resize((CELLS, CELLS), Image.Resampling.BOX), dtype=np.float32)


def _surroundings(image: Image.Image, face: Face) -> tuple[np.ndarray, np.ndarray] | None:
    """What surrounds a face, upright and in a size that follows the face: colors and which of them are of the image."""
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
