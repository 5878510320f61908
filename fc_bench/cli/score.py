"""`fc-bench score`: measure images made elsewhere."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import (
    Device,
    FailOnError,
    ImagesPerPrompt,
    LimitSubjects,
    Offline,
    Photographs,
    app,
    console,
    exit_if_incomplete,
    go_offline,
    tolerated_failures,
)
from fc_bench.cli.report import write_and_print
from fc_bench.quiet_libraries import quiet_libraries


class Naming(str, Enum):
    """Layouts whose file names say which image is which."""

    fastcomposer = "fastcomposer"


@app.command()
def score(
    images: Annotated[
        Path, typer.Argument(help="Folder of the images, or a run folder, which says itself which is which.")
    ],
    suite: Annotated[str, typer.Option(help="Suite they were made for: a name or the path of a suite.yaml.")],
    layout: Annotated[
        Naming | None,
        typer.Option(
            help="Whose file names they have; fastcomposer: subject_0000_prompt_0000_instance_0000.jpg.",
            show_default=False,
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Instead: CSV file with the columns image, subjects, prompt (and index, method).", show_default=False
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            help="Name of their row; the folder's if not given (a run's rows keep theirs).",
            show_default=False,
        ),
    ] = None,
    backbone: Annotated[str, typer.Option(help="Whose CLIP and face models measure.")] = "pocket",
    out: Annotated[
        Path | None, typer.Option(help="Run folder; runs/<suite>-<method> if not given.", show_default=False)
    ] = None,
    photographs: Photographs = None,
    limit_subjects: LimitSubjects = None,
    images_per_prompt: ImagesPerPrompt = None,
    device: Device = "auto",
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Try failed scores again.")] = False,
    fail_on_error: FailOnError = "0",
    offline: Offline = False,
) -> None:
    """Measure images made elsewhere as if fc-bench had made them; the result is a run folder like any other.

    Exit code 4 when images that the suite asks for are missing or unreadable, or a score failed.
    """
    tolerated = tolerated_failures(fail_on_error)
    quiet_libraries()
    go_offline(offline, backbone)
    from fc_bench.commands.score import ScoreOptions, score_elsewhere

    outcome = score_elsewhere(
        ScoreOptions(
            images=images,
            suite=suite,
            layout=layout.value if layout else None,
            manifest=manifest,
            method=method,
            backbone=backbone,
            out=out,
            photographs=photographs,
            limit_subjects=limit_subjects,
            images_per_prompt=images_per_prompt,
            device=device,
            retry_errors=retry_errors,
        ),
        console(),
    )
    write_and_print([outcome.folder.path], families=("grid",), endings=(".png",))
    exit_if_incomplete(outcome, tolerated)
