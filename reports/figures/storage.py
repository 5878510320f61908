"""Storage growth: stored bytes for n subjects, and the weights that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from fc_bench.cost.results import MIB
from fc_bench.reports.cost.cells import in_bytes
from fc_bench.reports.figures.material import Material
from fc_bench.reports.figures.style import Drawing, Look, legend_below, log_axes, new_figure, rules, shortened

MOST_SUBJECTS = {False: 10_000, True: 1_000_000}
"""Range of the axis; longer if shared weights are shown for comparison."""
RECORDED, MEASURED = "the mean over the subjects of this run", "one measured artefact, on paper"


def draw_storage(material: Material) -> list[Drawing]:
    """Storage against the number of subjects, of single subjects (or of the smallest sets)."""
    for size in material.sizes[:1]:
        found = {row["label"]: row["mean"] * MIB for row in material.part(size, "artefact_mib")}
        if any(found.values()):
            return [storage(found, material.looks, RECORDED, size)]
    return []


def storage(
    per_subject: Mapping[str, float],
    looks: Mapping[str, Look],
    source: str = MEASURED,
    subjects: int = 1,
    shared: Mapping[str, int] | None = None,
) -> Drawing:
    """Storage for n subjects (label -> bytes per subject); methods that store nothing are named instead of drawn.

    `shared` are the bytes of the weights that all subjects share, by label, drawn as levels.
    """
    counts = np.geomspace(1, MOST_SUBJECTS[bool(shared)], 50)
    figure = new_figure(4.2, 3.2)
    axes = figure.add_subplot()
    handles: dict[str, Any] = {}
    for label, size in sorted(per_subject.items(), key=lambda item: -item[1]):
        if size:
            name = f"{shortened(label)}: {in_bytes(size)}"
            (handles[name],) = axes.plot(counts, counts * size, **looks[label].line(), markevery=[0, -1])
    levels = sorted(set((shared or {}).values()))
    if levels:
        rules(axes, levels, "shared\nweights")
    log_axes(axes)
    axes.yaxis.set_major_locator(LogLocator(base=1024, subs=(1, 32), numticks=20))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_bytes(value)))
    axes.xaxis.set_major_locator(LogLocator(base=100 if shared else 10))
    axes.set_xlabel("subjects" if subjects == 1 else f"sets of {subjects} subjects")
    axes.set_ylabel("storage")
    legend_below(figure, handles, columns=2)
    nothing = [label for label, size in per_subject.items() if not size]
    kept = f" Nothing is kept by {', '.join(nothing)}." if nothing else ""
    beside = (
        f"Dotted: the weights that all subjects share ({' and '.join(map(in_bytes, levels))})."
        if levels
        else "The models that all subjects share are not counted."
    )
    return Drawing(
        "storage", "Storage growth", f"What each method stores for n subjects, from {source}. {beside}{kept}", figure
    )
