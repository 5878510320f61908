"""Cross-attention of each subject's token, over the generated image."""

from __future__ import annotations

from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from fc_bench.analysis.aggregate import Row
from fc_bench.analysis.measurements import rows_of
from fc_bench.reports.figures.material import Material
from fc_bench.reports.figures.style import INK, Drawing, in_lines, new_figure, shortened
from fc_bench.run_folder.records import unpacked_maps
from fc_bench.suites.photographs import UNREADABLE

ROWS_A_METHOD = 2
"""Number of samples shown per method."""
RULE = (
    "Of each method, the first image that has maps of the largest and of the smallest sets of subjects, in the order "
    "of the plan, whatever it looks like."
)


def draw_attention(material: Material) -> list[Drawing]:
    """One drawing with a row per sample; none if no sample has maps (`attention` in its record)."""
    rows = []
    for row in _chosen(material):
        pixels, problem = _pixels(material, row)
        maps, problem = (None, problem) if pixels is None else read_maps(material, row)
        if maps is None or pixels is None:
            material.tell(f"The cross-attention of {row['label']} on {row['set']} is left out: {problem}.")
        else:
            rows.append((row, pixels, maps))
    return [_drawing(rows)] if rows else []


def read_maps(material: Material, row: Row) -> tuple[np.ndarray | None, str]:
    """Maps [subjects, height, width] of a sample, each non-negative with the sum 1, or the reason for their absence."""
    path = row["attention"]
    try:
        path = material.run(row).folder.within(path)
        maps = unpacked_maps(path).astype(np.float64)
    except Exception as error:  # damaged bytes make the reader raise whatever it stumbles over
        return None, f"{path} cannot be read ({error})"
    if maps.ndim != 3 or len(maps) != row["subjects"] or not maps.size:
        return None, f"{path} has maps of the shape {list(maps.shape)} for {row['subjects']} subjects"
    sums = maps.sum(axis=(1, 2))
    if not np.isfinite(maps).all() or (maps < 0).any() or not np.allclose(sums, 1, atol=1e-3):
        return None, f"{path} has maps that are negative or do not sum to 1"
    return maps, ""


def _chosen(material: Material) -> list[Row]:
    having = material.samples.loc[(material.samples["status"] == "ok") & material.samples["attention"].notna()]
    rows: list[Row] = []
    for label in material.labels:
        own = having.loc[having["label"] == label]
        sizes = sorted(own["subjects"].unique().tolist())
        for size in dict.fromkeys([*sizes[-1:], *sizes[:1]]):
            rows += rows_of(own.loc[own["subjects"] == size].head(ROWS_A_METHOD if len(sizes) == 1 else 1))
    return rows


def _drawing(rows: list[tuple[Row, np.ndarray, np.ndarray]]) -> Drawing:
    across = 1 + max(len(maps) for *_, maps in rows)
    figure = new_figure(0.3 + 1.35 * across, 1.7 * len(rows))
    for number, (row, pixels, maps) in enumerate(rows):
        axes = figure.add_subplot(len(rows), across, number * across + 1)
        _bare(axes, pixels, "\n".join(wrap(row["prompt"], 26, max_lines=2, placeholder=" …")))
        axes.set_ylabel(in_lines(row["label"]), fontsize=7)
        for place, (name, shares) in enumerate(zip(row["set"].split("+"), maps, strict=True)):
            axes = figure.add_subplot(len(rows), across, number * across + 2 + place)
            grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2) / 255
            _bare(axes, grey, shortened(name, 20))
            extent = (-0.5, pixels.shape[1] - 0.5, pixels.shape[0] - 0.5, -0.5)
            weight = shares / shares.max()
            axes.imshow(weight, cmap="viridis", alpha=0.65, extent=extent, interpolation="bilinear", vmin=0, vmax=1)
    return Drawing(
        "attention",
        "Cross-attention of the subjects' tokens",
        "Where each subject's token is looked at, averaged as the run recorded it, over the image in grey; each map is "
        f"shaded from 0 to its own largest value (yellow). {RULE}",
        figure,
    )


def _pixels(material: Material, row: Row) -> tuple[np.ndarray | None, str]:
    """The sample's image, or the reason for its absence."""
    path = material.image(row)
    if path is None:
        return None, "its image is not there"
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), dtype=np.float64), ""
    except UNREADABLE as error:
        return None, f"{path} cannot be read ({error})"


def _bare(axes: Axes, pixels: np.ndarray, title: str) -> None:
    axes.imshow(pixels if pixels.max() <= 1 else pixels / 255)
    axes.set_title(title, fontsize=6.5, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
