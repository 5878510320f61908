"""`fc-bench init-suite`: make a suite of one's own people."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import app, print_line
from fc_bench.cli.options import Crop, Offline, go_offline
from fc_bench.quiet_libraries import quiet_libraries


@app.command(name="init-suite")
def init_suite(
    photographs: Annotated[Path, typer.Argument(help="Folder with one folder of photographs per person.")],
    noun: Annotated[
        list[str] | None,
        typer.Option(
            help="Class noun of a person, ada=woman, or of all others, person; repeat for several.", show_default=False
        ),
    ] = None,
    backbone: Annotated[
        str, typer.Option(help="Backbone whose face models detect the faces; it also decides the default of --prompts.")
    ] = "pocket",
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            help="Suite to take prompts from, name or file; repeat for several. If not given: pocket on the backbone "
            "pocket, fastcomposer-single and fastcomposer-multi on others.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the suite; the folder's name if not given.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; <photographs>-suite if not given.", show_default=False)
    ] = None,
    crop: Crop = True,
    offline: Offline = False,
) -> None:
    """Make a suite of your own people from a folder with one folder of photographs per person.

    Photographs are cropped to portraits. A photograph without a face is reported and left out. The first photograph of
    each person is the reference of tuning-free methods. sheet.png shows all portraits; suite.yaml can be edited.
    """
    quiet_libraries()
    go_offline(offline, backbone)
    from fc_bench.commands.init_suite import init_suite as write
    from fc_bench.model.backbones.backbone import read_backbone

    folder = Path(photographs)
    target = out or Path(f"{folder.resolve().name}-suite")
    written = write(folder, target, read_backbone(backbone), noun or [], prompts or [], name, crop)
    for remark in written.remarks:
        print_line(remark)
    counts = ", ".join(f"{person} {count}" for person, count in written.photographs.items())
    print_line(
        f"{written.file}: {len(written.photographs)} people ({counts} photographs), {written.images} images per method."
    )
    print_line(f"fc-bench run {shlex.quote(str(written.file))} --backbone {shlex.quote(backbone)}")
