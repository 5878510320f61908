"""`fc-bench doctor`: what is installed and what is missing."""

from __future__ import annotations

from typing import Annotated

import typer

from fc_bench.cli.app import app, console
from fc_bench.quiet_libraries import quiet_libraries


@app.command()
def doctor(
    backbone: Annotated[
        str | None, typer.Option(help="Only this backbone (name or path); all if not given.", show_default=False)
    ] = None,
    checksums: Annotated[bool, typer.Option(help="Compute the sha256 of every file.")] = True,
) -> None:
    """Show what is installed, the hardware, and every file the backbones need: present, size, sha256, license.

    Exit code 2 when a file of the named backbone (pocket if none is named) is missing.
    """
    quiet_libraries()
    from fc_bench.commands.doctor import examine

    examine(backbone, checksums, console())
