"""`fc-bench doctor`: check the installation."""

from __future__ import annotations

from typing import Annotated

import typer

from fc_bench.cli.app import app, console
from fc_bench.quiet_libraries import quiet_libraries


@app.command()
def doctor(
    backbone: Annotated[
        str | None, typer.Option(help="Check only this backbone (name or path); all if not given.", show_default=False)
    ] = None,
    checksums: Annotated[bool, typer.Option(help="Compute the sha256 of every file.")] = True,
) -> None:
    """Show versions, hardware, and every file that the backbones need, with size, sha256 and license.

    Exit code 2 if a file of the named backbone (pocket if none is named) is missing.
    """
    quiet_libraries()
    from fc_bench.commands.doctor import examine

    examine(backbone, checksums, console())
