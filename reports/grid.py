"""An image grid of a run: reference photographs on the left, a column per method, a row per subject set and prompt."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from fc_bench.records import RunFolder, write_atomically

RULE = (
    "First image of each prompt category's first prompt; the subject set moves on by one with every row, "
    "from the first set of the suite."
)
GAP, LINE, MARGIN = 6, 14, 8


def write_grid(folder: RunFolder, samples: pd.DataFrame, cell: int = 128) -> Path | None:
    """Write `report/grid.png` of the run's samples (as `Measurements` has them); None when none is finished.

    Rows are chosen by `RULE`, whatever the images look like; `cell` is the side of an image in pixels. An image that
    is missing or failed leaves its place empty.
    """
    rows = _rows(samples)
    if not rows:
        return None
    methods = samples["method"].unique().tolist()
    references = max(len(row["subjects"]) for row in rows)
    font = ImageFont.load_default(size=11)
    width = 2 * MARGIN + (references + len(methods)) * (cell + GAP) - GAP
    height = 2 * MARGIN + LINE + len(rows) * (cell + LINE + GAP)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)

    def left(column: int) -> int:
        return MARGIN + column * (cell + GAP)

    draw.text((left(0), MARGIN), "reference" if references == 1 else "references", "black", font)
    for number, method in enumerate(methods):
        draw.text((left(references + number), MARGIN), method, "black", font)
    for number, row in enumerate(rows):
        top = MARGIN + LINE + number * (cell + LINE + GAP)
        for column, name in enumerate(row["subjects"]):
            with Image.open(folder.reference(name)) as image:
                sheet.paste(_square(image, cell), (left(column), top))
        for column, method in enumerate(methods):
            name = row["images"].get(method)
            if name is not None:
                with Image.open(folder.path / name) as image:
                    sheet.paste(_square(image, cell), (left(references + column), top))
        draw.text((left(0), top + cell), f"{row['prompt']} ({'+'.join(row['subjects'])})", "black", font)
    buffer = BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    path = folder.path / "report" / "grid.png"
    write_atomically(path, buffer.getvalue())
    return path


def _rows(samples: pd.DataFrame) -> list[dict[str, Any]]:
    """What each row shows, by `RULE`, for one subject and then for several."""
    first = samples.loc[samples["index"] == 0]
    rows = []
    for count in sorted(first["subjects"].unique()):
        part = first.loc[first["subjects"] == count]
        sets = part["set"].unique()
        for number, category in enumerate(part["category"].unique()):
            template = part.loc[part["category"] == category, "template"].iloc[0]
            chosen = sets[number % len(sets)]
            same = part.loc[(part["template"] == template) & (part["set"] == chosen)]
            finished = same.loc[same["status"] == "ok"]
            if len(finished):
                images = dict(zip(finished["method"], finished["image"], strict=True))
                rows.append({"subjects": chosen.split("+"), "prompt": same["prompt"].iloc[0], "images": images})
    return rows


def _square(image: Image.Image, side: int) -> Image.Image:
    """The image on a white square of the given side, proportions kept."""
    image = image.convert("RGB")
    scale = side / max(image.size)
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    square = Image.new("RGB", (side, side), "white")
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return square
