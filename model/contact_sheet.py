"""Contact sheets: pictures in labeled rows, for visual checks of data, training and composed images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

INK, GREY, PAPER = (30, 30, 30), (120, 120, 120), (255, 255, 255)
GAP = 6
"""Space around each tile, in pixels."""


@dataclass(frozen=True)
class Tile:
    """A picture with a caption below it; None leaves the tile empty."""

    image: Image.Image | None
    caption: str = ""


def in_rows(tiles: Sequence[Tile], length: int) -> list[Sequence[Tile]]:
    """The tiles in rows of `length` tiles."""
    return [tiles[start : start + length] for start in range(0, len(tiles), length)]


def contact_sheet(rows: Sequence[Sequence[Tile]], side: int = 192, title: str = "") -> Image.Image:
    """The rows of tiles as one RGB picture; each picture is scaled into `side` x `side` pixels without distortion.

    Captions are wrapped to the tile's width and never truncated. Raises ValueError when there is no tile.
    """
    if not any(rows):
        raise ValueError("a contact sheet needs at least one tile")
    small = _font(max(11, side // 16))
    letters = max(8, int(side / small.getlength("n")))
    captions = [["\n".join(wrap(tile.caption, letters)) for tile in row] for row in rows]
    measured = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    width = max(len(row) for row in rows) * (side + GAP) + GAP
    heading = "\n".join(wrap(title, max(8, int((width - 2 * GAP) / small.getlength("n")))))
    top = GAP + _height(measured, [heading], small)
    heights = [side + _height(measured, row, small) + GAP for row in captions]
    sheet = Image.new("RGB", (width, top + sum(heights) + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((GAP, GAP), heading, fill=INK, font=small)
    for row, texts, height in zip(rows, captions, heights, strict=True):
        for column, (tile, text) in enumerate(zip(row, texts, strict=True)):
            left = GAP + column * (side + GAP)
            if tile.image is not None:
                picture = _fitted(tile.image, side)
                sheet.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))
            draw.multiline_text((left, top + side + GAP // 2), text, fill=GREY, font=small)
        top += height
    return sheet


def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that comes with Matplotlib, which covers many languages."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _fitted(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    method = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return image.convert("RGB").resize(size, method)


def _height(draw: ImageDraw.ImageDraw, texts: Sequence[str], font: ImageFont.FreeTypeFont) -> int:
    """Height of the tallest text in pixels, with a gap; 0 if all texts are empty."""
    boxes = [draw.multiline_textbbox((0, 0), text, font=font) for text in texts if text]
    return max((int(box[3]) for box in boxes), default=-GAP) + GAP
