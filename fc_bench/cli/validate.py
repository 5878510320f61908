"""`fc-bench validate`: check a suite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import app, say


@app.command()
def validate(
    suite: Annotated[str, typer.Argument(help="Name of a suite or path of a suite.yaml.")],
    photographs: Annotated[
        Path | None,
        typer.Option(help="Folder of the subjects' photographs, for a suite that ships none.", show_default=False),
    ] = None,
) -> None:
    """Check a suite: the file, every photograph, every prompt slot. Needs no weights."""
    from fc_bench.photographs import read_photograph
    from fc_bench.registry import load, suite_file
    from fc_bench.suite import read_suite

    checked = read_suite(suite_file(suite), photographs)
    for name in checked.file.metrics:
        load("metrics", name)
    files = [path for subject in checked.subjects for path in subject.photographs]
    for path in files:
        read_photograph(path)
    sets = checked.subject_sets()
    images = sum(len(prompts) for _, prompts in sets) * checked.file.images_per_prompt
    say(
        f"{checked.file.name} {checked.file.version} is fine: {len(checked.subjects)} subjects, "
        f"{len(files)} photographs, {len(sets)} subject sets, {images} images per method."
    )
