"""Figures: one module per family; `draw` makes all figures that the runs allow."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence

from fc_bench.cost.amortisation import preparation
from fc_bench.reports.cost.run import CostRun
from fc_bench.reports.cost.tables import reference, tuned
from fc_bench.reports.figures.amortised import amortised, draw_amortised
from fc_bench.reports.figures.attention import draw_attention
from fc_bench.reports.figures.breakdown import draw_by_category, draw_by_subject
from fc_bench.reports.figures.grid import draw_grid
from fc_bench.reports.figures.material import Choice, Material
from fc_bench.reports.figures.mixing import draw_mixing
from fc_bench.reports.figures.speed_up import speed_ups
from fc_bench.reports.figures.storage import draw_storage, storage
from fc_bench.reports.figures.style import MISSING_GLYPH, Drawing, Look, lay_out, looks, styled
from fc_bench.reports.figures.sweep import draw_sweeps
from fc_bench.reports.figures.tradeoff import draw_tradeoff
from fc_bench.reports.frame import Run

__all__ = ["FAMILIES", "OF_COST", "Choice", "Drawing", "draw", "draw_cost"]

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
OF_COST = ("amortised", "storage")
"""Families that a cost run provides more accurately."""


def draw(
    runs: Sequence[Run],
    tell: Callable[[str], None] | None = None,
    choice: Choice | None = None,
    families: Sequence[str] = tuple(FAMILIES),
    methods: Mapping[str, str] | None = None,
) -> list[Drawing]:
    """All figures of comparable runs (`frame.alike`); `tell` receives a sentence for each figure that is left out.

    `choice` says which samples the image grids show, `methods` which other methods are in the report (label -> method).
    Raises UserError if the choice names subjects that the runs do not have.
    """
    material = Material(runs, choice or Choice(), tell or (lambda _: None), methods or {})
    with styled():
        drawings = [drawing for name in families for drawing in FAMILIES[name](material)]
        for drawing in drawings:
            _lay_out(drawing, material.tell)
    return drawings


def draw_cost(
    run: CostRun, tell: Callable[[str], None] | None = None, methods: Mapping[str, str] | None = None
) -> list[Drawing]:
    """All figures of a cost run that its measurements allow: amortized cost, speed-up, storage growth."""
    with styled():
        drawings = _of_cost(run, looks({**(methods or {}), **{cost.method: cost.method for cost in run.costs}}))
        for drawing in drawings:
            _lay_out(drawing, tell or (lambda _: None))
    return drawings


def _of_cost(run: CostRun, styles: Mapping[str, Look]) -> list[Drawing]:
    costs = [cost for cost in run.costs if preparation(cost) is not None and cost.image is not None]
    drawings = [amortised(costs, styles)] if len(costs) > 1 else []
    fast, slow = reference(costs), tuned(costs)
    if fast is not None and slow:
        drawings.append(speed_ups(fast, slow, styles, run.settings["backbone"]))
    seeing = [cost for cost in run.costs if cost.personalizes]
    kept = {cost.method: float(cost.artefact_bytes) for cost in seeing if cost.artefact_bytes is not None}
    if any(kept.values()):
        shared = {cost.method: cost.shared_weights_bytes for cost in seeing if cost.shared_weights_bytes}
        drawings.append(storage(kept, styles, shared=shared))
    return drawings


def _lay_out(drawing: Drawing, tell: Callable[[str], None]) -> None:
    """Lay a figure out once for all formats; missing glyphs are reported."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", MISSING_GLYPH)
        lay_out(drawing.figure)
    if any(re.match(MISSING_GLYPH, str(warning.message)) for warning in caught):
        tell(f"The fonts here lack characters of the figure {drawing.name}; its SVG has them as text.")
