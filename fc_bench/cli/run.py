"""`fc-bench run`: generate and score."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fc_bench.builtin import QUICK_METHODS, QUICK_SUBJECTS, default_methods
from fc_bench.cli.app import app, print_line
from fc_bench.cli.options import LARGEST_COUNT, GenerationOptions, MethodNames, SuiteName, with_generation_options
from fc_bench.cli.report import write_and_print
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.quiet_libraries import quiet_libraries

if TYPE_CHECKING:
    from fc_bench.commands.session import Outcome


@app.command()
@with_generation_options
def run(
    suite: SuiteName = "pocket",
    method: MethodNames = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; runs/<suite>-<backbone> if not given.", show_default=False)
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Only two people and three methods, in about a minute; a later run continues."),
    ] = False,
    *,
    generation: GenerationOptions,
    keep_artefacts: Annotated[
        bool, typer.Option("--keep-artefacts", help="Keep the artefact that a method stores for each subject set.")
    ] = False,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=LARGEST_COUNT,
            help="Save a checkpoint every N tuning steps; an interrupted run continues from it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Generate and score a suite's images with each method; the same command continues an interrupted run.

    Without arguments: the suite pocket with every method that its backbone has weights for, in about six minutes on
    two CPU cores.
    """
    quiet_libraries()
    methods = tuple(method or ())
    if quick:
        methods = methods or default_methods(read_backbone(generation.backbone), QUICK_METHODS)
        generation = replace(generation, limit_subjects=generation.limit_subjects or QUICK_SUBJECTS)
    options = generation.run_options(
        suite=suite, methods=methods, out=out, keep_artefacts=keep_artefacts, checkpoint_every=checkpoint_every
    )
    generation.execute(options, _write_report)


def _write_report(outcome: Outcome) -> None:
    path = outcome.folder.path
    write_and_print([path], families=("grid",), endings=(".png",))
    print_line(f"fc-bench report {shlex.quote(str(path))} draws the figures.")
