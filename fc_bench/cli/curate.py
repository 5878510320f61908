"""`fc-bench curate`: make a training set from a folder of images."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import app, print_line, stay_offline
from fc_bench.cli.options import Offline
from fc_bench.quiet_libraries import quiet_libraries


@app.command()
def curate(
    config: Annotated[Path, typer.Argument(help="YAML file: images, output, and the models (docs/training.md).")],
    offline: Offline = False,
) -> None:
    """Make a training set from a folder of images: captions, masks, and the noun phrase of each mask.

    The same command continues an interrupted curation and adds new images. sheet.png shows a part of the result, so
    that you can check it by eye.
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
    print_line(f"{settings.output}: {', '.join(f'{name} {count}' for name, count in report.items())}.")
    if not report["kept"]:
        print_line("No image is left to train on; the counts show why.")
        return
    print_line(
        f"{settings.output / 'sheet.png'} shows some images. To train on them, put "
        f"`data: {{root: {settings.output}}}` into a recipe."
    )
