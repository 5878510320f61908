"""`fc-bench audit power`: how many people, prompts and seeds a difference needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import console
from fc_bench.cli.audit import audit_app


@audit_app.command()
def power(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, which serves as the pilot.")],
    column: Annotated[str, typer.Option(help="Name of the measured column.")] = "identity",
    difference: Annotated[float, typer.Option(help="Difference between two methods to plan for.")] = 0.02,
    power: Annotated[float, typer.Option(help="Probability that the test finds that difference.")] = 0.8,
    method: Annotated[
        str | None, typer.Option("--method", "-m", help="Compare this method alone.", show_default=False)
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Method to compare with; all of the run if not given.", show_default=False)
    ] = None,
    subjects: Annotated[
        int | None,
        typer.Option(min=1, max=8, help="Subjects in an image; the run's fewest if not given.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; report/ in the run folder if not given.", show_default=False)
    ] = None,
) -> None:
    """Say how many people, prompts and images a prompt a difference needs, judged by what varies in a finished run.

    The test is the one of the tables: paired differences, sign flips over people (or sets of them) at 5 %.
    """
    from fc_bench.commands.audit_power import PowerOptions, audit_power

    audit_power(PowerOptions(run, column, difference, power, method, against, subjects, out), console())
