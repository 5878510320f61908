"""Amortized cost: seconds for n images of one subject, from measured or recorded costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from fc_bench.cost.amortisation import BreakEven, break_even, preparation, seconds_per_image
from fc_bench.cost.figures import Figure
from fc_bench.cost.results import MethodCost
from fc_bench.reports.cost.cells import in_images
from fc_bench.reports.figures.material import Material
from fc_bench.reports.figures.style import INK, Drawing, Look, legend_below, log_axes, new_figure
from fc_bench.reports.frame import incomparable_costs

MOST_IMAGES, FARTHEST = 10_000, 1_000_000
"""Shortest axis, and longest axis for distant break-even points, in images."""
RECORDED = (
    "the mean over the subjects of loading the method and customizing it, spread over the images, and the median of "
    "generating one, as the run recorded them while it made its images."
)
MEASURED = (
    "loading the method and customizing it, spread over the images, and drawing one, each measured alone in a process "
    "of its own; bands are 95 % intervals."
)


def draw_amortised(material: Material) -> list[Drawing]:
    """Seconds per image against their number, of single subjects (or of the smallest sets)."""
    reasons = incomparable_costs(material.runs)
    for column in ("customize_seconds", "image_seconds"):
        if column in reasons:
            material.tell(f"The amortised cost is left out: times do not compare ({reasons[column]}).")
            return []
    for size in material.sizes[:1]:
        costs = recorded_costs(material, size)
        if len(costs) > 1:
            return [amortised(costs, material.looks, RECORDED, size)]
    return []


def recorded_costs(material: Material, subjects: int) -> list[MethodCost]:
    """The recorded costs of a quality run's methods whose customizations and images were timed."""
    images = {row["label"]: row["mean"] for row in material.part(subjects, "image_seconds")}
    blind = material.blind()
    found = []
    for run in material.runs:
        for label in images:
            sets = set(material.of(label, subjects)["set"].unique())
            recorded = {method for name, method, own in material.methods if (own, name) == (label, run.name)}
            done = [
                job
                for (method, name), job in run.jobs.items()
                if method in recorded and name in sets and job["status"] == "ok" and job["seconds"] is not None
            ]
            if done and images[label] is not None:
                load = Figure(fmean(job.get("load_seconds") or 0.0 for job in done))
                customize = Figure(fmean(job["seconds"] for job in done))
                (name,) = recorded
                cost = MethodCost(label, run.settings["methods"][name]["name"], label not in blind, load=load)
                found.append(replace(cost, customize=customize, image=Figure(images[label])))
    return found


def amortised(
    costs: Sequence[MethodCost], looks: Mapping[str, Look], source: str = MEASURED, subjects: int = 1
) -> Drawing:
    """Seconds per image against their number, with marks where a method gets cheaper than the base method.

    A second panel counts class images for the one subject, if methods need them.
    """
    panels = [False, True] if any(cost.class_images is not None for cost in costs) else [False]
    marks = {shared: _crossings(costs, shared) for shared in panels}
    ends = [found.images * 1.2 for own in marks.values() for found in own if found.images is not None]
    ends += [found.high for own in marks.values() for found in own if found.high is not None]
    most = min(max([MOST_IMAGES, *(10 ** math.ceil(math.log10(max(end, 1.0))) for end in ends)]), FARTHEST)
    figure = new_figure(4.2 if len(panels) == 1 else 7.2, 3.2 if len(panels) == 1 else 3.5)
    handles: dict[str, Any] = {}
    first: Axes | None = None
    for place, shared in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1, sharey=first)
        first = first or axes
        handles = _curves(axes, costs, looks, shared, most)
        _mark(axes, costs, marks[shared], looks, shared, most)
        log_axes(axes)
        axes.set_xlabel("images of one subject" if subjects == 1 else f"images of {subjects} subjects")
        if len(panels) > 1:
            axes.set_title("with class images" if shared else "without class images")
        if place == 0:
            axes.set_ylabel("seconds per image, all included")
        else:
            axes.tick_params(labelleft=False)
    legend_below(figure, handles)
    return Drawing("amortised-cost", "Amortised cost", _caption(costs, marks, source), figure)


def base_of(costs: Sequence[MethodCost], shared: bool = False) -> MethodCost | None:
    """The personalized method with the lowest cost before the first image."""
    seeing = [(found.value, cost) for cost in costs if cost.personalizes and (found := preparation(cost, shared))]
    return min(seeing, key=lambda pair: pair[0])[1] if len(seeing) > 1 else None


def _crossings(costs: Sequence[MethodCost], shared: bool) -> list[BreakEven]:
    """Where methods with a higher initial cost get, or may get, cheaper than the base; earliest first."""
    base = base_of(costs, shared)
    if base is None:
        return []
    others = [cost for cost in costs if cost.personalizes and cost is not base]
    found = [mark for cost in others if (mark := break_even(base, cost, shared)) is not None]
    return sorted(found, key=lambda mark: math.inf if mark.images is None else mark.images)


def _curves(
    axes: Axes, costs: Sequence[MethodCost], looks: Mapping[str, Look], shared: bool, most: float
) -> dict[str, Any]:
    """Each method's line with the band of its intervals; label -> handle of the legend."""
    images = np.geomspace(1, most, 200)
    handles: dict[str, Any] = {}
    for cost in costs:
        look = looks[cost.method]
        found = [figure for n in images if (figure := seconds_per_image(cost, float(n), shared)) is not None]
        values = [figure.value for figure in found]
        if all(figure.low is not None and figure.high is not None for figure in found):
            # A logarithmic axis has no room for what an interval of a tiny cost has below 0.
            lows = [max(figure.value - figure.below, figure.value / 1000) for figure in found]
            highs = [figure.value + figure.above for figure in found]
            axes.fill_between(images, lows, highs, color=look.color, alpha=0.22, linewidth=0, zorder=1)
        (handles[cost.method],) = axes.plot(images, values, **look.line(), markevery=[0, -1])
    return handles


def _mark(
    axes: Axes,
    costs: Sequence[MethodCost],
    marks: Sequence[BreakEven],
    looks: Mapping[str, Look],
    shared: bool,
    most: float,
) -> None:
    """A dot and its number at each break-even point, and a line over its interval."""
    by_name = {cost.method: cost for cost in costs}
    shown = [mark for mark in marks if mark.images is not None and mark.images <= most]
    for number, mark in enumerate(shown):
        assert mark.images is not None
        found = seconds_per_image(by_name[mark.sooner], mark.images, shared)
        assert found is not None
        if mark.low is not None:
            ends = [max(mark.low, 1.0), most if mark.high is None else min(mark.high, most)]
            axes.plot(ends, [found.value] * 2, "|-", color=INK, linewidth=0.9, markersize=5, zorder=4)
        axes.plot([mark.images], [found.value], "o", color=INK, markersize=4, zorder=5)
        axes.annotate(
            in_images(mark.images), (mark.images, found.value), xytext=(0, 7 if number % 2 == 0 else -12),
            textcoords="offset points", ha="center", fontsize=7, color=INK,
        )  # fmt: skip


def _caption(costs: Sequence[MethodCost], marks: Mapping[bool, Sequence[BreakEven]], source: str) -> str:
    sentences = [f"Seconds per image when n images of a subject are generated: {source}"]
    if len(marks) > 1:
        sentences.append("To the right, the images that a class of subjects shares are counted to this one subject.")
    for shared, own in marks.items():
        base = base_of(costs, shared)
        if base is not None:
            where = "" if len(marks) == 1 else " (right)" if shared else " (left)"
            sentences.append(_crossed(base, own, where))
    return " ".join(sentences)


def _crossed(base: MethodCost, marks: Sequence[BreakEven], where: str) -> str:
    sure = [f"{mark.later} from {_count(mark)} images on" for mark in marks if mark.images is not None]
    perhaps = [
        f"{mark.later} from {in_images(mark.low)} images on"
        for mark in marks
        if mark.images is None and mark.low is not None
    ]
    if sure:
        text = f"Dots{where}: where a method gets cheaper than {base.method}: {', '.join(sure)}."
    else:
        text = (
            f"No method gets cheaper than {base.method}{where}: none that costs more at first takes less time an image."
        )
    return text + (f" Within the intervals it may, at the earliest: {', '.join(perhaps)}." if perhaps else "")


def _count(mark: BreakEven) -> str:
    if mark.low is None:
        return in_images(mark.images)
    return f"{in_images(mark.images)} [{in_images(mark.low)}, {in_images(mark.high)}]"
