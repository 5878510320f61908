"""`fc-bench audit`: what the numbers are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import app, console
from fc_bench.cli.options import BackboneName, Offline, go_offline
from fc_bench.errors import UserError
from fc_bench.quiet_libraries import quiet_libraries

audit_app = typer.Typer()
app.add_typer(audit_app, name="audit")


@audit_app.callback(invoke_without_command=True)
def audit(
    context: typer.Context,
    photographs: Annotated[
        Path | None,
        typer.Option(
            help="Folder with one folder of photographs per person, for the calibration of a face embedder; subfolders "
            "of a person (styles, cameras) are reported apart.",
            show_default=False,
        ),
    ] = None,
    backbone: BackboneName = "pocket",
    embedder: Annotated[
        str | None,
        typer.Option(help="Name of one of the backbone's face models; the first if not given.", show_default=False),
    ] = None,
    false_accept_rate: Annotated[
        float, typer.Option(help="Share of pairs of different people that the threshold may accept.")
    ] = 0.01,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write; runs/audit or <photographs>-audit if not given.", show_default=False),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="Metric to examine; repeat for several, all if not given.", show_default=False),
    ] = None,
    people: Annotated[int, typer.Option(min=1, max=5000, help="Number of drawn people to examine metrics on.")] = 54,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Number of pictures of each person and level.")] = 2,
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Number of processes; one per core if not given.", show_default=False),
    ] = None,
    offline: Offline = False,
) -> None:
    """Say what the numbers are worth: what each metric sees and misses in drawn pictures of which all is known.

    Writes a card of each metric and a page of all cards. With --photographs instead, how well a face embedder knows
    your own people: faces found, cosines of same and other people, the threshold at a false-accept rate, by subfolder.
    The threshold gives the column `verified` where a backbone or suite has it.
    """
    if context.invoked_subcommand is not None:
        return
    quiet_libraries()
    go_offline(offline, backbone)
    if photographs is None:
        if embedder is not None:
            raise UserError("--embedder chooses what --photographs calibrates; metrics are examined with all of them.")
        from fc_bench.commands.audit import AuditOptions
        from fc_bench.commands.audit import audit as audit_metrics

        folder = Path("runs/audit") if out is None else out
        audit_metrics(AuditOptions(metrics or (), backbone, people, seeds, processes, folder), console())
        return
    if metrics:
        raise UserError("--metrics chooses what is examined on drawn pictures; leave it out with --photographs.")
    from fc_bench.commands.audit_photographs import CalibrationOptions, audit_photographs

    audit_photographs(CalibrationOptions(photographs, backbone, embedder, false_accept_rate, out), console())
