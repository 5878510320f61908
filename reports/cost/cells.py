"""Cost figures as table cells: three significant digits, the interval, and a mark for extrapolated values."""

from __future__ import annotations

import math
import sys

from fc_bench.cost.amortisation import BreakEven
from fc_bench.cost.figures import Figure
from fc_bench.reports.tables.model import NOTHING, Cell

ROUGHLY = "≈ "
"""Mark before extrapolated values."""
NEVER = "never"
_UNITS = ((2**50, "PiB"), (2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))


def figure_cell(figure: Figure | None, unit: str = "") -> Cell:
    """A figure with its interval, each number followed by `unit`; a dash if it was not measured."""
    if figure is None:
        return Cell(NOTHING)
    text = f"{ROUGHLY if figure.extrapolated else ''}{significant(figure.value)}{unit}"
    if figure.low is None or figure.high is None:
        return Cell(text, value=figure.value)
    low, high = (f"{significant(end, like=figure.value)}{unit}" for end in (figure.low, figure.high))
    return Cell(text, (low, high), value=figure.value)


def crossing_cell(found: BreakEven | None) -> Cell:
    """The number of images of a break-even point; "never" if there is none, and for a missing end of an interval."""
    if found is None:
        return Cell(NOTHING)
    text, value = in_images(found.images), sys.float_info.max if found.images is None else found.images
    if found.low is None:
        return Cell(text, value=value)
    return Cell(text, (in_images(found.low), in_images(found.high)), value=value)


def in_images(images: float | None) -> str:
    """A number of images, "never" for None."""
    return NEVER if images is None else f"{images:,.0f}" if images >= 10 or not images else f"{images:.1f}"


def significant(value: float, like: float | None = None) -> str:
    """Three significant digits, or the decimals of `like`; the integer part in full, in groups of three digits."""
    size = abs(value if like is None else like)
    decimals = max(2 - math.floor(math.log10(size)), 0) if size else 2
    return f"{value:,.{decimals}f}"


def in_bytes(size: float) -> str:
    """A number of bytes in a suitable binary unit, three significant digits; 0 has no unit."""
    if not size:
        return "0"
    factor, unit = next(((factor, unit) for factor, unit in _UNITS if size >= factor), _UNITS[-1])
    value = size / factor
    return f"{value:,.0f} {unit}" if value == round(value) else f"{significant(value)} {unit}"
