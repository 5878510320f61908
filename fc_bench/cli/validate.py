"""`fc-bench validate`: check a suite."""

from __future__ import annotations

from typing import Annotated

import typer

from fc_bench.cli.app import Photographs, app, say
from fc_bench.errors import UserError
from fc_bench.quiet_libraries import quiet_libraries


@app.command()
def validate(
    suite: Annotated[str, typer.Argument(help="Name of a suite or path of a suite.yaml.")],
    photographs: Photographs = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Also look at the faces in every photograph and measure every prompt, with this backbone's models.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Check a suite: file, photographs, copies among them; with a backbone also faces and the lengths of prompts."""
    quiet_libraries()
    from fc_bench.commands.validate import findings
    from fc_bench.model.backbones.backbone import read_backbone
    from fc_bench.registry import suite_file
    from fc_bench.suites.suite import read_suite

    checked = read_suite(suite_file(suite), photographs)
    found = findings(checked, read_backbone(backbone) if backbone else None)
    name = f"{checked.file.name} {checked.file.version}"
    blocking = [finding.text for finding in found if finding.blocks]
    for finding in found:
        if len(blocking) > 1 or not finding.blocks:
            say(finding.text)
    if len(blocking) == 1:
        raise UserError(blocking[0])
    if blocking:
        raise UserError(f"{name} cannot be run before {len(blocking)} of the things above are put right.")
    count = sum(len(subject.photographs) for subject in checked.subjects)
    sets = checked.subject_sets()
    images = sum(len(prompts) for _, prompts in sets) * checked.file.images_per_prompt
    looked = f" by the models of {backbone}" if backbone else ""
    say(
        f"{name} is fine{looked}: {len(checked.subjects)} subjects, {count} photographs, {len(sets)} subject sets, "
        f"{images} images per method."
    )
