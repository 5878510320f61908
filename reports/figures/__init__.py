"""Figures: a module per family, drawn from the frame; `draw` makes all that the runs give."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence

from fc_bench.reports.figures.attention import draw_attention
from fc_bench.reports.figures.breakdown import draw_by_category, draw_by_subject
from fc_bench.reports.figures.cost import draw_amortised, draw_storage
from fc_bench.reports.figures.grid import draw_grid
from fc_bench.reports.figures.material import Choice, Material
from fc_bench.reports.figures.mixing import draw_mixing
from fc_bench.reports.figures.style import MISSING_GLYPH, Drawing, styled
from fc_bench.reports.figures.sweep import draw_sweeps
from fc_bench.reports.figures.tradeoff import draw_tradeoff
from fc_bench.reports.frame import Run

__all__ = ["FAMILIES", "Choice", "Drawing", "draw"]

FAMILIES: dict[str, Callable[[Material], list[Drawing]]] = {
    "grid": draw_grid,
    "tradeoff": draw_tradeoff,
    "sweep": draw_sweeps,
    "by-category": draw_by_category,
    "by-subject": draw_by_subject,
    "mixing": draw_mixing,
    "attention": draw_attention,
    "amortised": draw_amortised,
    "storage": draw_storage,
}
"""Families of figures by name, in the order they are drawn."""


def draw(
    runs: Sequence[Run],
    tell: Callable[[str], None] | None = None,
    choice: Choice | None = None,
    families: Sequence[str] = tuple(FAMILIES),
) -> list[Drawing]:
    """All figures of runs that are alike (`frame.alike`); `tell` is given a sentence for each that is left out.

    `choice` says which samples the image grids show. Raises UserError when it names what the runs do not have.
    """
    material = Material(runs, choice or Choice(), tell or (lambda _: None))
    with styled():
        drawings = [drawing for name in families for drawing in FAMILIES[name](material)]
        for drawing in drawings:
            _lay_out(drawing, material.tell)
    return drawings


def _lay_out(drawing: Drawing, tell: Callable[[str], None]) -> None:
    """Lay a figure out once, for all formats; characters that will be boxes are told."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", MISSING_GLYPH)
        drawing.figure.draw_without_rendering()
    if any(re.match(MISSING_GLYPH, str(warning.message)) for warning in caught):
        tell(f"The fonts here lack characters of the figure {drawing.name}; its SVG has them as text.")
    drawing.figure.set_layout_engine("none")
