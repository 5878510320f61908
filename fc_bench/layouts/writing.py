"""A method's images written in a layout."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from fc_bench.errors import UserError
from fc_bench.layouts.layout import Item, Layout, Photographs, Written
from fc_bench.layouts.requested import CELLS, cell_box
from fc_bench.suites.photographs import read_photograph
from fc_bench.suites.suite import Suite

Place = tuple[str, str, int]
"""An image of a method: subject set, prompt template, index."""


@dataclass(frozen=True)
class Exported:
    """What was written: the number of images, and of planned images for which the layout has no place.

    `missing` are planned images that the run does not have, `grids` those of grids that are left out because another
    image of theirs is missing or has another size.
    """

    images: int
    beyond: int
    missing: tuple[Place, ...]
    grids: tuple[Place, ...]


def write_layout(
    layout: Layout, suite: Suite, images: Mapping[Place, Path | None], photographs: Photographs, out: Path
) -> Exported:
    """Write a method's planned images (None: missing) into a folder that is new or empty, all or nothing.

    Raises UserError before anything is written if the folder holds something or the layout has no place for the
    suite's images.
    """
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise UserError(f"{out} already exists; delete it or name another folder with --out.")
    items = {(item.subject_set.key, item.prompt.template): item for item in layout.named(suite).values()}
    places = CELLS if layout.grids else layout.images
    if layout.grids:
        most = max((index for _, _, index in images), default=-1) + 1
        if most < CELLS:
            raise UserError(
                f"The layout {layout.name} puts {CELLS} images of each prompt into one file, but the run has {most}; "
                f"run it with --images-per-prompt {CELLS}."
            )
    planned = {place: path for place, path in images.items() if places is None or place[2] < places}
    missing = tuple(place for place, path in planned.items() if path is None)
    there = {place: path for place, path in planned.items() if path is not None}
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        if layout.grids:
            written, grids = _write_grids(layout, items, there, partial)
        else:
            written, grids = [_write_image(layout, items, place, path, partial) for place, path in there.items()], ()
        for beside in layout.beside(written, photographs):
            if isinstance(beside.content, bytes):
                _write(partial / beside.file, beside.content)
            else:
                _save(layout, read_photograph(beside.content), partial / f"{beside.file}{layout.suffix}")
        if out.is_dir():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error}); make room or name another.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported(len(written), len(images) - len(planned), missing, tuple(grids))


def _write_image(layout: Layout, items: Mapping[tuple[str, str], Item], place: Place, path: Path, out: Path) -> Written:
    """Write an image: PNG files of the run are copied as they are."""
    item, index = items[place[:2]], place[2]
    name = layout.image_name(item, index)
    target = out / f"{name}{layout.suffix}"
    if layout.jpeg:
        _save(layout, read_photograph(path, "image"), target)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return Written(item, index, name, None)


def _write_grids(
    layout: Layout, items: Mapping[tuple[str, str], Item], images: Mapping[Place, Path], out: Path
) -> tuple[list[Written], list[Place]]:
    """Write the grids that are complete; returns what was written, and the images of the other grids."""
    written: list[Written] = []
    left_out: list[Place] = []
    for item in items.values():
        cells = [(item.subject_set.key, item.prompt.template, index) for index in range(CELLS)]
        own = [read_photograph(images[cell], "image") for cell in cells if cell in images]
        if len(own) < CELLS or len({image.size for image in own}) > 1:
            left_out += [cell for cell in cells if cell in images]
            continue
        width, height = own[0].size
        grid = Image.new("RGB", (2 * width, 2 * height))
        name = layout.image_name(item, 0)
        for cell, image in enumerate(own):
            grid.paste(image, cell_box(grid.size, cell))
            written.append(Written(item, cell, name, cell))
        _save(layout, grid, out / f"{name}{layout.suffix}")
    return written, left_out


def _save(layout: Layout, image: Image.Image, file: Path) -> None:
    """Write an image as PNG, or as JPEG of the best quality with whole color."""
    buffer = BytesIO()
    if layout.jpeg:
        image.save(buffer, format="JPEG", quality=100, subsampling="4:4:4")
    else:
        image.save(buffer, format="PNG")
    _write(file, buffer.getvalue())


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def described(places: Sequence[Place]) -> Iterator[str]:
    """A line for each place."""
    for key, template, index in places:
        yield f'{key}, "{template}", image {index}'
