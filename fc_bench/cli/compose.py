"""`fc-bench compose`: generate pictures of one's own people without a suite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import app, console, open_in_browser, print_line
from fc_bench.cli.options import (
    BackboneName,
    Crop,
    Device,
    MethodOptions,
    Offline,
    go_offline,
    parse_method_options,
)
from fc_bench.errors import UserError
from fc_bench.quiet_libraries import quiet_libraries


@app.command()
def compose(
    prompt: Annotated[
        str, typer.Argument(help='Prompt that names each subject as {ID}: "a {ada} and a {bo} cooking".')
    ],
    subject: Annotated[
        list[str] | None,
        typer.Option(
            "--subject",
            "-s",
            help="Subject as ID=PHOTOGRAPH:NOUN or ID=FOLDER:NOUN, e.g. ada=ada.jpg:woman; repeat for several.",
            show_default=False,
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the steps with subject conditioning; more raises identity and lowers prompt consistency. "
            "The backbone's if not given.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[int, typer.Option("--images", "-n", min=1, max=10_000, help="Number of pictures.")] = 4,
    method: Annotated[str, typer.Option("--method", "-m", help="Name of the method.")] = "fastcomposer",
    option: MethodOptions = None,
    backbone: BackboneName = "pocket",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the pictures.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Sampler steps; the backbone's if not given.", show_default=False),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Guidance scale; the backbone's if not given.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the pictures; composed/<prompt>-<hash> if not given.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="Pictures generated together.")] = 4,
    device: Device = "auto",
    crop: Crop = True,
    scores: Annotated[
        bool, typer.Option("--scores/--no-scores", help="Measure identity and prompt consistency of each picture.")
    ] = True,
    show: Annotated[bool, typer.Option("--open", help="Open the contact sheet of all pictures.")] = False,
    offline: Offline = False,
) -> None:
    """Generate pictures of your own people from their photographs; repeat the command with more --images to add some.

    The photographs are cropped to portraits, which are kept in references/. The pictures, their scores and a contact
    sheet are written to one folder.
    """
    overrides = parse_method_options(option)
    for name in overrides:
        if name != method:
            raise UserError(f'The option is for "{name}", but the method is "{method}"; correct --option or --method.')
    chosen = overrides.get(method, {})
    if alpha is not None:
        if method != "fastcomposer":
            raise UserError(
                f'--alpha is an option of fastcomposer; leave it out, or set options of "{method}" with -o.'
            )
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
        print_line(remark)
    for picture in composed.pictures:
        scores_text = "".join(f", {score}" for score in shown_scores(picture))
        print_line(f"{picture.file}: seed {picture.seed}{scores_text}")
    print_line(f"{composed.folder / SHEET} shows them all.")
    if show:
        open_in_browser(composed.folder / SHEET)
