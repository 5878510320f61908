"""The pictures of a page: links to the files of a run, or small copies inside the page."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal
from urllib.parse import quote_from_bytes

from PIL import Image

from fc_bench.errors import UserError
from fc_bench.suites.photographs import UNREADABLE

Images = Literal["link", "embed"]

BUDGET_BYTES = 48 * 2**20
"""Largest size of all pictures inside one page, as text; a browser opens such a page from disk in a second or two."""
SIDES = (1024, 768, 512, 384, 256, 192, 128, 96)
"""Longest sides (pixels) of embedded pictures; the largest that keeps the budget is used."""
QUALITY = 82
PROBES = 24
"""Number of evenly spaced pictures that estimate the bytes of a side before everything is encoded."""


@dataclass(frozen=True)
class Picture:
    """The relative or data address of a picture (None: no picture), and its size in pixels."""

    address: str | None
    width: int | None
    height: int | None


@dataclass(frozen=True)
class Gallery:
    """The pictures in the order of the request; `side` is the largest side of embedded ones."""

    pictures: tuple[Picture, ...]
    side: int | None = None


NO_PICTURE = Picture(None, None, None)


def linked(paths: Sequence[Path | None], page: Path) -> Gallery:
    """Addresses relative to the page; None for a file that is missing or unreadable."""
    return Gallery(tuple(_linked(path, page) for path in paths))


def embedded(paths: Sequence[Path | None], budget: int = BUDGET_BYTES) -> Gallery:
    """WebP copies inside the page, as large as the budget (bytes of text) allows.

    Raises UserError if they do not fit even at the smallest side.
    """
    there = [path for path in paths if path is not None and _size(path) is not None]
    probes = there[:: max(1, len(there) // PROBES)][:PROBES]
    for side in SIDES:
        expected = sum(len(address or "") for address in _encoded(probes, side)) / max(1, len(probes)) * len(there)
        if expected > budget:
            continue
        pictures = tuple(_embedded(paths, side))
        if sum(len(picture.address or "") for picture in pictures) <= budget:
            return Gallery(pictures, side)
    raise UserError(
        f"{len(there)} images do not fit into a page of {budget // 2**20} MiB, even at {SIDES[-1]} pixels; "
        "use --images link."
    )


def _linked(path: Path | None, page: Path) -> Picture:
    size = _size(path) if path is not None else None
    if path is None or size is None:
        return NO_PICTURE
    relative = os.path.relpath(path, page.parent)
    return Picture(quote_from_bytes(os.fsencode(Path(relative).as_posix())), *size)


def _embedded(paths: Sequence[Path | None], side: int) -> Iterable[Picture]:
    sizes = [_size(path) if path is not None else None for path in paths]
    there = [path for path, size in zip(paths, sizes, strict=True) if path is not None and size is not None]
    addresses = iter(_encoded(there, side))
    for size in sizes:
        address = next(addresses) if size is not None else None
        yield Picture(address, *size) if size is not None and address is not None else NO_PICTURE


def _encoded(paths: Sequence[Path], side: int) -> list[str | None]:
    """Data addresses, in order, None for damaged files; the library encodes outside Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda path: _data_address(path, side), paths))


def _data_address(path: Path, side: int) -> str | None:
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
    except UNREADABLE:
        return None
    if max(small.size) > side:
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    small.save(buffer, "WEBP", quality=QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height from the file's header; None if it is not a readable image."""
    try:
        with Image.open(path) as image:
            return image.size
    except UNREADABLE:
        return None
