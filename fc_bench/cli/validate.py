"""`fc-bench validate`: check a suite."""

from __future__ import annotations

from typing import Annotated

import typer

from fc_bench.cli.app import app, print_line
from fc_bench.cli.options import Photographs, SuiteName
from fc_bench.errors import UserError
from fc_bench.quiet_libraries import quiet_libraries


@app.command()
def validate(
    suite: SuiteName,
    photographs: Photographs = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Backbone whose models also check the face in every photograph and the length of every prompt.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Check a suite: its file, its photographs and copies among them, with --backbone also faces and prompt lengths."""
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
            print_line(finding.text)
    if len(blocking) == 1:
        raise UserError(blocking[0])
    if blocking:
        raise UserError(f"{name} cannot be run yet; fix the {len(blocking)} errors above.")
    count = sum(len(subject.photographs) for subject in checked.subjects)
    sets = checked.subject_sets()
    images = sum(len(prompts) for _, prompts in sets) * checked.file.images_per_prompt
    checked_with = f" by the models of {backbone}" if backbone else ""
    print_line(
        f"{name} is fine{checked_with}: {len(checked.subjects)} subjects, {count} photographs, "
        f"{len(sets)} subject sets, {images} images per method."
    )
