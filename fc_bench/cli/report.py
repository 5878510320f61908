"""`fc-bench report`: tables, pictures and a page of what was measured."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import app, console, open_in_browser, say
from fc_bench.errors import UserError


class Images(str, Enum):
    """How the page shows images."""

    link = "link"
    embed = "embed"


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    images: Annotated[
        Images, typer.Option(help="Images of the page: the run's own files, or copies inside it to pass it on alone.")
    ] = Images.link,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Print a run's tables again and write them with the image grid and a page to look at below its report/."""
    page = write_and_print(run, images)
    if open_:
        open_in_browser(page)


def write_and_print(path: Path, images: Images = Images.link) -> Path:
    """Write a run's report below its folder, print it and say what was written; returns the page.

    Raises UserError when it cannot be written.
    """
    from fc_bench.reports.figures import draw
    from fc_bench.reports.frame import read_runs
    from fc_bench.reports.page.page import PAGE, write_page
    from fc_bench.reports.tables.writing import tables_of, write_tables

    runs = read_runs([path])
    tables, report = tables_of(runs), path / "report"
    drawings = draw(runs)
    try:
        files = write_tables(tables, report)
        page = write_page([runs], [drawings], report / PAGE, images.value)
    except OSError as error:
        raise UserError(
            f"The report cannot be written below {path} ({error}); make room or make it writable."
        ) from None
    tables.show(console())
    for file in [*files, page]:
        say(f"wrote {file}")
    return page
