"""`fc-bench report`: write tables, figures and a web page of runs."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import typer

from fc_bench.cli.app import app, console, open_in_browser, print_line
from fc_bench.errors import UserError


class Layout(str, Enum):
    """Which tables are written."""

    suite = "suite"
    paper = "paper"


class Images(str, Enum):
    """How the page shows images."""

    link = "link"
    embed = "embed"


@app.command()
def report(
    run: Annotated[
        list[Path],
        typer.Argument(help="Run folders, of quality or cost; runs of the same suite share one table."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the report; report/ in the run folder of a single run if not given.", show_default=False
        ),
    ] = None,
    layout: Annotated[
        Layout, typer.Option(help="All tables of the suite, or those of FastComposer's paper.")
    ] = Layout.suite,
    figures: Annotated[bool, typer.Option(help="Also draw the figures (PDF, PNG, SVG).")] = True,
    subjects: Annotated[
        list[str] | None,
        typer.Option(
            help="Subjects or sets to show in the image grid, e.g. p01 or p01+p02; repeat for several.",
            show_default=False,
        ),
    ] = None,
    grid_seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**63 - 1, help="Draw the image grid's samples at random with this seed.", show_default=False
        ),
    ] = None,
    images: Annotated[
        Images, typer.Option(help="Images of the page: links to the run folders, or copies embedded in the page.")
    ] = Images.link,
    protocols: Annotated[
        bool,
        typer.Option("--protocols", help="Print and write the methods' scores under published protocols instead."),
    ] = False,
    as_published: Annotated[
        bool,
        typer.Option("--as-published", help="With --protocols: also the means as the benchmarks' own code takes them."),
    ] = False,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Print the tables of runs and write them (Markdown, CSV, LaTeX, HTML), with figures and a web page.

    A cost run given together with quality runs adds its costs to the overview of the methods.
    """
    if subjects and grid_seed is not None:
        raise UserError("The image grid takes either --subjects or --grid-seed; leave one out.")
    if as_published and not protocols:
        raise UserError("--as-published shows the means of published protocols; add --protocols.")
    if protocols:
        _write_protocols(run, out, "as-published" if as_published else "protocols")
        return
    families = None if figures else ()
    *_, page = write_and_print(run, out, layout.value, families, subjects or (), grid_seed, images=images)
    if open_:
        open_in_browser(page)


def _write_protocols(paths: Sequence[Path], out: Path | None, layout: Literal["protocols", "as-published"]) -> None:
    """Write and print the tables of published protocols."""
    from fc_bench.reports.report import read, write_report

    for part in write_report(read(paths, out), layout, ()):
        part.tables.show(console())
        for line in _grouped(part.files):
            print_line(f"wrote {line}")


def write_and_print(
    paths: Sequence[Path],
    out: Path | None = None,
    layout: Literal["suite", "paper"] = "suite",
    families: Sequence[str] | None = None,
    subjects: Sequence[str] = (),
    grid_seed: int | None = None,
    endings: Sequence[str] | None = None,
    images: Images = Images.link,
) -> list[Path]:
    """Write the report of runs, print its tables, and return the written files, the page last.

    `families` are the kinds of figures to draw (None: all), `endings` their file formats. Raises UserError if the
    report cannot be written.
    """
    from fc_bench.reports.figures import FAMILIES, Choice
    from fc_bench.reports.figures.style import ENDINGS
    from fc_bench.reports.report import read, write_report, write_report_page

    drawn = tuple(FAMILIES) if families is None else families
    choice = Choice(subjects, grid_seed)
    runs = read(paths, out)
    parts = write_report(runs, layout, drawn, endings or ENDINGS, choice)
    page = write_report_page(runs, parts, images.value)
    for part in parts:
        if len(parts) > 1:
            print_line(f"\n{part.tables.title}: {', '.join(part.tables.names)}")
        part.tables.show(console())
    for part in parts:
        for sentence in part.left_out:
            print_line(sentence)
        for line in _grouped(part.files):
            print_line(f"wrote {line}")
    print_line(f"wrote {page}")
    return [*(file for part in parts for file in part.files), page]


def _grouped(files: Sequence[Path]) -> list[str]:
    """One line per file name, with all its endings."""
    groups: dict[Path, list[str]] = {}
    for file in files:
        groups.setdefault(file.with_suffix(""), []).append(file.suffix)
    return [f"{stem}{', '.join(endings)}" for stem, endings in groups.items()]
