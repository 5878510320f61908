"""`fc-bench sweep`: what an option of a method does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import (
    Address,
    BackboneName,
    BatchSize,
    Compile,
    Device,
    DryRun,
    ExecutorName,
    FailOnError,
    GpusPerJob,
    ImagesPerPrompt,
    LimitSubjects,
    Offline,
    Photographs,
    RetryErrors,
    SharedPrefixes,
    Workers,
    app,
    batch_size_of,
    cluster_of,
    console,
    exit_if_incomplete,
    go_offline,
    say,
    say_planned,
    tolerated_failures,
)
from fc_bench.cli.report import write_and_print
from fc_bench.cli.run import overrides_of
from fc_bench.errors import UserError
from fc_bench.quiet_libraries import quiet_libraries


@app.command()
def sweep(
    context: typer.Context,
    option: Annotated[
        str | None, typer.Argument(help="METHOD.OPTION, e.g. fastcomposer.alpha.", show_default=False)
    ] = None,
    values: Annotated[
        str | None,
        typer.Argument(help="START:STOP:STEP, e.g. 0:1:0.1, or a list, e.g. 50,100,200.", show_default=False),
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option(help="Instead: a YAML file of settings to try; writes the table beside it.", show_default=False),
    ] = None,
    suite: Annotated[str, typer.Option(help="Name of a suite or path of a suite.yaml.")] = "pocket",
    backbone: BackboneName = "pocket",
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; runs/sweep-<suite>-<METHOD.OPTION> if not given.", show_default=False),
    ] = None,
    other: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="Another option of the method, the same for all rows.", show_default=False),
    ] = None,
    photographs: Photographs = None,
    limit_subjects: LimitSubjects = None,
    images_per_prompt: ImagesPerPrompt = None,
    batch_size: BatchSize = "auto",
    device: Device = "auto",
    compiled: Compile = False,
    retry_errors: RetryErrors = False,
    fail_on_error: FailOnError = "0",
    offline: Offline = False,
    shared_prefixes: SharedPrefixes = True,
    executor: ExecutorName = "local",
    address: Address = None,
    gpus_per_job: GpusPerJob = None,
    workers: Workers = None,
    dry_run: DryRun = False,
) -> None:
    """Run a method with each value of an option, text-only beside it, and draw what the option does.

    Interrupted, the same command continues; other values of the same option join the same folder.
    """
    if grid is not None:
        given = [option] if option is not None else _given(context)
        if given:
            raise UserError(f"A grid says itself what is run, and how; leave {' '.join(given)} or --grid out.")
        quiet_libraries()
        from fc_bench.commands.sweep import run_grid

        say(f"wrote {run_grid(grid, out or _grid_folder(grid), console())}")
        return
    if option is None or values is None:
        raise UserError(
            "Name an option and its values: fc-bench sweep fastcomposer.alpha 0:1:0.1; or give --grid FILE."
        )
    overrides, tolerated = overrides_of(other or []), tolerated_failures(fail_on_error)
    quiet_libraries()
    go_offline(offline, backbone)
    from fc_bench.commands.run import RunOptions, prepare
    from fc_bench.commands.run import run as execute
    from fc_bench.commands.sweep import range_options

    asked = RunOptions(
        suite=suite,
        backbone=backbone,
        out=out or Path("runs") / f"sweep-{Path(suite).stem}-{option}",
        photographs=photographs,
        options=overrides,
        limit_subjects=limit_subjects,
        images_per_prompt=images_per_prompt,
        batch_size=batch_size_of(batch_size),
        device=device,
        compiled=compiled,
        retry_errors=retry_errors,
        share_prefixes=shared_prefixes,
        cluster=cluster_of(executor, address, gpus_per_job, workers, device),
    )
    asked = range_options(option, values, asked)
    if dry_run:
        say_planned(prepare(asked))
        return
    outcome = execute(asked, console())
    files = write_and_print([outcome.folder.path], families=("grid", "sweep"))
    if not any(file.name.startswith("sweep-") for file in files):
        say(f"There is no figure of {option}: it takes three values that are numbers and have results.")
    exit_if_incomplete(outcome, tolerated)


def _given(context: typer.Context) -> list[str]:
    """The options of the command line that a grid does not take."""
    return [
        parameter.opts[0]
        for parameter in context.command.params
        if getattr(context.get_parameter_source(str(parameter.name)), "name", "") == "COMMANDLINE"
        and parameter.name not in ("grid", "out")
    ]


def _grid_folder(file: Path) -> Path:
    return Path("runs") / f"sweep-{file.resolve().parent.name}-{file.stem}"
