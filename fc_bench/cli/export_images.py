"""`fc-bench export-images`: write a run's images as a benchmark's scripts expect them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import EXIT_INCOMPLETE, app, print_error, print_line
from fc_bench.cli.options import Photographs
from fc_bench.layouts import LayoutName


@app.command(name="export-images")
def export_images(
    run: Annotated[Path, typer.Argument(help="Run folder.", show_default=False)],
    layout: Annotated[
        LayoutName,
        typer.Option(help="Benchmark whose scripts are to read the images; docs/scoring.md.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; it must be new or empty.", show_default=False)],
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            help="Row of the table whose images are written, if the run has several.",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="Suite of the run, for layouts that put its targets beside the images.", show_default=False),
    ] = None,
    photographs: Photographs = None,
) -> None:
    """Write the images of one method into the folder that a published benchmark's own scripts expect.

    `fc-bench score --layout` reads the same names. Exit code 4 if planned images are missing, which are listed.
    """
    from fc_bench.commands.export_images import ExportOptions
    from fc_bench.commands.export_images import export_images as write
    from fc_bench.layouts.writing import described

    done = write(ExportOptions(run, layout.value, out, method, suite, photographs))
    for line in described(done.missing):
        print_line(f"missing: {line}")
    for line in described(done.grids):
        print_line(f"left out, because its 2 x 2 grid is incomplete: {line}")
    beyond = f", {done.beyond} planned images have no place in this layout" if done.beyond else ""
    print_line(f"{out}: {done.images} images in the layout {layout.value}{beyond}.")
    if done.missing or done.grids:
        total = done.images + len(done.missing) + len(done.grids)
        print_error(f"incomplete: {done.images} / {total} images exported.")
        raise typer.Exit(EXIT_INCOMPLETE)
