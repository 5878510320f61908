"""Identity against prompt consistency, a point a method with both intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from fc_bench.aggregate import OVERALL, Row
from fc_bench.reports.figures.style import Drawing, Look, error, legend_below, looks, new_figure, rule
from fc_bench.reports.frame import Run, rows

X, Y = "prompt_consistency", "identity"


def draw_tradeoff(runs: Sequence[Run]) -> list[Drawing]:
    """A drawing for each number of subjects that has a method with both measures."""
    everything = rows(runs)
    styles = looks([row["label"] for row in everything if row["kind"] == "method"])
    embedder = runs[0].settings["metrics"].get("identity", {}).get("embedder")
    drawings = []
    for subjects in sorted({row["subjects"] for row in everything}):
        part = [row for row in everything if row["subjects"] == subjects and row["category"] == OVERALL]
        points = points_of(part)
        if points:
            anchors = [row for row in part if row["kind"] == "anchor" and row["column"] == Y]
            drawings.append(_drawing(points, anchors, styles, subjects, embedder))
    return drawings


def points_of(part: Sequence[Row]) -> dict[str, tuple[Row, Row]]:
    """Label -> its rows of prompt consistency and identity, of methods that have both."""
    found = {(row["label"], row["column"]): row for row in part if row["kind"] == "method" and row["mean"] is not None}
    return {
        label: (found[label, X], found[label, Y])
        for label in dict.fromkeys(row["label"] for row in part)
        if (label, X) in found and (label, Y) in found
    }


def plot_points(axes: Axes, points: Mapping[str, tuple[Row, Row]], styles: Mapping[str, Look]) -> dict[str, object]:
    """Each label's point with its intervals; label -> what stands for it in the legend."""
    handles: dict[str, object] = {}
    for label, (x, y) in points.items():
        look = styles[label]
        axes.errorbar(x["mean"], y["mean"], error(y), error(x), fmt="none", ecolor=look.color, elinewidth=0.9)
        (handles[label],) = axes.plot([x["mean"]], [y["mean"]], **look.markers(), linestyle="none", label=label)
    return handles


def _drawing(
    points: Mapping[str, tuple[Row, Row]],
    anchors: Sequence[Row],
    styles: Mapping[str, Look],
    subjects: int,
    embedder: str | None,
) -> Drawing:
    figure = new_figure(3.9, 3.7)
    axes = figure.add_subplot()
    handles = plot_points(axes, points, styles)
    for row in anchors:
        if row["mean"] is not None:
            rule(axes, row["mean"], row["label"].partition(" (")[0])
    axes.set_xlabel("prompt consistency (CLIP cosine)")
    axes.set_ylabel("identity" + (f" ({embedder})" if embedder else ""))
    axes.grid(True)
    legend_below(figure, handles)
    who = "one subject" if subjects == 1 else f"{subjects} subjects together"
    return Drawing(
        f"tradeoff-{subjects}",
        f"Identity against prompt consistency, {who}",
        "Means over the subjects (or sets of subjects) with their 95 % intervals; up and right is better. Dotted: "
        "identity of other photographs of the same people (ceiling) and of somebody else (floor). A point without a "
        "bar rests on too few independent observations for an interval.",
        figure,
    )
