"""Planted cases under the published protocols: drawn, scored by `fc-bench score` like a method's images, and published.

    python -m fc_bench.reports.planted

draws the cases of `model/pocket/cases.py` for the requests of the suites `pocket-planted-single` and `-multi`, and
renews `reports/reference/protocols-planted/` of the checkout and the tables of docs/ that come from there. The folder
of each number of subjects holds the tables, the scores of each image, and one picture of each case.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import count, product
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from fc_bench import registry
from fc_bench.errors import UserError
from fc_bench.model.command_line import as_command
from fc_bench.model.errors import ModelInputError
from fc_bench.model.pocket.canvas import SIZE
from fc_bench.model.pocket.cases import CASES, Request
from fc_bench.model.pocket.render import scene_of
from fc_bench.model.pocket.subjects import suite_people
from fc_bench.protocols import fill
from fc_bench.reports.quality.side_by_side import ProtocolRun, beside_the_first
from fc_bench.reports.reference import REPOSITORY, publish_protocols, renew_pages
from fc_bench.reports.report import read
from fc_bench.reports.tables.markdown import markdown_table
from fc_bench.suites.suite import read_suite

SUITES = {1: "pocket-planted-single", 2: "pocket-planted-multi"}
"""Number of subjects -> the suite that requests them."""
FOLDERS = {1: "one-subject", 2: "two-subjects"}
MANIFEST, IMAGES, RUN = "manifest.csv", "images", "run"
SUMMARY, SCORES, SHEET = "summary.md", "scores.csv", "cases.png"
SHEET_COLUMNS, LINE = 3, 14
"""Pictures in a row of the sheet, and the height of the line below each in pixels."""


def draw_cases(size: int, folder: Path, limit: int | None = None) -> None:
    """Draw every case of each request of a suite below `folder`, with the manifest for `fc-bench score`.

    `limit` keeps the requests of the suite's first subjects.
    """
    people, suite = suite_people(), read_suite(registry.suite_file(SUITES[size]))
    (folder / IMAGES).mkdir(parents=True)
    with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "method", "subjects", "prompt", "index"))
        numbers = count()
        for subject_set, prompts in suite.subject_sets(limit):
            shown = tuple(people[subject.id] for subject in subject_set.subjects)
            for prompt, index in product(prompts, range(suite.file.images_per_prompt)):
                text = fill(prompt.template, [person.noun for person in shown])
                request = Request(shown, scene_of(text, shown), next(numbers))
                for name, draw in CASES[size].items():
                    image = f"{request.number:03d} {name}.png"
                    Image.fromarray(draw(request)).save(folder / IMAGES / image)
                    writer.writerow((image, name, subject_set.key, prompt.template, index))


def score_cases(size: int, folder: Path, limit: int | None = None) -> int:
    """Score the cases drawn in `folder` by `fc-bench score`; returns its exit code, after its own message."""
    command = ["score", IMAGES, "--suite", SUITES[size], "--manifest", MANIFEST, "--out", RUN]
    command += [] if limit is None else ["--limit-subjects", str(limit)]
    return subprocess.run(
        [sys.executable, "-m", "fc_bench.cli", *command], cwd=folder, stdout=subprocess.DEVNULL
    ).returncode


def publish_cases(folder: Path, target: Path) -> None:
    """Write tables and scores of scored cases into `target`, with one picture of each case.

    Raises UserError if the cases in `folder` are not scored.
    """
    runs = read([folder / RUN])
    publish_protocols(runs, target)
    (table,) = beside_the_first(runs.quality)
    scores_of_images(folder / RUN).to_csv(target / SCORES, index=False, float_format="%.4f")
    (target / SUMMARY).write_text(markdown_table(table) + "\n", encoding="utf-8")
    with (folder / MANIFEST).open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    names = list(dict.fromkeys(line["method"] for line in lines))
    _sheet([(line["method"], folder / IMAGES / line["image"]) for line in lines[: len(names)]]).save(
        target / SHEET, optimize=True
    )


def scores_of_images(run: Path) -> pd.DataFrame:
    """A row for each image of a run: its case, subjects, prompt and index, and its scores under published protocols."""
    (quality,) = read([run]).quality
    scored = ProtocolRun(quality.folder, quality.name)
    return scored.samples.filter(["method", "set", "prompt", "index", *(column.name for column in scored.columns)])


def _sheet(pictures: Sequence[tuple[str, Path]]) -> Image.Image:
    """Pictures with their names below them, in rows."""
    rows = -(-len(pictures) // SHEET_COLUMNS)
    cell = np.array([SIZE + 6, SIZE + LINE + 6])
    sheet = Image.new("RGB", tuple((cell * (SHEET_COLUMNS, rows)).tolist()), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (name, file) in enumerate(pictures):
        left, top = (cell * (place % SHEET_COLUMNS, place // SHEET_COLUMNS) + 3).tolist()
        image = Image.open(file)
        image.thumbnail((SIZE, SIZE))
        sheet.paste(image, (left + (SIZE - image.width) // 2, top + (SIZE - image.height) // 2))
        pen.text((left + SIZE // 2, top + SIZE + LINE // 2), name, fill="black", anchor="mm")
    return sheet


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fc_bench.reports.planted", description="Publish planted cases.")
    parser.parse_args(arguments)
    for size, name in FOLDERS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            draw_cases(size, folder)
            if code := score_cases(size, folder):
                return code
            target = REPOSITORY / "reports" / "reference" / "protocols-planted" / name
            shutil.rmtree(target, ignore_errors=True)
            publish_cases(folder, target)
        print(target)
    renew_pages()
    return 0


if __name__ == "__main__":
    sys.exit(as_command(main, refusals=(UserError, ModelInputError))())
