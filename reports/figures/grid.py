"""Image grids: references on top, methods down, prompts across, chosen by a rule that the caption names."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from PIL import Image

from fc_bench.analysis.aggregate import Row
from fc_bench.analysis.measurements import rows_of
from fc_bench.errors import UserError
from fc_bench.model.yaml_file import nearest
from fc_bench.reports.figures.material import Choice, Material
from fc_bench.reports.figures.style import GREY, INK, Drawing, in_lines, new_figure, shortened
from fc_bench.suites.photographs import UNREADABLE

RULE = (
    "First image of each prompt category's first prompt; the subject set moves on by one with every column, from the "
    "first set of the suite."
)
GAP = 0.05
"""Gap between cells, in cells."""
LARGEST = 512
"""Largest side in pixels; images are reduced to it before they are drawn."""


@dataclass(frozen=True)
class Shown:
    """One column: the first image of a prompt for a set of subjects."""

    key: str
    template: str
    prompt: str

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects in the set `key`."""
        return self.key.split("+")


def draw_grid(material: Material) -> list[Drawing]:
    """One grid; if the runs have no images, none, and a sentence says why."""
    shown = shown_of(material.samples, material.choice)
    first = material.samples.loc[material.samples["index"] == 0]
    wanted = {(column.key, column.template) for column in shown}
    requested_samples = zip(first["set"], first["template"], strict=True)
    rows = rows_of(
        first.loc[np.fromiter((question in wanted for question in requested_samples), dtype=bool, count=len(first))]
    )
    found = {(row["label"], row["set"], row["template"]): row for row in rows}
    cells = {
        (label, place): found[label, column.key, column.template]
        for label in material.labels
        for place, column in enumerate(shown)
        if (label, column.key, column.template) in found
    }
    if not any(row["status"] == "ok" for row in cells.values()):
        return []
    if not any(material.image(row) for row in cells.values()):
        names = ", ".join(str(run.folder.path) for run in material.runs)
        material.tell(f"The image grid is left out: the images of {names} are missing, only their records exist.")
        return []
    return [_drawing(material, shown, cells)]


def shown_of(samples: pd.DataFrame, choice: Choice) -> list[Shown]:
    """The chosen columns; raises UserError for a subject set without samples."""
    known = list(samples["set"].unique())
    for name in choice.sets:
        if name not in known:
            raise UserError(f'The runs have no samples of the subjects "{name}", {nearest(name, known)}')
    chosen = random.Random(choice.seed) if choice.seed is not None else None
    columns = []
    for size in sorted(samples["subjects"].unique().tolist()):
        part = samples.loc[(samples["subjects"] == size) & (samples["index"] == 0)]
        part = part[["set", "category", "template", "prompt"]].drop_duplicates()
        sets = list(part["set"].unique())
        templates: dict[str, list[str]] = {}
        for category, template in part[["category", "template"]].drop_duplicates().itertuples(index=False, name=None):
            own = templates.setdefault(category, [])
            if template not in own:
                own.append(template)
        texts = {(key, template): text for key, _, template, text in part.itertuples(index=False, name=None)}
        if choice.sets:
            pairs = [(name, own[0]) for name in choice.sets if name in sets for own in templates.values()]
        elif chosen is not None:
            pairs = [(chosen.choice(sets), chosen.choice(own)) for own in templates.values()]
        else:
            pairs = [(sets[number % len(sets)], own[0]) for number, own in enumerate(templates.values())]
        columns += [Shown(name, text, texts[name, text]) for name, text in pairs if (name, text) in texts]
    return columns


def how(choice: Choice) -> str:
    """How the samples were chosen, in a sentence."""
    if choice.sets:
        return (
            f"Chosen: the subjects {', '.join(choice.sets)}, each with the first image of every prompt category's "
            "first prompt."
        )
    if choice.seed is not None:
        return f"Drawn at random with the seed {choice.seed}: a prompt of every category, a set of subjects for each."
    return f"Chosen by rule, whatever the images look like: {RULE[0].lower()}{RULE[1:]}"


def _drawing(material: Material, shown: Sequence[Shown], cells: dict[tuple[str, int], Row]) -> Drawing:
    labels = [label for label in material.labels if any(own == label for own, _ in cells)]
    side, left, above, below = 0.92, 1.15, 0.2, 0.62
    wide, high = left + side * len(shown), above + side * (len(labels) + 1) + below
    figure = new_figure(wide, high)
    figure.set_layout_engine("none")
    axes = figure.add_axes((left / wide, below / high, 1 - left / wide, 1 - (above + below) / high))
    axes.set_xlim(0, len(shown))
    axes.set_ylim(len(labels) + 1, 0)
    axes.axis("off")
    first = {place: next(row for (_, own), row in cells.items() if own == place) for place in {p for _, p in cells}}
    for place, column in enumerate(shown):
        axes.text(place + 0.5, -0.04, shortened(column.key, 16), ha="center", va="bottom", fontsize=7, color=INK)
        text = "\n".join(shortened(line, 22) for line in wrap(column.prompt, 19, max_lines=4, placeholder=" …"))
        axes.text(place + 0.5, len(labels) + 1.05, text, ha="center", va="top", fontsize=6.2, color=INK)
        _references(axes, material, first[place], column, place)
        for number, label in enumerate(labels, start=1):
            _cell(axes, material, cells.get((label, place)), place, number)
    for number, label in enumerate(["reference", *labels]):
        axes.text(-0.06, number + 0.5, in_lines(label), ha="right", va="center", fontsize=7, color=INK)
    caption = f"References on top, methods down, prompts across. {how(material.choice)}"
    return Drawing("grid", "Images", caption, figure)


def _references(axes: Axes, material: Material, sample: Row, column: Shown, place: int) -> None:
    """The references of a column's subjects, side by side in one cell."""
    for number, name in enumerate(column.subjects):
        share = 1 / len(column.subjects)
        box = (place + number * share, 0.0, share, 1.0)
        file = material.reference(sample, name)
        if file is None:
            _note(axes, box, "no\nreference")
        else:
            _picture(axes, file, box)


def _cell(axes: Axes, material: Material, row: Row | None, place: int, line: int) -> None:
    box = (float(place), float(line), 1.0, 1.0)
    if row is None:
        _note(axes, box, "not requested")
    elif row["status"] != "ok":
        _note(axes, box, "failed" if row["status"] == "error" else "not yet")
    elif (file := material.image(row)) is None:
        _note(axes, box, "image\nis gone")
    else:
        _picture(axes, file, box)


def _picture(axes: Axes, file: Path, box: tuple[float, float, float, float]) -> None:
    """An image in its box (left, top, width, height in cells), with its proportions."""
    try:
        with Image.open(file) as image:
            image.thumbnail((LARGEST, LARGEST))
            pixels = np.asarray(image.convert("RGB"))
    except UNREADABLE:
        _note(axes, box, "cannot\nbe read")
        return
    left, top, width, height = (box[0] + GAP / 2, box[1] + GAP / 2, box[2] - GAP, box[3] - GAP)
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    wide, high = pixels.shape[1] * scale, pixels.shape[0] * scale
    x, y = left + (width - wide) / 2, top + (height - high) / 2
    axes.imshow(pixels, extent=(x, x + wide, y + high, y), aspect="auto", gid=file.name)
    axes.set_autoscale_on(False)


def _note(axes: Axes, box: tuple[float, float, float, float], text: str) -> None:
    axes.text(box[0] + box[2] / 2, box[1] + 0.5, text, ha="center", va="center", fontsize=6.5, color=GREY)
