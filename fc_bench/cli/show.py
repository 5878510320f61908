"""`fc-bench show`: show the record of one sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import app, console, open_in_browser, print_line


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    sample: Annotated[str, typer.Argument(help="Id of a sample, the first characters of its id, or its image file.")],
    open_: Annotated[
        bool, typer.Option("--open", help="Draw the detected faces into a copy of the image in RUN/report and open it.")
    ] = False,
) -> None:
    """Print the record of a sample: prompt, seed, scores, faces, failure, and the command that generates it again."""
    from fc_bench.reports.one_sample import print_sample, write_with_boxes
    from fc_bench.reports.samples import find_sample
    from fc_bench.run_folder.records import RunFolder

    folder = RunFolder(run)
    settings = folder.settings()
    view = find_sample(folder, sample)
    print_sample(folder, settings, view, console())
    if open_:
        drawn = write_with_boxes(folder, view)
        print_line(f"wrote {drawn}")
        open_in_browser(drawn)
