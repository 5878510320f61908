"""`fc-bench report`: tables and pictures of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fc_bench.cli.app import app, console, say
from fc_bench.errors import UserError

if TYPE_CHECKING:
    from fc_bench.records import RunFolder


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
) -> None:
    """Print a run's tables again and write them with the image grid below its report/."""
    write_and_print(run)


def write_and_print(path: Path) -> None:
    """Write a run's report below its folder, print it and say what was written; UserError when it cannot be written."""
    from fc_bench.records import QUALITY, RunFolder

    folder = RunFolder(path)
    write = _write_quality if folder.kind() == QUALITY else _write_cost
    try:
        files = write(folder)
    except OSError as error:
        raise UserError(
            f"The report cannot be written below {path} ({error}); make room or make it writable."
        ) from None
    for file in files:
        say(f"wrote {file}")


def _write_quality(folder: RunFolder) -> list[Path]:
    from fc_bench.aggregate import result_rows
    from fc_bench.reports.grid import write_grid
    from fc_bench.reports.tables import print_report, write_report

    results = result_rows(folder)
    files, grid = write_report(folder, results), write_grid(folder)
    print_report(folder, results, console())
    return [*files, *([grid] if grid else [])]


def _write_cost(folder: RunFolder) -> list[Path]:
    from fc_bench.cost.results import method_costs
    from fc_bench.reports.cost_tables import print_cost_report, write_cost_report

    costs = method_costs(folder)
    files = write_cost_report(folder, costs)
    print_cost_report(folder, costs, console())
    return files
