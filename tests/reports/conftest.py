"""Runs for the reports' tests: the kept reference run's records, and changed copies of them with or without images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fc_bench.records import JOBS, PLAN, RUN, SAMPLES, SCORES
from fc_bench.reports.frame import Run, read_runs

REFERENCE = Path(__file__).parents[2] / "reports" / "reference" / "pocket"
HOSTILE = '=1+1人<script>alert("x")</script>$a_b%&#{}~^\\|[x](javascript:y)`z`'
"""Part of a label that means something to every format the reports are written in."""

Change = Callable[[dict[str, Any]], "dict[str, Any] | None"]


@pytest.fixture(scope="session")
def pocket() -> Run:
    """The reference run: six methods, eight people and four pairs, records without images."""
    (run,) = read_runs([REFERENCE])
    return run


@pytest.fixture
def copied(tmp_path: Path) -> Callable[..., Path]:
    """Makes a run folder with the reference run's records of some methods and subject sets, changed as told.

    `relabel` maps a method to its new label; `settings` changes run.json, `score` a score's record, `sample` a
    sample's.
    """

    def make(
        name: str,
        methods: tuple[str, ...] = ("text-only", "fastcomposer", "dreambooth"),
        sets: tuple[str, ...] = ("p01", "p02", "p03", "p01+p02", "p03+p04", "p06+p05"),
        relabel: dict[str, str] | None = None,
        settings: Change | None = None,
        sample: Change | None = None,
        score: Change | None = None,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        renamed = relabel or {}
        run = json.loads((REFERENCE / RUN).read_text())
        run["methods"] = {renamed.get(key, key): row for key, row in run["methods"].items() if key in methods}
        run["remarks"] = [
            {**remark, "method": renamed.get(remark["method"], remark["method"])}
            for remark in run["remarks"]
            if remark["method"] in methods
        ]
        if settings is not None:
            run = settings(run)
        (folder / RUN).write_text(json.dumps(run))
        kept = set()
        for file in (PLAN, SAMPLES, JOBS, SCORES):
            lines = []
            for record in map(json.loads, (REFERENCE / file).read_text().splitlines()):
                if "method" in record:
                    key = record.get("set") or "+".join(record["subjects"])
                    if record["method"] not in methods or key not in sets:
                        continue
                    kept.add(record.get("id"))
                    record["method"] = renamed.get(record["method"], record["method"])
                elif record["sample"].startswith("anchor:"):
                    if "+".join(record["subjects"]) not in sets:
                        continue
                elif record["sample"] not in kept:
                    continue
                change = {SAMPLES: sample, SCORES: score}.get(file)
                changed = change(record) if change else record
                lines += [json.dumps(changed) + "\n"] if changed is not None else []
            (folder / file).write_text("".join(lines))
        return folder

    return make


@pytest.fixture
def painted(records: Callable[[Path], list[dict[str, Any]]]) -> Callable[[Path], Path]:
    """Gives each sample and reference of a run folder an image of one color, which tells whose it is."""

    def paint(folder: Path) -> Path:
        for number, record in enumerate(records(folder / SAMPLES)):
            path = folder / record["image"]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), color_of(number)).save(path)
            for subject in record["subjects"]:
                reference = folder / "references" / f"{subject}.png"
                reference.parent.mkdir(exist_ok=True)
                Image.new("RGB", (16, 24), color_of(1000 + int(subject[1:]))).save(reference)
        return folder

    return paint


def color_of(number: int) -> tuple[int, int, int]:
    """A color for a number."""
    return (number % 7 * 36, number // 7 % 16 * 16, number // 112 % 16 * 16)


@pytest.fixture(name="color_of")
def color_of_fixture() -> Callable[[int], tuple[int, int, int]]:
    """Color of a sample's or a reference's image by its number."""
    return color_of


@pytest.fixture
def hostile() -> str:
    """See HOSTILE."""
    return HOSTILE
