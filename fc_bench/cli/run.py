"""`fc-bench run`: generate and score."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from fc_bench.cli.app import (
    MOST,
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
from fc_bench.errors import UserError
from fc_bench.model.errors import ModelInputError
from fc_bench.quiet_libraries import quiet_libraries


@app.command()
def run(
    suite: Annotated[
        str, typer.Argument(help="Name of a suite (fc-bench list suites) or path of a suite.yaml.")
    ] = "pocket",
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Method to run; repeat for several.", show_default=False)
    ] = None,
    backbone: BackboneName = "pocket",
    out: Annotated[
        Path | None, typer.Option(help="Run folder; runs/<suite>-<backbone> if not given.", show_default=False)
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="Option of a method, e.g. fastcomposer.alpha=0.6.", show_default=False),
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
    keep_artefacts: Annotated[
        bool, typer.Option("--keep-artefacts", help="Keep what methods store per subject set.")
    ] = False,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST,
            help="Have tuning keep checkpoints each N steps to go on from if interrupted.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Generate and score a suite's images with each method; the same command continues an interrupted run.

    Without arguments: the suite pocket with every built-in method, in about eight minutes on two CPU cores.
    """
    overrides, tolerated = overrides_of(option or []), tolerated_failures(fail_on_error)
    quiet_libraries()
    go_offline(offline, backbone)
    from fc_bench.commands.run import RunOptions, prepare
    from fc_bench.commands.run import run as execute

    defaults = RunOptions()
    asked = RunOptions(
        suite=suite,
        methods=tuple(method) if method else defaults.methods,
        backbone=backbone,
        out=out,
        photographs=photographs,
        options=overrides,
        limit_subjects=limit_subjects,
        images_per_prompt=images_per_prompt,
        batch_size=batch_size_of(batch_size),
        device=device,
        compiled=compiled,
        retry_errors=retry_errors,
        keep_artefacts=keep_artefacts,
        checkpoint_every=checkpoint_every,
        share_prefixes=shared_prefixes,
        cluster=cluster_of(executor, address, gpus_per_job, workers, device),
    )
    if dry_run:
        say_planned(prepare(asked))
        return
    outcome = execute(asked, console())
    path = outcome.folder.path
    write_and_print([path], families=("grid",), endings=(".png",))
    say(f"fc-bench report {shlex.quote(str(path))} draws the figures.")
    exit_if_incomplete(outcome, tolerated)


def overrides_of(pairs: list[str]) -> dict[str, dict[str, Any]]:
    """`["fastcomposer.alpha=0.6"]` -> `{"fastcomposer": {"alpha": 0.6}}`; values are read as YAML."""
    from fc_bench.model.yaml_file import read_value

    overrides: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        if pair.endswith("="):
            raise UserError(f'The option "{pair}" has no value; give one, or null for none.')
        name, equals, value = pair.partition("=")
        method, dot, key = name.strip().rpartition(".")
        if not (equals and dot and method and key):
            raise UserError(f'The option "{pair}" is not of the form METHOD.OPTION=VALUE, e.g. fastcomposer.alpha=0.6.')
        try:
            overrides.setdefault(method, {})[key] = read_value(value)
        except ModelInputError as error:
            problem = str(error).rstrip(".")
            raise UserError(f'The value of the option "{pair}" cannot be read ({problem}); quote it.') from None
    return overrides
