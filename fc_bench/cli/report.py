"""`fc-bench report`: write tables, figures and a web page of runs."""

from __future__ import annotations

import gc
import shlex
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from fc_bench.cli.app import app, console, open_in_browser, print_line
from fc_bench.errors import UserError

if TYPE_CHECKING:
    from fc_bench.reports.state import Request


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
    chosen = subjects or ()
    *_, page = write_and_print(run, out, layout.value, families, chosen, grid_seed, images=images, at_least=False)
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
    at_least: bool = True,
) -> list[Path]:
    """Write the report of runs, print its tables, and return its files, the page last.

    `families` are the kinds of figures to draw (None: all), `endings` their file formats. A report that is up to date
    is not written again; with `at_least`, it may hold more figures. Raises UserError if the report cannot be written.
    """
    from fc_bench.reports.state import ALL, REPORT, Request, Written, remember, up_to_date

    shown, folder = console(), out or paths[0] / REPORT
    drawn, formats = (ALL if families is None else families), (ALL if endings is None else endings)
    request = Request(paths, folder, layout, drawn, formats, subjects, grid_seed, images.value)
    inputs = request.inputs()
    written = up_to_date(request, inputs, shown, at_least)
    if written is not None:
        print(written.printed, end="")
        print_line(f"{written.files[-1]} is up to date")
        return list(written.files)
    with shown.capture() as printed:
        files = _write(request, out, shown)
    remember(request, inputs, shown, Written(tuple(files), printed.get()))
    print(printed.get(), end="")
    for line in _grouped(files):
        print_line(f"wrote {line}")
    return files


def _write(request: Request, out: Path | None, shown: Console) -> list[Path]:
    """Write the report and print its tables on a console; returns the files, the page last."""
    from fc_bench.reports.report import read, write_report, write_report_page
    from fc_bench.reports.state import ALL

    families = None if request.families == ALL else request.families
    endings = None if request.endings == ALL else request.endings
    runs, choice = read(request.paths, out), None
    if families is None or families:
        from fc_bench.reports.figures import Choice

        choice = Choice(request.subjects, request.grid_seed)
    gc.freeze()  # the libraries' objects stay, and collections need not look through them
    layout: Any = request.layout
    parts = write_report(runs, layout, families, endings, choice)
    command = ["fc-bench", "report", *map(str, request.paths), *(["--out", str(out)] if out else [])]
    images: Any = request.images
    page = write_report_page(runs, parts, images, "" if request.families == ALL else shlex.join(command))
    for part in parts:
        if len(parts) > 1:
            _say(shown, f"\n{part.tables.title}: {', '.join(part.tables.names)}")
        part.tables.show(shown)
    for part in parts:
        for sentence in part.left_out:
            _say(shown, sentence)
    return [*(file for part in parts for file in part.files), page]


def _say(shown: Console, text: str) -> None:
    shown.print(text, markup=False, highlight=False, soft_wrap=True)


def _grouped(files: Sequence[Path]) -> list[str]:
    """One line per file name, with all its endings."""
    groups: dict[Path, list[str]] = {}
    for file in files:
        groups.setdefault(file.with_suffix(""), []).append(file.suffix)
    return [f"{stem}{', '.join(endings)}" for stem, endings in groups.items()]
