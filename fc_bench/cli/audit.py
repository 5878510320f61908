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
        Path | None, typer.Option(help="Folder to write; <photographs>-audit if not given.", show_default=False)
    ] = None,
    offline: Offline = False,
) -> None:
    """Say what the numbers are worth: with --photographs, how well a face embedder knows your own people.

    Prints how many faces are found, the cosines of same and other people, and the threshold at a false-accept rate, by
    subfolder; writes tables and a figure. The threshold gives the column `verified` where a backbone or suite has it.
    """
    if context.invoked_subcommand is not None:
        return
    if photographs is None:
        raise UserError("Name a folder with one folder of photographs per person: --photographs FOLDER.")
    quiet_libraries()
    go_offline(offline, backbone)
    from fc_bench.commands.audit_photographs import CalibrationOptions, audit_photographs

    audit_photographs(CalibrationOptions(photographs, backbone, embedder, false_accept_rate, out), console())
