"""The figure of a metric card: what each level of each factor costs, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from fc_bench.audit.card import Card, LevelEffect
from fc_bench.reports.audit.cards import main_columns
from fc_bench.reports.figures.style import COLORS, GREY, INK, Drawing, legend_below, new_figure, shortened, styled

LINE = 0.135
"""Height of a level in inches."""


def effects_figure(card: Card) -> Drawing | None:
    """What levels cost in the metric's main column; None without a scale."""
    column = next(iter(main_columns(card)), None)
    if column is None:
        return None
    judged = {"what a request did not want": column.faults, "what ought not to matter": column.nuisances}
    measured = {title: [one for one in own if one.cost is not None] for title, own in judged.items()}
    panels = [(title, own) for title, own in measured.items() if own]
    if not panels:
        return None
    with styled():
        height = max(len(effects) for _, effects in panels) * LINE + 1.1
        figure = new_figure(3.6 * len(panels), height)
        handles: dict[str, Any] = {}
        for number, (title, effects) in enumerate(panels, start=1):
            axes = figure.add_subplot(1, len(panels), number)
            handles |= _panel(axes, effects)
            axes.set_title(title)
        legend_below(figure, handles)
    caption = (
        f"Cost as part of the scale of {column.column.title} (full marks minus floor) with 95 % intervals over people; "
        "0 is no effect, 1 what the floor costs."
    )
    return Drawing(f"effects-{card.metric}", f"{card.metric}: effects of all factors", caption, figure)


def _panel(axes: Axes, effects: Sequence[LevelEffect]) -> dict[str, Any]:
    handles: dict[str, Any] = {}
    axes.axvline(0, color=GREY, linewidth=0.7)
    axes.axvline(1, color=GREY, linewidth=0.7, linestyle=(0, (1, 2)))
    for row, one in enumerate(effects):
        color = COLORS[one.subjects - 1]
        if one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [row, row], color=color, linewidth=1.0)
        (point,) = axes.plot([one.cost or 0.0], [row], "o", color=color, markersize=3.2, markeredgewidth=0)
        handles.setdefault(f"{one.subjects} subject{'s' * (one.subjects > 1)}", point)
    names = [shortened(f"{one.level.factor}: {one.level.name}", 50) for one in effects]
    axes.set_yticks(range(len(effects)), names, fontsize=6)
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    axes.set_xlabel("cost, part of the scale", color=INK)
    return handles
