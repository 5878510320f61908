"""`fc-bench compose`: pictures of one's own people at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import (
    BackboneName,
    Crop,
    Device,
    Offline,
    app,
    console,
    go_offline,
    open_in_browser,
    say,
)
from fc_bench.cli.run import overrides_of
from fc_bench.errors import UserError
from fc_bench.quiet_libraries import quiet_libraries


@app.command()
def compose(
    prompt: Annotated[str, typer.Argument(help='What to show, each subject as {ID}: "a {ada} and a {bo} cooking".')],
    subject: Annotated[
        list[str] | None,
        typer.Option(
            "--subject",
            "-s",
            help="Somebody: ID=PHOTOGRAPH:NOUN or ID=FOLDER:NOUN, e.g. ada=ada.jpg:woman; repeat for several.",
            show_default=False,
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the steps that see the subjects: more likeness, less of the prompt; the backbone's if not "
            "given.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[int, typer.Option("--images", "-n", min=1, max=10_000, help="Pictures to make.")] = 4,
    method: Annotated[str, typer.Option("--method", "-m", help="Method to make them with.")] = "fastcomposer",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="Option of the method, e.g. fastcomposer.alpha=0.6.", show_default=False),
    ] = None,
    backbone: BackboneName = "pocket",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Another seed gives other pictures.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Sampler steps; the backbone's if not given.", show_default=False),
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(min=0, max=100, help="The backbone's if not given.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the pictures; composed/<prompt>-<hash> if not given.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="Pictures made together.")] = 4,
    device: Device = "auto",
    crop: Crop = True,
    scores: Annotated[
        bool, typer.Option("--scores/--no-scores", help="Measure identity and prompt consistency of each picture.")
    ] = True,
    show: Annotated[bool, typer.Option("--open", help="Open the sheet of all pictures.")] = False,
    offline: Offline = False,
) -> None:
    """Make pictures of your own people from their photographs; the same command with more --images adds some.

    The photographs are cropped to portraits (`references/` keeps them as the method got them), pictures, scores and a
    sheet of everything go into one folder.
    """
    overrides = overrides_of(option or [])
    for name in overrides:
        if name != method:
            raise UserError(f'Options are given for "{name}", but the pictures are made with "{method}".')
    chosen = overrides.get(method, {})
    if alpha is not None:
        if method != "fastcomposer":
            raise UserError(f'--alpha is of fastcomposer; leave it out, or give "{method}" its own options with -o.')
        chosen = {**chosen, "alpha": alpha}
    quiet_libraries()
    go_offline(offline, backbone)
    from fc_bench.commands.compose import SHEET, ComposeOptions, shown_scores
    from fc_bench.commands.compose import compose as execute
    from fc_bench.suites.slots import parse_subject

    composed = execute(
        ComposeOptions(
            prompt=prompt,
            subjects=tuple(map(parse_subject, subject or [])),
            method=method,
            options=chosen,
            backbone=backbone,
            images=images,
            seed=seed,
            steps=steps,
            guidance_scale=guidance_scale,
            device=device,
            batch_size=batch_size,
            out=out,
            crop=crop,
            scores=scores,
        ),
        console(),
    )
    for remark in composed.remarks:
        say(remark)
    for picture in composed.pictures:
        told = "".join(f", {score}" for score in shown_scores(picture))
        say(f"{picture.file}: seed {picture.seed}{told}")
    say(f"{composed.folder / SHEET} shows them all.")
    if show:
        open_in_browser(composed.folder / SHEET)
