"""Identity mixing: how much the face of one subject resembles the reference of another in the same image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from fc_bench.reports.figures.material import Material
from fc_bench.reports.figures.style import Drawing, in_lines, matrix_panel, new_figure
from fc_bench.reports.frame import labels, who
from fc_bench.reports.samples import recorded_similarities
from fc_bench.run_folder.records import SCORES

Matrix = list[list[float | None]]


def draw_mixing(material: Material) -> list[Drawing]:
    """A drawing for each number of subjects above one: a matrix per method."""
    drawings = []
    for subjects in material.sizes:
        found = mixing_of(material, subjects) if subjects > 1 else {}
        if found:
            drawings.append(_drawing(material, found, subjects))
    return drawings


def mixing_of(material: Material, subjects: int) -> dict[str, tuple[Matrix, int, int]]:
    """Label -> matrix, images with a face, images: cosine of the face matched to subject i with reference j.

    From the similarities that the metric `identity` recorded; mean over each subject set's images, then over the sets.
    None if no image has a face for i.
    """
    found: dict[str, dict[str, list[Matrix]]] = {}
    planned: dict[str, int] = {}
    names = labels(material.runs)
    for run in material.runs:
        samples = run.samples
        of_size = samples["subjects"] == subjects
        for method, count in samples.loc[of_size, "method"].value_counts(sort=False).items():
            if count:
                planned[names[run.name, str(method)]] = int(count)
        rows = np.flatnonzero(of_size & (samples["status"] == "ok"))
        methods, sets = (samples[name].iloc[rows] for name in ("method", "set"))
        records = run.measured.score_records("identity", rows)
        for method, key, record in zip(methods, sets, records, strict=True):
            details = record.get("details") if record is not None and record["status"] == "ok" else None
            if details and details.get("matched"):
                faces = _faces(details, subjects, run.folder.path / SCORES)
                found.setdefault(names[run.name, method], {}).setdefault(key, []).append(faces)
    return {
        label: (_mean([_mean(own) for own in sets.values()]), sum(map(len, sets.values())), planned[label])
        for label, sets in found.items()
    }


def _faces(details: Mapping[str, Any], subjects: int, file: Path) -> Matrix:
    """Row i: the face matched to subject i; column j: its cosine with reference j."""
    similarities, matched = recorded_similarities(details, subjects, file)
    return [
        [similarities[other][matched[own]] if own in matched else None for other in range(subjects)]
        for own in range(subjects)
    ]


def _mean(matrices: Sequence[Matrix]) -> Matrix:
    size = len(matrices[0])
    return [[_mean_of([matrix[i][j] for matrix in matrices]) for j in range(size)] for i in range(size)]


def _mean_of(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return fmean(there) if there else None


def _drawing(material: Material, found: Mapping[str, tuple[Matrix, int, int]], subjects: int) -> Drawing:
    shown = [label for label in material.labels if label in found]
    across = min(len(shown), 6)
    down = -(-len(shown) // across)
    titles = {label: f"{in_lines(label, 22)}\n{found[label][1]} / {found[label][2]} images" for label in shown}
    height = 1.6 * subjects / 2 + 0.11 * (max(title.count("\n") for title in titles.values()) - 1)
    figure = new_figure(0.55 + 1.25 * across * subjects / 2, 0.2 + height * down)
    everything = [value for matrix, _, _ in found.values() for row in matrix for value in row if value is not None]
    limits = (min(0.0, *everything), max(everything))
    references = [f"ref. {number}" for number in range(1, subjects + 1)]
    for place, label in enumerate(shown):
        values = found[label][0]
        axes = figure.add_subplot(down, across, place + 1)
        faces = [f"face {number}" for number in range(1, subjects + 1)] if place % across == 0 else [""] * subjects
        matrix_panel(axes, values, faces, references, 2, limits)
        axes.set_title(titles[label], fontsize=7)
    return Drawing(
        f"mixing-{subjects}",
        f"Identity mixing, {who(subjects)}",
        "Mean cosine of the face matched to each subject (in the order of the prompt) with the reference of every "
        "subject in the image: the diagonal is identity, the rest is what leaks over. Images without any face are left "
        "out and counted; each set of subjects weighs the same.",
        figure,
    )
