"""Tables, figure and sentences of a calibration on labelled photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from fc_bench.analysis.discrimination import Statistic
from fc_bench.audit.photographs import Calibration
from fc_bench.reports.escaping import markdown, plain
from fc_bench.reports.figures.style import COLORS, ENDINGS, INK, Drawing, legend_below, new_figure, styled
from fc_bench.reports.tables.comma_separated import csv_frame
from fc_bench.reports.tables.latex import latex_tables
from fc_bench.reports.tables.markdown import markdown_table
from fc_bench.reports.tables.model import NOTHING, Cell, Heading, Table
from fc_bench.reports.tables.terminal import print_table
from fc_bench.run_folder.records import write_atomically

TABLES, NUMBERS, PHOTOGRAPHS, FIGURE = "calibration.md", "calibration.csv", "photographs.csv", "similarities"
BINS = 60


def tables(calibration: Calibration) -> list[Table]:
    """What detection loses, and how well the embedder separates, each by subfolder."""
    point = calibration.point
    detection = Table(
        "detection",
        "Faces found",
        (
            Heading("photographs of", number=False),
            Heading("photographs"),
            Heading("unreadable"),
            Heading("no face"),
            Heading("several faces"),
            Heading("lost, %", "lower"),
        ),
        tuple(
            (
                Cell(one.place),
                *map(Cell, map(str, (one.photographs, one.unreadable, one.without_face, one.several_faces))),
                Cell(f"{100 * one.lost:.1f}"),
            )
            for one in calibration.detections
        ),
        caption="Of several faces the largest is used.",
    )
    separation = Table(
        "separation",
        f"Same and other people, {calibration.embedder}",
        (
            Heading("pairs of", number=False),
            Heading("people"),
            Heading("same pairs"),
            Heading("other pairs"),
            Heading("cosine, same"),
            Heading("cosine, other"),
            Heading("AUC", "higher"),
            Heading("equal error rate", "lower"),
            Heading(f"same accepted at {calibration.threshold:.3f}", "higher"),
            Heading(f"others accepted at {calibration.threshold:.3f}", "lower"),
        ),
        tuple(
            (
                Cell(one.place),
                *map(Cell, map(str, (one.people, one.same_pairs, one.other_pairs))),
                _number(one.same),
                _number(one.other),
                _cell(one.auc),
                _cell(one.equal_error_rate),
                _cell(one.accepted_same),
                _cell(one.accepted_other),
            )
            for one in calibration.separations
        ),
        caption=f"Threshold at a false-accept rate of {point.false_accept_rate:g}; 95 % intervals over people.",
    )
    return [detection, separation]


def sentences(calibration: Calibration) -> list[str]:
    """The threshold with its interval, what it accepts, what to write down, and what was left out."""
    point, name, written = calibration.point, calibration.embedder, f"{calibration.threshold:.3f}"
    looked_at = int(np.count_nonzero(~calibration.pairs.same))
    drawn = f" Of {calibration.other_pairs} pairs of different people {looked_at} were drawn."
    said = [
        f"At a false-accept rate of {point.false_accept_rate:g} the threshold of {name} is {_text(point.threshold)}, "
        f"and {_text(point.true_accepts)} of the pairs of the same person reach it."
        + (drawn if looked_at < calibration.other_pairs else ""),
        f'For the column "verified", write "threshold: {written}" below the face models "{name}" in the backbone\'s '
        f'file, or "verification: {{{name}: {written}}}" in a suite of format 2.',
    ]
    if calibration.at_declared is not None:
        same, other = map(_text, calibration.at_declared)
        said.append(
            f"The threshold {calibration.declared:g}, which the backbone declares, accepts {same} of the pairs of the "
            f"same person and {other} of the others."
        )
    return said


def summary(calibration: Calibration) -> str:
    """The sentences but the advice, and both tables, as Markdown without a title."""
    said = [line for line in sentences(calibration) if not line.startswith("For the column")]
    return "\n\n".join([*map(markdown_table, tables(calibration)), *map(markdown, said)]) + "\n"


def figure(calibration: Calibration) -> Drawing:
    """The distributions of the cosine for same and for other pairs, with the threshold."""
    pairs, point = calibration.pairs, calibration.point
    with styled():
        drawn = new_figure(4.2, 2.8)
        axes = drawn.add_subplot()
        edges = np.linspace(float(pairs.cosines.min()), float(pairs.cosines.max()) + 1e-9, BINS + 1).tolist()
        handles = {}
        for label, kind, color in (("other people", ~pairs.same, COLORS[1]), ("same person", pairs.same, COLORS[0])):
            cosines = pairs.cosines[kind]
            shares = np.full(len(cosines), 100 / len(cosines))
            *_, bars = axes.hist(cosines, edges, weights=shares, color=color, alpha=0.6)
            handles[f"{label}: {len(cosines)} pairs"] = bars
        handles["threshold and its interval"] = axes.axvline(calibration.threshold, color=INK, linewidth=1.0)
        if point.threshold.low is not None and point.threshold.high is not None:
            axes.axvspan(point.threshold.low, point.threshold.high, color=INK, alpha=0.12, linewidth=0)
        axes.set_xlabel(f"cosine, {plain(calibration.embedder)}")
        axes.set_ylabel("% of the pairs")
        legend_below(drawn, handles, columns=1)
    caption = (
        f"Cosines of pairs of photographs, and the threshold at a false-accept rate of {point.false_accept_rate:g}."
    )
    return Drawing(FIGURE, "Same and other people", caption, drawn)


def write_calibration(calibration: Calibration, folder: Path, endings: Sequence[str] = ENDINGS) -> list[Path]:
    """Write tables (Markdown, LaTeX), numbers and photographs (CSV) and the figure in these formats; raises OSError."""
    made, said = tables(calibration), sentences(calibration)
    parts = [f"## {markdown(table.title)}\n\n{markdown_table(table)}\n\n{markdown(table.caption)}" for table in made]
    whole = [f"# Calibration of {markdown(calibration.embedder)}", *map(markdown, said), *parts]
    remarks = [f"- {markdown(remark)}" for remark in calibration.remarks]
    whole += ["## Remarks on the photographs\n\n" + "\n".join(remarks)] if remarks else []
    drawing = figure(calibration)
    files = {
        TABLES: "\n\n".join([*whole, f"![{drawing.title}]({FIGURE}.png)"]) + "\n",
        NUMBERS: csv_frame(_numbers(calibration)),
        PHOTOGRAPHS: csv_frame(_photographs(calibration)),
        "calibration.tex": latex_tables(made, {}, said),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_atomically(folder / name, content.encode())
    return [*(folder / name for name in files), *drawing.write(folder, endings)]


def show(calibration: Calibration, console: Console) -> None:
    """Print the tables and the sentences."""
    for table in tables(calibration):
        print_table(table, console)
    for line in [*calibration.remarks, *sentences(calibration)]:
        console.print(plain(line), markup=False, highlight=False, soft_wrap=True)


def _numbers(calibration: Calibration) -> pd.DataFrame:
    """Every statistic with all digits: subfolder, quantity, value, interval, number of people."""
    point = calibration.point
    rows: list[tuple[str, str, float | None, float | None, float | None, int | None]] = []

    def add(place: str, quantity: str, found: Statistic | float | None) -> None:
        if isinstance(found, Statistic):
            rows.append((place, quantity, found.value, found.low, found.high, found.people))
        else:
            rows.append((place, quantity, found, None, None, None))

    add("all", "false_accept_rate", point.false_accept_rate)
    add("all", "threshold", point.threshold)
    add("all", "true_accepts", point.true_accepts)
    if calibration.at_declared is not None:
        add("all", "declared_threshold", calibration.declared)
        for quantity, share in zip(("same_at_declared", "other_at_declared"), calibration.at_declared, strict=True):
            add("all", quantity, share)
    for one in calibration.detections:
        for quantity in ("photographs", "unreadable", "without_face", "several_faces", "lost"):
            add(one.place, quantity, getattr(one, quantity))
    for one in calibration.separations:
        for quantity in ("people", "same_pairs", "other_pairs", "same", "other", "auc", "equal_error_rate"):
            add(one.place, quantity, getattr(one, quantity))
        add(one.place, "accepted_same", one.accepted_same)
        add(one.place, "accepted_other", one.accepted_other)
    return pd.DataFrame(rows, columns=["photographs", "quantity", "value", "low", "high", "people"])


def _photographs(calibration: Calibration) -> pd.DataFrame:
    """A row for each photograph: person, subfolder, name, number of faces (empty: unreadable)."""
    rows: Sequence[tuple[object, ...]] = [(one.person, one.place, one.name, one.faces) for one in calibration.found]
    return pd.DataFrame(rows, columns=["person", "folder", "photograph", "faces"]).astype({"faces": "Int64"})


def _number(value: float | None) -> Cell:
    return Cell(NOTHING if value is None else f"{value:.3f}")


def _cell(found: Statistic | None) -> Cell:
    if found is None or found.value is None:
        return Cell(NOTHING)
    return Cell(f"{found.value:.3f}", _interval(found))


def _interval(found: Statistic) -> tuple[str, str] | None:
    return None if found.low is None or found.high is None else (f"{found.low:.3f}", f"{found.high:.3f}")


def _text(found: Statistic) -> str:
    """Value and interval."""
    return _cell(found).whole
