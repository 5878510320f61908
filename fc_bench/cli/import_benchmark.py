"""`fc-bench import`: make a suite of a published benchmark from one's own copy of it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import app, print_line
from fc_bench.layouts import BenchmarkName


@app.command(name="import")
def import_benchmark(
    benchmark: Annotated[BenchmarkName, typer.Argument(help="Name of the benchmark.", show_default=False)],
    folder: Annotated[
        Path, typer.Argument(help="Your copy of it, as its authors publish it; docs/scoring.md.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="File of the suite to write, SUITE.yaml.", show_default=False)],
    subset: Annotated[
        str | None,
        typer.Option(help="Part of the benchmark, for benchmarks with several lists of prompts.", show_default=False),
    ] = None,
    copy: Annotated[
        bool, typer.Option(help="Copy the photographs into a folder beside the suite instead of naming them.")
    ] = False,
) -> None:
    """Make a suite of a published benchmark from your own copy of it: its prompts, people, targets and protocol.

    The suite names the photographs where they are. Nothing of the benchmark is part of fc-bench, and its license holds
    for the suite as well.
    """
    from fc_bench.commands.import_benchmark import ImportOptions
    from fc_bench.commands.import_benchmark import import_benchmark as write

    made = write(ImportOptions(benchmark.value, folder, out, subset, copy))
    for remark in made.remarks:
        print_line(remark)
    print_line(f"{made.file}: {made.subjects} subjects, {made.prompts} prompts.")
    photographs = f" --photographs {shlex.quote(str(made.photographs))}" if made.photographs else ""
    print_line(f"fc-bench run {shlex.quote(str(made.file))}{photographs}")
