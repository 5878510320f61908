"""An image grid of a run: reference photographs on the left, a column per method, a row per subject set and prompt."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from fc_bench.records import RunFolder, write_atomically

RULE = (
    "First image of each prompt category's first prompt; the subject set moves on by one with every row, "
    "from the first set of the suite."
)
GAP, LINE, MARGIN = 6, 14, 8


def write_grid(folder: RunFolder, cell: int = 128) -> Path | None:
    """Write `report/grid.png`; None when there is no image (a kept run may be records alone).

    Rows are chosen by `RULE`, whatever the images look like; `cell` is the side of an image in pixels. An image that
    is missing or failed leaves its place empty.
    """
    rows = _rows(folder)
    if not rows:
        return None
    methods = list(dict.fromkeys(record["method"] for record in folder.planned().values()))
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
            if folder.reference(name).is_file():
                with Image.open(folder.reference(name)) as image:
                    sheet.paste(_square(image, cell), (left(column), top))
        for column, method in enumerate(methods):
            record = row["records"].get(method)
            if record is not None:
                with Image.open(folder.image(record)) as image:
                    sheet.paste(_square(image, cell), (left(references + column), top))
        draw.text((left(0), top + cell), f"{row['prompt']} ({'+'.join(row['subjects'])})", "black", font)
    buffer = BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    path = folder.path / "report" / "grid.png"
    write_atomically(path, buffer.getvalue())
    return path


def _rows(folder: RunFolder) -> list[dict[str, Any]]:
    """What each row shows, by `RULE`, for one subject and then for several."""
    planned = list(folder.planned().values())
    finished = folder.samples()
    rows = []
    for count in sorted({len(record["subjects"]) for record in planned}):
        part = [record for record in planned if len(record["subjects"]) == count and record["index"] == 0]
        sets = list(dict.fromkeys(tuple(record["subjects"]) for record in part))
        for number, category in enumerate(dict.fromkeys(record["category"] for record in part)):
            template = next(record["template"] for record in part if record["category"] == category)
            chosen = sets[number % len(sets)]
            same = [record for record in part if record["template"] == template and tuple(record["subjects"]) == chosen]
            records = {
                record["method"]: finished[record["id"]]
                for record in same
                if _is_there(folder, finished.get(record["id"]))
            }
            if records:
                rows.append({"subjects": chosen, "prompt": same[0]["prompt"], "records": records})
    return rows


def _is_there(folder: RunFolder, record: Mapping[str, Any] | None) -> bool:
    return record is not None and record["status"] == "ok" and folder.image(record).is_file()


def _square(image: Image.Image, side: int) -> Image.Image:
    """The image on a white square of the given side, proportions kept."""
    image = image.convert("RGB")
    scale = side / max(image.size)
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    square = Image.new("RGB", (side, side), "white")
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return square
