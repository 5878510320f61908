"""`fc-bench cost`: what each method costs, phase by phase."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import EXIT_INCOMPLETE, BackboneName, Device, app, console, tell
from fc_bench.cli.report import write_and_print
from fc_bench.cli.run import overrides_of
from fc_bench.errors import UserError
from fc_bench.quiet_libraries import quiet_libraries

DTYPES = ("float32", "bfloat16", "float16")


@app.command()
def cost(
    method: Annotated[
        list[str] | None,
        typer.Option("--method", "-m", help="Method to measure; repeat for several.", show_default=False),
    ] = None,
    backbone: BackboneName = "pocket",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="The backbone's architecture with random weights: no download.")
    ] = False,
    budget: Annotated[
        str, typer.Option(help="Time to spend, e.g. 90s, 10m or 2h; what has no room is extrapolated.")
    ] = "4m",
    dtype: Annotated[
        str | None, typer.Option(help=f"{', '.join(DTYPES)}; the backbone's if not given.", show_default=False)
    ] = None,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Run folder; runs/cost-<backbone> if not given.", show_default=False)
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="Option of a method, e.g. dreambooth.steps=400.", show_default=False),
    ] = None,
    memory_limit: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=2**20, help="GiB that a measurement may use; what is free if not given.", show_default=False
        ),
    ] = None,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Make failed measurements again.")] = False,
) -> None:
    """Measure load, customization, images, steps, memory and storage of each method, each phase in a fresh process.

    The same command continues an interrupted run; with a larger budget it measures what was extrapolated before.
    Without arguments: every built-in method on the pocket backbone, in about four minutes on two CPU cores.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f'"{dtype}" is no number format; give {", ".join(DTYPES[:-1])} or {DTYPES[-1]}.')
    overrides = overrides_of(option or [])
    quiet_libraries()
    from fc_bench.cost.measuring import CostOptions, measure
    from fc_bench.model.durations import parse_duration

    defaults = CostOptions()
    outcome = measure(
        CostOptions(
            methods=tuple(method) if method else defaults.methods,
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
        tell(
            f"incomplete: {outcome.failed} measurements failed, {outcome.folder.path / 'log.txt'} has what "
            "they said; --retry-errors makes them again."
        )
        raise typer.Exit(EXIT_INCOMPLETE)
