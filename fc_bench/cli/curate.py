"""`fc-bench curate`: a training set from a folder of images."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import app, say, stay_offline
from fc_bench.quiet_libraries import quiet_libraries


@app.command()
def curate(
    config: Annotated[Path, typer.Argument(help="YAML file: images, output, and the models (docs/training.md).")],
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
) -> None:
    """Make a training set of a folder of images: captions, masks, and the noun phrases that belong to them.

    Stage by stage, image by image: the same command continues an interrupted curation and takes in new images.
    sheet.png shows a part of the result, to check by eye.
    """
    quiet_libraries()
    if offline:
        stay_offline()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    from fc_bench.model.curation.config import load_curation
    from fc_bench.model.curation.curate import curate as execute
    from fc_bench.progress import silence_loading_bars
    from fc_bench.run_folder.lock import held

    silence_loading_bars()
    settings = load_curation(config)
    with held(settings.output):
        report = execute(settings)
    say(f"{settings.output}: {', '.join(f'{name} {count}' for name, count in report.items())}.")
    if not report["kept"]:
        say("No image is left to train on; the counts say why.")
        return
    say(f"{settings.output / 'sheet.png'} shows some; `data: {{root: {settings.output}}}` of a recipe trains on it.")
