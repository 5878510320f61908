"""Results by prompt category with intervals, and by subject as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from fc_bench.analysis.aggregate import Row, attribute_of, values_by_set
from fc_bench.protocols import Column
from fc_bench.reports.figures.material import MEASURES, Material
from fc_bench.reports.figures.style import Drawing, error, legend_below, matrix, new_figure, shortened
from fc_bench.reports.frame import who

MOST_NAMED = 100
"""Largest number of subject sets whose names fit below a matrix."""


def draw_by_category(material: Material) -> list[Drawing]:
    """A drawing for each number of subjects with more than one category."""
    drawings = []
    for subjects in material.sizes:
        measured = [column for name in MEASURES if (column := material.column(name))]
        panels = [
            (
                column,
                [row for row in material.part(subjects, column.name, None) if attribute_of(row["category"]) is None],
            )
            for column in measured
        ]
        panels = [(column, rows) for column, rows in panels if len({row["category"] for row in rows}) > 1]
        if panels:
            drawings.append(_categories(material, panels, subjects))
    return drawings


def draw_by_subject(material: Material) -> list[Drawing]:
    """A drawing for each number of subjects and measure: methods down, subjects (or sets of them) across."""
    drawings = []
    for subjects in material.sizes:
        for column in filter(None, map(material.column, MEASURES)):
            means = subject_means(material.samples, subjects, column.name)
            if len({name for _, name in means}) > 1:
                drawings.append(_subjects(material, means, column, subjects))
    return drawings


def subject_means(samples: pd.DataFrame, subjects: int, column: str) -> dict[tuple[str, str], float]:
    """(label, subject set) -> mean over its samples with a value."""
    own = samples.loc[samples["subjects"] == subjects]
    if column not in own:
        return {}
    return {
        (label, name): fmean(values.tolist())
        for label in own["label"].unique()
        for name, values in values_by_set(own.loc[own["label"] == label], column).items()
    }


def _categories(material: Material, panels: Sequence[tuple[Column, list[Row]]], subjects: int) -> Drawing:
    categories = list(dict.fromkeys(row["category"] for _, rows in panels for row in rows))
    labels = [label for label in material.labels if any(row["label"] == label for _, rows in panels for row in rows)]
    step = 1 / (len(labels) + 1.5)
    figure = new_figure(3.1 * len(panels) + 0.6, max(1.6, 0.13 * len(categories) * (len(labels) + 1.5)) + 0.9)
    handles: dict[str, Any] = {}
    for place, (column, rows) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for row in rows:
            look = material.looks[row["label"]]
            height = categories.index(row["category"]) + step * (labels.index(row["label"]) - (len(labels) - 1) / 2)
            axes.errorbar(row["mean"], height, xerr=error(row), fmt="none", ecolor=look.color, elinewidth=0.9)
            (point,) = axes.plot([row["mean"]], [height], **look.markers(), linestyle="none")
            handles.setdefault(row["label"], point)
        axes.set_yticks(range(len(categories)), [shortened(name) for name in categories] if place == 0 else [])
        axes.set_ylim(len(categories) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        for edge in range(1, len(categories)):
            axes.axhline(edge - 0.5, color="#BBBBBB", linewidth=0.6)
        axes.grid(True, axis="x")
        axes.set_xlabel(material.title(column))
    legend_below(figure, {material.named(label, subjects): handles[label] for label in labels})
    return Drawing(
        f"by-category-{subjects}",
        f"By prompt category, {who(subjects)}",
        "Means over the subjects (or sets of subjects) of each prompt category with their 95 % intervals; to the right "
        "is better. A point without a bar rests on too few independent observations for an interval."
        + material.warning(subjects),
        figure,
    )


def _subjects(material: Material, means: dict[tuple[str, str], float], column: Column, subjects: int) -> Drawing:
    labels = [label for label in material.labels if any(own == label for own, _ in means)]
    sets = list(material.samples.loc[material.samples["subjects"] == subjects, "set"].unique())
    values = [[means.get((label, name)) for name in sets] for label in labels]
    written = len(sets) <= 16
    named = len(sets) <= MOST_NAMED
    width = 0.46 if written else max(0.09, 7.0 / len(sets)) if named else 9.0 / len(sets)
    figure = new_figure(1.7 + width * len(sets) + 0.6, 0.28 * len(labels) + 1.0)
    axes = figure.add_subplot()
    names = sets if named else [""] * len(sets)
    matrix(figure, axes, values, labels, names, material.title(column), column.digits - 1 if written else None)
    unnamed = "" if named else f" There are {len(sets)}, too many to name, in the order of the suite."
    return Drawing(
        f"by-subject-{column.name.replace('_', '-')}-{subjects}",
        f"{column.title} by subject, {who(subjects)}",
        f"Mean {column.title} over the prompts, for each method and subject (or set of subjects); darker is higher. "
        f"Crossed out: no value.{unnamed}" + material.warning(subjects),
        figure,
    )
