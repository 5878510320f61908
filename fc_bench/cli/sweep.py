"""`fc-bench sweep`: run a method with several values of an option."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fc_bench.cli.app import app, console, print_line
from fc_bench.cli.options import GenerationOptions, SuiteOption, with_generation_options
from fc_bench.cli.report import write_and_print
from fc_bench.errors import UserError
from fc_bench.quiet_libraries import quiet_libraries

if TYPE_CHECKING:
    from fc_bench.commands.session import Outcome


@app.command()
@with_generation_options
def sweep(
    context: typer.Context,
    option_name: Annotated[
        str | None, typer.Argument(metavar="option", help="METHOD.OPTION, e.g. fastcomposer.alpha.", show_default=False)
    ] = None,
    values: Annotated[
        str | None,
        typer.Argument(help="START:STOP:STEP, e.g. 0:1:0.1, or a list, e.g. 50,100,200.", show_default=False),
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option(help="YAML file of settings to try instead; the table is written beside it.", show_default=False),
    ] = None,
    suite: SuiteOption = "pocket",
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; runs/sweep-<suite>-<METHOD.OPTION> if not given.", show_default=False),
    ] = None,
    *,
    generation: GenerationOptions,
) -> None:
    """Run a method with each value of an option, and text-only for comparison; plot the effect of the option.

    The same command continues an interrupted sweep. Other values of the same option are added to the same folder. An
    --option of the method holds for all values.
    """
    quiet_libraries()
    if grid is not None:
        given = [option_name] if option_name is not None else _given_options(context)
        if given:
            raise UserError(f"The grid file defines the whole run; leave out {' '.join(given)} or --grid.")
        from fc_bench.commands.sweep import run_grid

        print_line(f"wrote {run_grid(grid, out or _grid_folder(grid), console())}")
        return
    if option_name is None or values is None:
        raise UserError(
            "Name an option and its values: fc-bench sweep fastcomposer.alpha 0:1:0.1; or give --grid FILE."
        )
    folder = out or Path("runs") / f"sweep-{Path(suite).stem}-{option_name}"
    options = generation.run_options(suite=suite, out=folder)
    from fc_bench.commands.sweep import range_options

    def write_report(outcome: Outcome) -> None:
        files = write_and_print([outcome.folder.path], families=("grid", "sweep"))
        if not any(file.name.startswith("sweep-") for file in files):
            print_line(f"There is no figure of {option_name}: it needs results for three numeric values.")

    generation.execute(range_options(option_name, values, options), write_report)


def _given_options(context: typer.Context) -> list[str]:
    """The options on the command line that cannot be combined with a grid."""
    return [
        parameter.opts[0]
        for parameter in context.command.params
        if getattr(context.get_parameter_source(str(parameter.name)), "name", "") == "COMMANDLINE"
        and parameter.name not in ("grid", "out")
    ]


def _grid_folder(file: Path) -> Path:
    return Path("runs") / f"sweep-{file.resolve().parent.name}-{file.stem}"
