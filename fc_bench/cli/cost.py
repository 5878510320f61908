"""`fc-bench cost`: measure the cost of each method, phase by phase."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import EXIT_INCOMPLETE, app, console, print_error
from fc_bench.cli.options import BackboneName, Device, MethodNames, MethodOptions, parse_method_options
from fc_bench.cli.report import write_and_print
from fc_bench.errors import UserError
from fc_bench.quiet_libraries import quiet_libraries

DTYPES = ("float32", "bfloat16", "float16")


@app.command()
def cost(
    method: MethodNames = None,
    backbone: BackboneName = "pocket",
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights", help="Use the backbone's architecture with random weights, without a download."
        ),
    ] = False,
    budget: Annotated[
        str, typer.Option(help="Time to spend, e.g. 90s, 10m or 2h; what does not fit is extrapolated.")
    ] = "4m",
    dtype: Annotated[
        str | None,
        typer.Option(help=f"Number format: {', '.join(DTYPES)}; the backbone's if not given.", show_default=False),
    ] = None,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Run folder; runs/cost-<backbone> if not given.", show_default=False)
    ] = None,
    option: MethodOptions = None,
    memory_limit: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=2**20, help="GiB that a measurement may use; all free memory if not given.", show_default=False
        ),
    ] = None,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Repeat failed measurements.")] = False,
) -> None:
    """Measure time, memory and storage of each method: loading, customization, images and steps, each in a new process.

    The same command continues an interrupted run. With a larger budget it measures what was extrapolated before.
    Without arguments: the methods that the pocket backbone has weights for, in about four minutes on two CPU cores.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f'"{dtype}" is not a number format; give {", ".join(DTYPES[:-1])} or {DTYPES[-1]}.')
    overrides = parse_method_options(option)
    quiet_libraries()
    from fc_bench.cost.measurement import CostOptions, measure
    from fc_bench.model.durations import parse_duration

    outcome = measure(
        CostOptions(
            methods=tuple(method or ()),
            backbone=backbone,
            random_weights=random_weights,
            budget=parse_duration(budget),
            dtype=dtype,  # pyright: ignore[reportArgumentType] (checked above)
            device=device,
            out=out,
            options=overrides,
            memory_limit=int(memory_limit * 2**30) if memory_limit is not None else None,
            retry_errors=retry_errors,
        ),
        console(),
    )
    write_and_print([outcome.folder.path], endings=(".png",))
    if outcome.failed:
        print_error(
            f"incomplete: {outcome.failed} measurements failed; {outcome.folder.path / 'log.txt'} has their output, "
            "--retry-errors repeats them."
        )
        raise typer.Exit(EXIT_INCOMPLETE)
