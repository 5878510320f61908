"""`fc-bench compare`: compare a run with a reference run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import app, console
from fc_bench.errors import UserError


@app.command()
def compare(
    base: Annotated[Path, typer.Argument(help="Run folder of the reference.")],
    new: Annotated[Path, typer.Argument(help="Run folder to judge.")],
    gate: Annotated[
        Path | None,
        typer.Option(help="YAML file with tolerances; the headline columns if not given.", show_default=False),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            help="Methods to compare under different names, BASE=NEW; repeat for several.",
            show_default=False,
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="File for the result as JUnit XML.", show_default=False)] = None,
    summary: Annotated[
        Path | None,
        typer.Option(
            help="File to append a Markdown summary to.",
            envvar="GITHUB_STEP_SUMMARY",
            show_default=False,
            show_envvar=True,
        ),
    ] = None,
) -> None:
    """Compare two runs sample by sample; each measure is better, worse, changed, unchanged or not comparable.

    Exit code 0: every change is within its tolerance; 1: one is not; 2: wrong usage; 3: not comparable; 4: incomplete.
    """
    from fc_bench.analysis.comparison import compare as judge
    from fc_bench.analysis.gate import Gate, read_gate
    from fc_bench.reports.comparison import comparison_junit, comparison_markdown, print_comparison
    from fc_bench.run_folder.records import RunFolder, write_atomically

    chosen = read_gate(gate) if gate else Gate()
    found = judge(RunFolder(base), RunFolder(new), chosen, _renamed(method or []))
    print_comparison(found, str(base), str(new), console())
    try:
        if junit:
            write_atomically(junit, comparison_junit(found, str(base), str(new)))
        if summary:
            with summary.open("a", encoding="utf-8") as file:
                file.write(comparison_markdown(found, str(base), str(new)))
    except OSError as error:
        raise UserError(f"The comparison cannot be written ({error}); choose another file.") from None
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def _renamed(pairs: list[str]) -> dict[str, str]:
    """`["fastcomposer=mine"]` -> `{"fastcomposer": "mine"}`; a name in brackets may contain equal signs."""
    renamed: dict[str, str] = {}
    for pair in pairs:
        found = re.fullmatch(r"([^=\[\]]+(?:\[[^\]]*\])?)=(.+)", pair)
        if found is None:
            raise UserError(f'--method "{pair}" is not of the form BASE=NEW, e.g. fastcomposer=my-method.')
        renamed[found[1]] = found[2]
    return renamed
