"""`fc-bench list`: list methods, metrics, suites and backbones."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from fc_bench.cli.app import app, console
from fc_bench.errors import UserError
from fc_bench.quiet_libraries import quiet_libraries


class Listed(str, Enum):
    """The kinds of things that `fc-bench list` shows."""

    methods = "methods"
    metrics = "metrics"
    suites = "suites"
    backbones = "backbones"


@app.command("list")
def list_(
    what: Annotated[Listed | None, typer.Argument(help="Kind to list; all if not given.", show_default=False)] = None,
    name: Annotated[
        str | None, typer.Argument(help="Method whose options to show: list methods NAME.", show_default=False)
    ] = None,
    backbone: Annotated[str, typer.Option(help="Backbone whose values of the options to show.")] = "pocket",
) -> None:
    """List the methods, metrics, suites and backbones, built-in and from plug-ins, or the options of one method."""
    quiet_libraries()
    from fc_bench.commands.list import show_kind, show_options

    if name is None:
        for kind in [what] if what else list(Listed):
            show_kind(kind.value, console())
    elif what is Listed.methods:
        show_options(name, backbone, console())
    else:
        raise UserError(f'Only methods have options; leave out "{name}".')
