"""`fc-bench init-suite`: a suite of one's own people."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import Crop, Offline, app, go_offline, say
from fc_bench.quiet_libraries import quiet_libraries


@app.command(name="init-suite")
def init_suite(
    photographs: Annotated[Path, typer.Argument(help="Folder that has a folder of photographs for each person.")],
    noun: Annotated[
        list[str] | None,
        typer.Option(
            help="What stands in prompts for somebody, ada=woman, or for everybody else, person.", show_default=False
        ),
    ] = None,
    backbone: Annotated[
        str, typer.Option(help="Backbone whose face models find the faces, and whose prompts are taken.")
    ] = "pocket",
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            help="Suite whose prompts are taken, name or file; repeat for several. pocket on the backbone pocket, else "
            "fastcomposer-single and fastcomposer-multi.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the suite; the folder's if not given.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; <photographs>-suite if not given.", show_default=False)
    ] = None,
    crop: Crop = True,
    offline: Offline = False,
) -> None:
    """Make a suite of your own people: a folder with a folder of photographs for each of them.

    Photographs are cropped to portraits; one without a face is named and left out. The first of each person is the
    reference of methods that do not tune. sheet.png shows all of them, suite.yaml can be edited.
    """
    quiet_libraries()
    go_offline(offline, backbone)
    from fc_bench.commands.init_suite import init_suite as write
    from fc_bench.model.backbones.backbone import read_backbone

    folder = Path(photographs)
    target = out or Path(f"{folder.resolve().name}-suite")
    written = write(folder, target, read_backbone(backbone), noun or [], prompts or [], name, crop)
    for remark in written.remarks:
        say(remark)
    counts = ", ".join(f"{person} {count}" for person, count in written.photographs.items())
    say(f"{written.file}: {len(written.photographs)} people ({counts} photographs), {written.images} images a method.")
    say(f"fc-bench run {shlex.quote(str(written.file))} --backbone {shlex.quote(backbone)}")
