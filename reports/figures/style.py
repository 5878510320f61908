"""Style of figures: one color and marker per method everywhere, sizes, and file formats.

The colors are those of Okabe and Ito (2008, "Color Universal Design"), which people with color vision deficiencies can
distinguish. Markers differ as well, so that a figure printed in grey can be read.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from fc_bench.run_folder.provenance import usable_cores
from fc_bench.run_folder.records import write_atomically

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C510A", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
KNOWN = ("fastcomposer", "dreambooth", "dreambooth-lora", "textual-inversion", "custom-diffusion")
"""Methods with a fixed style in every report."""
MISSING_GLYPH = "Glyph .* missing from font"
"""Beginning of matplotlib's warning."""
ENDINGS = (".pdf", ".png", ".svg")
PAGE_ENDING = ".svg"
METADATA: Mapping[str, dict[str, Any]] = {
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
}
"""Entries that would make equal figures differ, by format."""
PNG_DPI = 200
FEWEST_TASKS = 4
"""Figures in a format that are worth a process."""
MARGIN = 0.04
"""Margin around a figure in inches."""
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "Noto Sans Arabic", "Noto Sans Devanagari")
"""Fonts that are tried, if installed, for characters without a glyph in DejaVu Sans."""
GREY = "#7F7F7F"
INK = "#333333"

_SETTINGS: Any = {
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 6.0,
    "errorbar.capsize": 2.0,
    "figure.dpi": 100.0,
    # Text stays text, and nobody's dollar signs become formulas.
    "svg.fonttype": "none",
    "svg.hashsalt": "fc-bench",
    "pdf.fonttype": 42,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": False,
}


@dataclass(frozen=True)
class Look:
    """Color, marker and dash pattern of a method."""

    color: str
    marker: str
    dashes: Any = "-"
    hollow: bool = False

    def markers(self) -> dict[str, Any]:
        """Arguments of `plot` for its markers, each with a white rim so that overlapping markers stay visible."""
        rim, width, size = (self.color, 1.2, 5.5) if self.hollow else ("white", 0.6, 6.5)
        fill = "white" if self.hollow else self.color
        return {
            "color": self.color,
            "marker": self.marker,
            "markerfacecolor": fill,
            "markeredgecolor": rim,
            "markeredgewidth": width,
            "markersize": size,
        }

    def line(self) -> dict[str, Any]:
        """Arguments of `plot` for a line with its markers."""
        return {**self.markers(), "linestyle": self.dashes, "markersize": 5.5}


@dataclass(frozen=True)
class Drawing:
    """A figure with its file name (without ending), title and caption; captions and titles are plain text."""

    name: str
    title: str
    caption: str
    figure: Figure
    kept: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)
    """The rendered formats by their ending."""

    def svg(self) -> bytes:
        """As SVG with text as text."""
        return self._as(".svg")

    def pdf(self) -> bytes:
        """As PDF with embedded TrueType fonts."""
        return self._as(".pdf")

    def png(self) -> bytes:
        """As PNG."""
        return self._as(".png")

    def write(self, folder: Path, endings: Sequence[str] = ENDINGS) -> list[Path]:
        """Write `<name>.pdf`, `.png` and `.svg` into the folder, or only some of them."""
        files = {ending: folder / f"{self.name}{ending}" for ending in endings}
        for ending, file in files.items():
            write_atomically(file, self._as(ending))
        return list(files.values())

    def _as(self, ending: str) -> bytes:
        """The bytes of a format, rendered once for the file and the page."""
        if ending not in self.kept:
            self.kept[ending] = self._rendered(ending)
        return self.kept[ending]

    @cached_property
    def _extent(self) -> Bbox:
        """What is drawn with a margin, in inches; measured once for all formats."""
        with styled():
            if self.figure.get_layout_engine() is not None:
                lay_out(self.figure)
            return self.figure.get_tightbbox().padded(MARGIN)

    def _rendered(self, ending: str) -> bytes:
        buffer, extent = BytesIO(), self._extent
        with styled(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", MISSING_GLYPH)
            for image in self.figure.findobj(AxesImage):
                # Pixels as they are where the format can, smooth where they have to be drawn.
                if image.get_gid():
                    image.set_interpolation("lanczos" if ending == ".png" else "none")
            # With extent and layout known, a figure is drawn once for a format instead of three times.
            dpi: Any = PNG_DPI if ending == ".png" else "figure"
            kind: Any = {"format": ending[1:], "metadata": METADATA[ending], "dpi": dpi, "bbox_inches": extent}
            self.figure.savefig(buffer, **kind)
        return buffer.getvalue()


def render(drawings: Sequence[Drawing], endings: Sequence[str] = ENDINGS) -> None:
    """Render drawings in these formats, in as many processes as there are cores where processes can be forked."""
    tasks = [(drawing, ending) for drawing in drawings for ending in endings if ending not in drawing.kept]
    processes = min(usable_cores(), len(tasks) // FEWEST_TASKS)
    if processes > 1 and _can_fork():
        with suppress(BrokenProcessPool):  # a killed process: the rest is rendered where it is needed
            _render_in_processes(tasks, processes)


def _can_fork() -> bool:
    """Whether a forked process can go on drawing: not with threads of Python or torch, which it would wait for."""
    return sys.platform == "linux" and threading.active_count() == 1 and "torch" not in sys.modules


def _render_in_processes(tasks: Sequence[tuple[Drawing, str]], processes: int) -> None:
    context = get_context("fork")
    with ProcessPoolExecutor(processes, context, initializer=_inherit, initargs=(tasks,)) as pool:
        # What a signal raises in the callbacks of a fork is lost, so signals wait until the processes are there.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        try:
            rendered = pool.map(_render_task, range(len(tasks)))
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
        for (drawing, ending), content in zip(tasks, rendered, strict=True):
            drawing.kept[ending] = content


_TASKS: list[tuple[Drawing, str]] = []
"""In a process that renders: the inherited tasks, which are never copied."""


def _inherit(tasks: Sequence[tuple[Drawing, str]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command ends its processes
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
    gc.disable()  # it would look through all the libraries' objects, for a process that ends soon
    _TASKS[:] = tasks


def _render_task(number: int) -> bytes:
    drawing, ending = _TASKS[number]
    return drawing._as(ending)


def lay_out(figure: Figure) -> None:
    """Lay a figure out once for all formats."""
    figure.draw_without_rendering()
    figure.set_layout_engine(None)


@contextmanager
def styled() -> Iterator[None]:
    """Context manager that applies our style; matplotlib's own settings are restored afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        installed = {font.name for font in fontManager.ttflist}
        matplotlib.rcParams["font.family"] = ["DejaVu Sans", *(name for name in FONTS if name in installed)]
        yield


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty figure with its size in inches, of the object interface (no pyplot), drawn by Agg."""
    figure = Figure(figsize=(width, height), layout="constrained", **options)
    FigureCanvasAgg(figure)
    return figure


def looks(methods: Mapping[str, str]) -> dict[str, Look]:
    """A different style for each label (label -> its method).

    Known methods have the same style in every report, hollow for a second run; others get one in order of appearance.
    """
    fixed = {name: Look(COLORS[number], MARKERS[number], _dash(number)) for number, name in enumerate(KNOWN)}
    fixed["text-only"] = Look(INK, "o", _dash(1), hollow=True)
    found: dict[str, Look] = {}
    number = len(KNOWN)
    for label, method in methods.items():
        known = fixed.get(method)
        free = [look for look in (known, known and replace(known, hollow=not known.hollow)) if look]
        free = [look for look in free if look not in found.values()]
        if free:
            found[label] = free[0]
        else:
            # 8 colors and 11 markers have no common divisor: 88 different looks, and as many hollow ones.
            hollow = number // (len(COLORS) * len(MARKERS)) % 2 == 1
            found[label] = Look(COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)], _dash(number), hollow)
            number += 1
    return found


def error(row: Mapping[str, Any]) -> list[list[float]] | None:
    """Lengths of a row's interval below and above its mean, for `errorbar`; None without an interval."""
    if row["low"] is None or row["high"] is None:
        return None
    # A mean may lie beyond the bounds of its column by a rounding error, where its interval ends.
    return [[max(row["mean"] - row["low"], 0.0)], [max(row["high"] - row["mean"], 0.0)]]


def rules(axes: Axes, heights: Sequence[float], text: str) -> None:
    """Dotted levels over the whole width, labeled once at their right end outside the axes."""
    for height in heights:
        axes.axhline(height, color=GREY, linestyle=(0, (1, 2)), linewidth=0.9, zorder=1)
    place: Any = ("axes fraction", "data")
    axes.annotate(
        text,
        (1.01, sum(heights) / len(heights)),
        xycoords=place,
        va="center",
        fontsize=7,
        color=INK,
        annotation_clip=False,
    )


def log_axes(axes: Axes) -> None:
    """Logarithmic axes with numbers written in full; a short axis, with few powers of ten, has more of them."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    written = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        axis.set_major_formatter(written)
        short = high / low < 50
        if short:
            axis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.set_minor_formatter(written if short else NullFormatter())
    axes.tick_params(which="minor", labelsize=7.5)
    axes.grid(True)


def legend_below(figure: Figure, handles: Mapping[str, Any], columns: int = 3) -> None:
    """A legend of exactly these labels, whatever characters they begin with, below everything."""
    made = figure.legend(
        list(handles.values()), [f"{number}" for number in range(len(handles))], loc="outside lower center",
        ncols=min(columns, len(handles)),
    )  # fmt: skip
    for text, label in zip(made.get_texts(), handles, strict=True):
        text.set_text(label)


def matrix(
    figure: Figure,
    axes: Axes,
    values: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    digits: int | None,
) -> None:
    """A matrix of values as shades with a color bar, each value written if `digits` says how."""
    there = [value for row in values for value in row if value is not None]
    image = matrix_panel(axes, values, rows, columns, digits, (min(there), max(there)))
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=12)
    bar.outline.set_visible(False)
    bar.set_label(title)


def matrix_panel(
    axes: Axes,
    values: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    digits: int | None,
    limits: tuple[float, float],
) -> Any:
    """The shades and numbers alone; a cell without a value is crossed out, columns without any name have no ticks."""
    shades = matplotlib.colormaps["Blues"]
    numbers = np.array([[np.nan if value is None else value for value in row] for row in values], dtype=float)
    image = axes.imshow(numbers, cmap=shades, vmin=limits[0], vmax=limits[1], aspect="auto")
    for (row, column), value in np.ndenumerate(numbers):
        if np.isnan(value):
            axes.plot([column - 0.4, column + 0.4], [row + 0.4, row - 0.4], color=GREY, linewidth=0.7)
        elif digits is not None:
            red, green, blue, _ = image.cmap(image.norm(value))
            ink = "#FEFEFE" if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 < 0.2 else "#111111"
            axes.text(column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize=6.5, color=ink)
    long = any(len(name) > 4 for name in columns) and len(columns) > 3
    turned: dict[str, Any] = {"rotation": 90 if len(columns) > 16 else 45, "ha": "right", "rotation_mode": "anchor"}
    if any(columns):
        axes.set_xticks(range(len(columns)), [shortened(name) for name in columns], **(turned if long else {}))
    else:
        axes.set_xticks([])
    axes.set_yticks(range(len(rows)), [shortened(name) for name in rows])
    axes.tick_params(length=0, labelsize=7 if len(columns) <= 30 else 4.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def shortened(text: str, longest: int = 28) -> str:
    """A text that fits beside an axis; what is cut off is shown as cut off."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def in_lines(label: str, width: int = 18) -> str:
    """A label on lines of its own, broken before its options and between them where it can be."""
    parts = label.replace("[", "\0[").replace(",", ",\0").split("\0")
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    broken = [piece for line in lines for piece in wrap(line, width)]
    return "\n".join([*broken[:4], "…"] if len(broken) > 4 else broken)


def _dash(number: int) -> Any:
    return DASHES[number % len(DASHES)]
