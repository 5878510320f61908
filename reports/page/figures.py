"""Figures of the page: separate pictures without scripts or external files, for light and dark mode."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fc_bench.reports.figures import Drawing


DARK: Mapping[str, str] = {
    "#ffffff": "#1b1e21",
    "#000000": "#e9e7e3",
    "#333333": "#e9e7e3",
    "#7f7f7f": "#a3a8af",
    "#bbbbbb": "#4a5057",
    "#dddddd": "#363b41",
    "#e8e8e8": "#2c3136",
    "#0072b2": "#4a9fd8",
    "#8c510a": "#c58a4a",
}
"""Colors of figures that change in dark mode; text inside matrices keeps its own colors."""
_VIEW_BOX = re.compile(rb'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_START = re.compile(rb"<svg[^>]*>")


def page_figure(drawing: Drawing) -> dict[str, Any]:
    """Title, caption, and the drawing as an SVG with its size in points."""
    svg = drawing.svg()
    size = _VIEW_BOX.search(svg)
    width, height = (round(float(side)) for side in size.groups()) if size else (None, None)
    return {
        "title": drawing.title,
        "caption": drawing.caption,
        "address": "data:image/svg+xml;base64," + base64.b64encode(for_both_schemes(svg)).decode(),
        "width": width,
        "height": height,
    }


def for_both_schemes(svg: bytes) -> bytes:
    """The same picture with styles for dark mode."""
    rules = ["text:not([style*='fill']) { fill: #e9e7e3 }"]
    for light, dark in DARK.items():
        rules += [f"[style*='{what}: {light}'] {{ {what}: {dark} !important }}" for what in ("fill", "stroke")]
    style = f"<style>@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}</style>"
    return _START.sub(lambda found: found[0] + style.encode(), svg, count=1)
