"""The images that a suite requires, and the files that are assigned to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from fc_bench.errors import UserError
from fc_bench.suites.photographs import read_photograph
from fc_bench.suites.suite import Prompt, SubjectSet

Slot = tuple[str, str, str, int]
"""A requested image of a suite: method, subject set, prompt template, index."""
CELLS = 4
"""Images of a 2 x 2 grid."""


@dataclass(frozen=True)
class RequestedImages:
    """The images that a suite requires: subject sets with their prompts, and the number of images of each.

    `numbered` are all sets of the suite in the order of the numbers in file names. `fewer_images`: the command line
    sets the number, so further images are left out.
    """

    sets: Sequence[tuple[SubjectSet, list[Prompt]]]
    numbered: Sequence[tuple[SubjectSet, list[Prompt]]]
    images: int
    fewer_images: bool = False

    @cached_property
    def keys(self) -> frozenset[str]:
        """Keys of the requested sets."""
        return frozenset(subject_set.key for subject_set, _ in self.sets)


@dataclass
class LeftOut:
    """The number of images left out, by reason."""

    strangers: int = 0
    """Files with other names."""
    sets: int = 0
    """Images of other subject sets."""
    prompts: int = 0
    """Images of other prompts."""
    images: int = 0
    """Images of a prompt beyond the requested number."""
    refused_count: str = ""
    """The number of files for which the benchmark's own scripts refuse the folder."""

    def summary(self) -> str:
        """The counts as the end of a sentence; empty if there is nothing to say."""
        counts = {
            "other files": self.strangers,
            "images of other subject sets": self.sets,
            "images of other prompts": self.prompts,
            "images beyond the requested number": self.images,
        }
        counted = [f"{count} {what}" for what, count in counts.items() if count]
        left_out = f"; left out: {', '.join(counted)}" if counted else ""
        return left_out + (f"; the benchmark's own scripts refuse {self.refused_count}" if self.refused_count else "")


@dataclass(frozen=True)
class ReportedCost:
    """What the maker of an image says that it took; None: not reported.

    `seconds` and `peak_memory_bytes` are those of the image, `customization_seconds` and `storage_bytes` those of its
    subject set.
    """

    seconds: float | None = None
    peak_memory_bytes: int | None = None
    customization_seconds: float | None = None
    storage_bytes: int | None = None


@dataclass(frozen=True)
class ImageFile:
    """A file that holds an image: alone, or as one of the `cell`s (0 to 3, row by row) of a 2 x 2 grid."""

    path: Path
    cell: int | None = None
    cost: ReportedCost = ReportedCost()

    @property
    def name(self) -> str:
        """The file's name, with the cell, for messages."""
        return self.path.name if self.cell is None else f"{self.path.name} (cell {self.cell})"

    def read(self) -> Image.Image:
        """The image in RGB, as `read_photograph` reads it; raises UserError as it does."""
        image = read_photograph(self.path, "image")
        return image if self.cell is None else image.crop(cell_box(image.size, self.cell))


def cell_box(size: tuple[int, int], cell: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a cell of a 2 x 2 grid of that width and height."""
    width, height = size[0] // 2, size[1] // 2
    left, top = cell % 2 * width, cell // 2 * height
    return (left, top, left + width, top + height)


def claim(
    found: dict[Slot, ImageFile],
    slot: Slot,
    file: ImageFile,
    requested: RequestedImages,
    left_out: LeftOut,
    where: str = "",
) -> None:
    """Assign a file to a requested image; raises UserError if the image is already assigned or is not requested."""
    prefix = f"{where}: " if where else ""
    if slot[3] >= requested.images:
        if requested.fewer_images:
            left_out.images += 1
            return
        raise UserError(
            f"{prefix}{file.name} is image {slot[3]} of its prompt, but {requested.images} are requested (from 0); "
            "raise --images-per-prompt."
        )
    if slot in found:
        raise UserError(
            f"{prefix}{found[slot].name} and {file.name} are both image {slot[3]} of {slot[1]}, "
            f'"{slot[2]}"; remove or renumber one.'
        )
    found[slot] = file
