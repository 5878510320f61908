"""A folder in a layout, read: which image belongs to which request of a suite."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from fc_bench.errors import UserError
from fc_bench.layouts.layout import Layout
from fc_bench.layouts.requested import CELLS, ImageFile, LeftOut, RequestedImages, Slot, claim
from fc_bench.model.pictures import UNREADABLE, image_files
from fc_bench.suites.photographs import SMALLEST_SIDE
from fc_bench.suites.suite import Suite

_CHOOSE = "choose the suite that the images were made for"


def read_layout(
    layout: Layout, folder: Path, suite: Suite, requested: RequestedImages, label: str
) -> tuple[dict[Slot, ImageFile], LeftOut]:
    """Images in a layout, and what is left out of the folder.

    Names count all prompts of the suite, also those that are not requested. Raises UserError if no name fits the
    suite, if the folder says that an image has another prompt, or if a grid is none.
    """
    items = layout.named(suite)
    found: dict[Slot, ImageFile] = {}
    left_out = LeftOut()
    beyond = ""
    grids: list[Path] = []
    files: list[Path] = []
    matches: list[re.Match[str]] = []
    for file in _images_in(folder, below="/" in layout.expects):
        name = file.relative_to(folder).with_suffix("").as_posix()
        if (match := layout.pattern.fullmatch(name)) is not None:
            files.append(file)
            matches.append(match)
        else:
            left_out.strangers += not (layout.accompanying and layout.accompanying.fullmatch(name))
    for file, match in zip(files, matches, strict=True):
        shown, item = file.relative_to(folder).as_posix(), items.get(match["item"])
        if item is None:
            unknown = layout.unknown(shown, match, suite, len(items))
            if unknown.refused:
                raise UserError(f"{unknown.text}; {_CHOOSE}.")
            beyond = unknown.text
            left_out.sets += 1
            continue
        key = item.subject_set.key
        if key not in requested.keys:
            beyond = f"{shown} belongs to {key}, which is not requested"
            left_out.sets += 1
            continue
        if other := layout.contradiction(folder, file, match, item):
            raise UserError(
                f'{shown} is of the prompt "{other}", but the suite has "{item.text}" in its place; {_CHOOSE}.'
            )
        index = int(match["image"]) if "image" in layout.pattern.groupindex else 0
        if layout.grids:
            grids.append(file)
            for cell in range(CELLS):
                slot = (label, key, item.prompt.template, cell)
                claim(found, slot, ImageFile(file, cell), requested, left_out)
        else:
            claim(found, (label, key, item.prompt.template, index), ImageFile(file), requested, left_out)
    if not found and beyond:
        raise UserError(f"{beyond}, and the folder has no other image; {_CHOOSE}.")
    if not found:
        raise UserError(
            f"No image in {folder} has a name like {layout.expects.partition(',')[0]}; rename them or describe them in "
            "a file for --manifest."
        )
    _refuse_other_grids(folder, grids)
    left_out.refused_count = layout.refused_count(folder, len(files), len(items))
    return found, left_out


def _refuse_other_grids(folder: Path, files: Sequence[Path]) -> None:
    """Raise UserError for a file that cannot be a grid; unreadable files fail later, each alone."""
    first: tuple[Path, tuple[int, int]] | None = None
    for file in files:
        try:
            with Image.open(file) as image:
                width, height = image.size
        except UNREADABLE:
            continue
        name = file.relative_to(folder).as_posix()
        if width % 2 or height % 2 or min(width, height) < 2 * SMALLEST_SIDE:
            raise UserError(
                f"{name} is {width} x {height} pixels, which is no 2 x 2 grid of images of equal size of at least "
                f"{SMALLEST_SIDE} pixels; put the four images of a prompt into one file, row by row."
            )
        first = first or (file, (width, height))
        if first[1] != (width, height):
            raise UserError(
                f"{name} is {width} x {height} pixels, but {first[0].relative_to(folder).as_posix()} is "
                f"{first[1][0]} x {first[1][1]}; give all grids the same size, four images each."
            )


def _images_in(folder: Path, below: bool) -> Iterator[Path]:
    try:
        yield from sorted(image_files(folder, below))
    except OSError as error:
        raise UserError(f"The folder of images {folder} cannot be read ({error.strerror}); make it readable.") from None
