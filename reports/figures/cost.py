"""What customizing costs: seconds for n images of one subject, and storage for n subjects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from fc_bench.reports.figures.material import Material
from fc_bench.reports.figures.style import INK, Drawing, Look, legend_below, new_figure, shortened
from fc_bench.reports.frame import incomparable_costs

MOST_IMAGES, MOST_SUBJECTS = 1000, 10_000
"""How far the axes go; further where methods break even later."""
_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))


@dataclass(frozen=True)
class Spent:
    """Seconds before the first image of a subject (loading and customizing), and seconds an image."""

    fixed: float
    per_image: float

    def amortised(self, images: float) -> float:
        """Seconds an image, of so many of one subject, with its share of what came before."""
        return self.fixed / images + self.per_image


@dataclass(frozen=True)
class BreakEven:
    """From so many images on `label`, which costs more before the first one, takes less time than `base`.

    `seconds` an image, with what came before it spread over them.
    """

    label: str
    base: str
    images: float
    seconds: float


def draw_amortised(material: Material) -> list[Drawing]:
    """Seconds an image against their number, of single subjects (of the smallest sets, if none is alone)."""
    reasons = incomparable_costs(material.runs)
    for column in ("customize_seconds", "image_seconds"):
        if column in reasons:
            material.tell(f"The amortised cost is left out: times do not compare ({reasons[column]}).")
            return []
    for size in material.sizes[:1]:
        spent = spent_of(material, size)
        if len(spent) > 1:
            return [amortised(spent, material.looks, _base(spent, material.blind()), size)]
    return []


def draw_storage(material: Material) -> list[Drawing]:
    """Storage against the number of subjects, of single subjects (of the smallest sets, if none is alone)."""
    for size in material.sizes[:1]:
        found = {row["label"]: row["mean"] * 2**20 for row in material.part(size, "artefact_mib")}
        if any(found.values()):
            return [storage(found, material.looks, size)]
    return []


def spent_of(material: Material, subjects: int) -> dict[str, Spent]:
    """Label -> what it spends, of methods whose customizations and images were timed.

    Fixed: mean over the finished customizations of loading the method and customizing it; per image: the median.
    """
    images = {row["label"]: row["mean"] for row in material.part(subjects, "image_seconds")}
    found: dict[str, Spent] = {}
    for run in material.runs:
        for label in images:
            sets = set(material.of(label, subjects)["set"].unique())
            recorded = {method for name, method, own in material.methods if (own, name) == (label, run.name)}
            done = [
                job["seconds"] + (job.get("load_seconds") or 0.0)
                for (method, name), job in run.jobs.items()
                if method in recorded and name in sets and job["status"] == "ok"
            ]
            if done:
                found[label] = Spent(fmean(done), images[label])
    return found


def break_even(spent: Mapping[str, Spent], base: str) -> list[BreakEven]:
    """Where methods that cost more than `base` before the first image get cheaper than it, earliest first."""
    start = spent[base]
    found = []
    for label, other in spent.items():
        if other.fixed > start.fixed and other.per_image < start.per_image:
            images = (other.fixed - start.fixed) / (start.per_image - other.per_image)
            found.append(BreakEven(label, base, images, start.amortised(images)))
    return sorted(found, key=lambda item: item.images)


def amortised(spent: Mapping[str, Spent], styles: Mapping[str, Look], base: str | None, subjects: int = 1) -> Drawing:
    """Seconds an image against their number (label -> what it spends); marks where others get cheaper than `base`."""
    marks = break_even(spent, base) if base is not None else []
    most = max([MOST_IMAGES, *(10 ** math.ceil(math.log10(mark.images * 1.2)) for mark in marks if mark.images < 1e6)])
    images = np.geomspace(1, most, 200)
    figure = new_figure(4.2, 3.2)
    axes = figure.add_subplot()
    handles: dict[str, Any] = {}
    for label, own in spent.items():
        look = styles[label]
        (handles[label],) = axes.plot(images, own.fixed / images + own.per_image, **look.line(), markevery=[0, -1])
    for number, mark in enumerate(marks):
        if mark.images <= most:
            axes.plot([mark.images], [mark.seconds], "o", color=INK, markersize=4, zorder=5)
            axes.annotate(
                f"{mark.images:.0f}", (mark.images, mark.seconds), xytext=(0, 7 if number % 2 == 0 else -12),
                textcoords="offset points", ha="center", fontsize=7, color=INK,
            )  # fmt: skip
    _log_axes(axes)
    axes.set_xlabel("images of one subject" if subjects == 1 else f"images of one set of {subjects} subjects")
    axes.set_ylabel("seconds per image, all included")
    legend_below(figure, handles)
    return Drawing("amortised-cost", "Amortised cost", _told(marks, base, spent), figure)


def storage(per_subject: Mapping[str, float], styles: Mapping[str, Look], subjects: int = 1) -> Drawing:
    """Storage for n subjects (label -> bytes a subject); methods that keep nothing are named, not drawn."""
    counts = np.geomspace(1, MOST_SUBJECTS, 50)
    figure = new_figure(4.2, 3.2)
    axes = figure.add_subplot()
    handles: dict[str, Any] = {}
    for label, size in sorted(per_subject.items(), key=lambda item: -item[1]):
        if size:
            name = f"{shortened(label)}: {in_bytes(size)}"
            (handles[name],) = axes.plot(counts, counts * size, **styles[label].line(), markevery=[0, -1])
    _log_axes(axes)
    axes.yaxis.set_major_locator(LogLocator(base=1024, subs=(1, 32), numticks=20))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_bytes(value)))
    axes.set_xlabel("subjects" if subjects == 1 else f"sets of {subjects} subjects")
    axes.set_ylabel("storage")
    legend_below(figure, handles, columns=2)
    nothing = [label for label, size in per_subject.items() if not size]
    kept = f" Nothing is kept by {', '.join(nothing)}." if nothing else ""
    return Drawing(
        "storage",
        "Storage growth",
        "What each method keeps for n subjects, from the mean over the subjects of this run; the models that all "
        f"subjects share are not counted.{kept}",
        figure,
    )


def in_bytes(size: float) -> str:
    """A number of bytes with its binary unit, three significant digits."""
    factor, unit = next(((factor, unit) for factor, unit in _UNITS if size >= factor), _UNITS[-1])
    value = size / factor
    digits = 0 if value >= 100 or value == round(value) else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}"


def _base(spent: Mapping[str, Spent], blind: set[str]) -> str | None:
    """The method that costs least before the first image, of those that see the subject."""
    seeing = {label: own for label, own in spent.items() if label not in blind}
    return min(seeing, key=lambda label: seeing[label].fixed) if len(seeing) > 1 else None


def _told(marks: Sequence[BreakEven], base: str | None, spent: Mapping[str, Spent]) -> str:
    told = (
        "Seconds per image when n images of a subject are generated: loading the method and customizing it to the "
        "subject (mean over the subjects), spread over the images, and generating one (median), as the run recorded "
        "them."
    )
    if base is None:
        return told
    if not marks:
        return f"{told} No method gets cheaper than {base}: none that costs more at first takes less time an image."
    named = ", ".join(f"{mark.label} from {mark.images:,.0f} images on" for mark in marks)
    return f"{told} Dots: where a method gets cheaper than {base}: {named}."


def _log_axes(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(True)
