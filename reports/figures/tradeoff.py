"""Identity against prompt consistency, one point per method with both intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from fc_bench.analysis.aggregate import OVERALL, Row
from fc_bench.reports.figures.material import Material
from fc_bench.reports.figures.style import Drawing, Look, error, legend_below, new_figure, rules
from fc_bench.reports.frame import who

X, Y = "prompt_consistency", "identity"


def draw_tradeoff(material: Material) -> list[Drawing]:
    """A drawing for each number of subjects that has a method with both measures."""
    drawings = []
    for subjects in material.sizes:
        points = points_of(material.part(subjects, X), material.part(subjects, Y))
        if points:
            drawings.append(_drawing(material, points, subjects))
    return drawings


def points_of(x: Sequence[Row], y: Sequence[Row]) -> dict[str, tuple[Row, Row]]:
    """Label -> its rows of both columns, of labels that have both."""
    across = {row["label"]: row for row in x}
    return {row["label"]: (across[row["label"]], row) for row in y if row["label"] in across}


def plot_points(axes: Axes, points: Mapping[str, tuple[Row, Row]], styles: Mapping[str, Look]) -> dict[str, Any]:
    """Each label's point with its intervals; label -> handle of the legend."""
    handles: dict[str, Any] = {}
    for label, (x, y) in points.items():
        look = styles[label]
        axes.errorbar(x["mean"], y["mean"], error(y), error(x), fmt="none", ecolor=look.color, elinewidth=0.9)
    for label, (x, y) in points.items():
        (handles[label],) = axes.plot([x["mean"]], [y["mean"]], **styles[label].markers(), linestyle="none")
    return handles


def _drawing(material: Material, points: Mapping[str, tuple[Row, Row]], subjects: int) -> Drawing:
    figure = new_figure(3.9, 3.2)
    axes = figure.add_subplot()
    handles = plot_points(axes, points, material.looks)
    levels: dict[str, list[float]] = {}
    for row in material.rows:
        anchor = (row["subjects"], row["kind"], row["column"], row["category"]) == (subjects, "anchor", Y, OVERALL)
        if anchor and row["mean"] is not None:
            levels.setdefault(row["method"], []).append(row["mean"])
    for name, heights in levels.items():
        rules(axes, heights, name)
    names = [material.column(name) for name in (X, Y)]
    axes.set_xlabel(" ".join(material.title(column) for column in names[:1] if column))
    axes.set_ylabel(" ".join(material.title(column) for column in names[1:] if column))
    axes.grid(True)
    legend_below(figure, {material.named(label, subjects): handle for label, handle in handles.items()})
    return Drawing(
        f"tradeoff-{subjects}",
        f"Identity against prompt consistency, {who(subjects)}",
        "Means over the subjects (or sets of subjects) with their 95 % intervals; up and right is better. Dotted: "
        "identity of other photographs of the same people (ceiling) and of other people (floor). A point without a "
        "bar rests on too few independent observations for an interval." + material.warning(subjects),
        figure,
    )
