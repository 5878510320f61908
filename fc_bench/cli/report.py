"""`fc-bench report`: tables and figures of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import app, console, say
from fc_bench.errors import UserError


class Layout(str, Enum):
    """Which tables there are."""

    suite = "suite"
    paper = "paper"


@app.command()
def report(
    run: Annotated[
        list[Path], typer.Argument(help="Run folders; rows of those that asked the same stand in one table.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the report; a single run's own report/ if not given.", show_default=False),
    ] = None,
    layout: Annotated[
        Layout, typer.Option(help="All tables of the suite, or those of FastComposer's paper.")
    ] = Layout.suite,
    figures: Annotated[bool, typer.Option(help="Draw the figures, too (PDF, PNG, SVG).")] = True,
    subjects: Annotated[
        list[str] | None,
        typer.Option(help="Show these in the image grid, e.g. p01 or p01+p02; repeat for several.", show_default=False),
    ] = None,
    grid_seed: Annotated[
        int | None, typer.Option(help="Draw the image grid's samples at random with this seed.", show_default=False)
    ] = None,
) -> None:
    """Print the tables of one or several runs and write them (Markdown, CSV, LaTeX, HTML) with figures."""
    if subjects and grid_seed is not None:
        raise UserError("The image grid is either of --subjects or drawn with --grid-seed; leave one out.")
    write_and_print(run, out, layout.value, None if figures else (), subjects or (), grid_seed)


def write_and_print(
    paths: Sequence[Path],
    out: Path | None = None,
    layout: str = "suite",
    families: Sequence[str] | None = None,
    subjects: Sequence[str] = (),
    grid_seed: int | None = None,
    endings: Sequence[str] | None = None,
) -> list[Path]:
    """Write the report of runs, print its tables, say what was written and return it; UserError when it cannot be.

    `families` of figures are drawn, all if not given, in the formats `endings`.
    """
    from fc_bench.reports.figures import FAMILIES, Choice
    from fc_bench.reports.figures.style import ENDINGS
    from fc_bench.reports.frame import read_runs
    from fc_bench.reports.report import write_report

    drawn = tuple(FAMILIES) if families is None else families
    choice = Choice(subjects, grid_seed)
    parts = write_report(read_runs(paths), out, layout, drawn, endings or ENDINGS, choice)
    for part in parts:
        if len(parts) > 1:
            say(f"\n{part.tables.title}: {', '.join(run.name for run in part.tables.runs)}")
        part.tables.show(console())
    for part in parts:
        for sentence in part.left_out:
            say(sentence)
        for line in _listed(part.files):
            say(f"wrote {line}")
    return [file for part in parts for file in part.files]


def _listed(files: Sequence[Path]) -> list[str]:
    """The files, those that differ in their ending alone on one line."""
    groups: dict[Path, list[str]] = {}
    for file in files:
        groups.setdefault(file.with_suffix(""), []).append(file.suffix)
    return [f"{stem}{', '.join(endings)}" for stem, endings in groups.items()]
