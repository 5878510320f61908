"""Figures: a module per family, drawn from the frame; `draw` makes all that the runs give."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fc_bench.reports.figures.style import Drawing, styled
from fc_bench.reports.figures.tradeoff import draw_tradeoff
from fc_bench.reports.frame import Run

__all__ = ["Drawing", "draw"]


def draw(runs: Sequence[Run], tell: Callable[[str], None] | None = None) -> list[Drawing]:
    """All figures of runs that are alike (`frame.alike`); `tell` is given a sentence for each that is left out."""
    drawings: list[Drawing] = []
    with styled():
        drawings += draw_tradeoff(runs)
    return drawings
