"""Speed-up of FastComposer for a new subject, with the published range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.ticker import FuncFormatter, NullFormatter

from fc_bench.cost.amortisation import speed_up
from fc_bench.cost.results import MethodCost
from fc_bench.reports.cost.cells import significant
from fc_bench.reports.figures.style import INK, Drawing, Look, legend_below, new_figure, shortened
from fc_bench.reports.literature import published_speed_up


def speed_ups(fast: MethodCost, others: Sequence[MethodCost], looks: Mapping[str, Look], backbone: str) -> Drawing:
    """The ratio of each tuned method's seconds to FastComposer's, for a new subject's first image and first ten.

    The published range is shown behind it if it applies to this backbone.
    """
    figure = new_figure(4.6, 0.34 * len(others) + 1.25)
    axes = figure.add_subplot()
    claim = published_speed_up()
    claimed = claim.is_of(backbone)
    if claimed:
        axes.axvspan(claim.low, claim.high, color="#E8E8E8", linewidth=0, zorder=0)
        axes.annotate(
            f"published: {claim.words}", (math.sqrt(claim.low * claim.high), 1.02),
            xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=7, color=INK,
        )  # fmt: skip
    handles: dict[str, Any] = {}
    for number, cost in enumerate(others):
        look = looks[cost.method]
        for images, shift, hollow in ((1, -0.14, False), (10, 0.14, True)):
            found = speed_up(fast, cost, images)
            if found is None:
                continue
            if found.low is not None and found.high is not None:
                axes.plot([found.low, found.high], [number + shift] * 2, color=look.color, linewidth=0.9)
            axes.plot([found.value], [number + shift], **replace(look, hollow=hollow).markers(), linestyle="none")
            axes.annotate(
                f"{significant(found.value)}x", (found.value + found.above, number + shift), xytext=(6, 0),
                textcoords="offset points", va="center", fontsize=6.5, color=INK,
            )  # fmt: skip
    for name, hollow in (("first image", False), ("first ten images", True)):
        (handles[name],) = axes.plot([], [], **Look(INK, "o", hollow=hollow).markers(), linestyle="none")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}x" if value >= 1 else f"{value:g}x"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.12)
    axes.set_yticks(range(len(others)), [shortened(cost.method) for cost in others])
    axes.set_ylim(len(others) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    axes.set_xlabel(f"times the seconds of {fast.method}")
    legend_below(figure, handles)
    where = (
        f"Grey: the published {claim.words} ({claim.source}: {claim.of}, against {claim.against}), on other hardware."
        if claimed
        else f"The published {claim.words} is of Stable Diffusion v1.5 and does not apply to this backbone."
    )
    return Drawing(
        "speed-up",
        f"Speed-up of {fast.method}",
        f"Seconds to customize to a new subject and draw its first images, over those of {fast.method}; neither "
        f"loading nor class images are counted. Lines are 95 % intervals. {where}",
        figure,
    )
