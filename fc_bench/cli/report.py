"""`fc-bench report`: tables and pictures of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import app, console, say
from fc_bench.errors import UserError


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
) -> None:
    """Print a run's tables again and write them with the image grid below its report/."""
    write_and_print(run)


def write_and_print(path: Path) -> None:
    """Write a run's report below its folder, print it and say what was written; UserError when it cannot be written."""
    from fc_bench.aggregate import result_rows
    from fc_bench.measurements import read_measurements
    from fc_bench.records import RunFolder
    from fc_bench.reports.grid import write_grid
    from fc_bench.reports.tables import print_report, write_report

    folder = RunFolder(path)
    folder.settings()
    try:
        measured = read_measurements(folder)
        results = result_rows(folder, measured)
        files = write_report(folder, measured, results)
        grid = write_grid(folder, measured.samples)
    except OSError as error:
        raise UserError(
            f"The report cannot be written below {path} ({error}); make room or make it writable."
        ) from None
    print_report(folder, measured, results, console())
    for file in [*files, *([grid] if grid else [])]:
        say(f"wrote {file}")
