"""Calibration of the face embedders on drawn people, published.

    python -m fc_bench.reports.calibrations

draws people whom the pocket recognizer was not trained on and no suite shows, calibrates the embedder of the
backbone `pocket` and dlib's (extra `dlib`, trained on real faces) as `fc-bench audit --photographs` does, and renews
`reports/reference/calibration/` of the checkout and the tables of docs/ that come from there. The threshold in
`pocket.yaml` is the first one's.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console

from fc_bench.audit.photographs import Calibration, calibrate
from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import Backbone, read_backbone
from fc_bench.model.command_line import as_command
from fc_bench.model.errors import ModelInputError
from fc_bench.model.pocket.people import HELD_OUT_RECOGNIZER_PEOPLE, make_person
from fc_bench.model.pocket.render import render_photograph
from fc_bench.progress import progress
from fc_bench.reports.audit.photographs import summary, write_calibration
from fc_bench.reports.reference import REPOSITORY, renew_pages

PEOPLE, SHOTS = 100, 5
FALSE_ACCEPT_RATE = 0.01
TARGET, SUMMARY = Path("reports", "reference", "calibration"), "summary.md"
DLIB = """\
name: drawn
description: the pocket world with dlib's faces
extends: pocket
faces: {name: dlib, kind: dlib}
"""


def draw_people(folder: Path, people: int = PEOPLE, shots: int = SHOTS) -> dict[str, list[tuple[str, Path]]]:
    """Draw `<folder>/<person>/<shot>.png`; person -> subfolder (none) and file of each, as `calibrate` takes them."""
    drawn: dict[str, list[tuple[str, Path]]] = {}
    for number in range(people):
        own = folder / f"person-{number + 1:03d}"
        own.mkdir(parents=True)
        for shot in range(shots):
            file = own / f"{shot + 1}.png"
            picture = render_photograph(make_person(HELD_OUT_RECOGNIZER_PEOPLE[number]), shot)
            Image.fromarray(picture.image).save(file)
            drawn.setdefault(own.name, []).append(("", file))
    return drawn


def backbones(folder: Path) -> list[Backbone]:
    """The backbones whose first embedder is calibrated; the second one's file is written into the folder."""
    file = folder / "drawn.yaml"
    file.write_text(DLIB, encoding="utf-8")
    return [read_backbone("pocket"), read_backbone(str(file))]


def calibrate_drawn(backbone: Backbone, people: dict[str, list[tuple[str, Path]]], console: Console) -> Calibration:
    """The calibration of a backbone's first embedder on drawn people."""
    with progress(console, backbone.faces[0].name, sum(map(len, people.values()))) as show:
        return calibrate(people, backbone, 0, FALSE_ACCEPT_RATE, show)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fc_bench.reports.calibrations", description="Publish calibrations."
    )
    parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        people = draw_people(Path(place, "people"))
        chosen = backbones(Path(place))
        for backbone in chosen:
            backbone.require("faces")
        for backbone in chosen:
            calibration = calibrate_drawn(backbone, people, Console())
            target = REPOSITORY / TARGET / calibration.embedder
            shutil.rmtree(target, ignore_errors=True)
            write_calibration(calibration, target, (".png",))
            (target / SUMMARY).write_text(summary(calibration), encoding="utf-8")
            print(target)
    renew_pages()
    return 0


if __name__ == "__main__":
    sys.exit(as_command(main, refusals=(UserError, ModelInputError))())
