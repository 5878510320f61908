"""Runs for the reports' tests: the kept reference run's records, and changed copies of them with or without images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fc_bench.reports.frame import Run, read_runs
from fc_bench.run_folder.records import JOBS, PLAN, RUN, SAMPLES, SCORES

REFERENCE = Path(__file__).parents[2] / "reports" / "reference" / "pocket"
HOSTILE = '=1+1人<script>alert("x")</script>$a_b%&#{}~^\\|[x](javascript:y)`z`'
"""Part of a label that means something to every format the reports are written in."""

Change = Callable[[dict[str, Any]], "dict[str, Any] | None"]


@pytest.fixture(scope="session")
def pocket() -> Run:
    """The reference run: seven methods, eight people and four pairs, records without images."""
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


QUIET = {
    "seconds": 10.0,
    "cores": 2,
    "others_cpu_seconds": 0.0,
    "steal_seconds": 0.0,
    "throttled_periods": 0,
    "device_throttle_reasons": None,
    "device_other_processes": None,
    "energy_joules": None,
}
SECONDS = {"text-only": 1.0, "fastcomposer": 1.25, "dreambooth": 1.0, "custom-diffusion": 1.5}
"""Of an image of each method of a made-up cost run."""


@pytest.fixture
def made_cost(tmp_path: Path) -> Callable[..., Path]:
    """Makes the folder of a cost run of known content, on the reference run's backbone and with its options.

    Loading takes 2 s, FastComposer customizes in 0.5 s, the others took 10 of 60 steps in 12 s with 0.9 to 1.1 s a
    step, so that customizing takes about 12 + 50 x 1 s; an image takes `SECONDS`, and six were drawn. `relabel` maps a
    method to its label; `settings` changes run.json, `record` a measurement or leaves it out.
    """

    def make(
        name: str = "cost",
        methods: tuple[str, ...] = tuple(SECONDS),
        relabel: dict[str, str] | None = None,
        settings: Change | None = None,
        record: Change | None = None,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        renamed = relabel or {}
        reference = json.loads((REFERENCE / RUN).read_text())
        rows = {
            renamed.get(key, key): {
                **reference["methods"][key],
                "label": renamed.get(key, key),
                "personalizes": key != "text-only",
                "shared_weights_bytes": 2**30,
            }
            for key in methods
        }
        command = {**reference["commands"][0], "command": "fc-bench cost --budget 1m --out runs/cost"}
        del command["finished"]
        run = {
            "format": 1,
            "kind": "cost",
            "random_weights": False,
            **{key: reference[key] for key in ("backbone", "sampler", "device", "dtype")},
            "batch": 1,
            "machine": {"processor": "a processor", "cores": 2, "torch_threads": 2, "accelerators": []},
            "libraries": {"torch": "2"},
            "provider": {"virtual_machine": True},
            "numerics": {"compiled": False},
            "subject": {"id": "p01", "noun": "man", "photographs": 5, "template": "a photo of a {subject}"},
            "methods": rows,
            "commands": [{**command, "budget_seconds": 60.0}],
        }
        (folder / RUN).write_text(json.dumps(settings(run) if settings else run))
        lines = [
            {**found, "method": renamed.get(key, key)} for key in methods for found in _measured(key, SECONDS[key])
        ]
        kept = [record(line) if record else line for line in lines]
        text = "".join(json.dumps(line) + "\n" for line in kept if line is not None)
        (folder / "measurements.jsonl").write_text(text)
        return folder

    return make


def _measured(method: str, seconds: float) -> list[dict[str, Any]]:
    """The measurements of a method as `fc_bench.cost.records` describes them."""
    memory = {"rss_bytes": 2**30, "allocated_bytes": None, "reserved_bytes": None, "device_bytes": None}
    common = {
        "status": "ok",
        "load": {"seconds": 2.0, "memory": memory},
        "restore": None,
        "memory": {**memory, "rss_bytes": 3 * 2**29},
        "surroundings": QUIET,
        "budget_seconds": 60.0,
        "startup_seconds": 1.0,
        "steps_asked": 25,
        "finished": "2027-01-02T03:04:05+00:00",
    }

    def call(seconds: float, steps: int | None, each: list[float]) -> dict[str, Any]:
        return {
            "seconds": seconds,
            "steps": steps,
            "step_seconds": each,
            "shared_seconds": 0.4,
            "seconds_per_step": None,
        }

    images = [call(seconds * (1 + 0.01 * number), 25, []) for number in range(-3, 4)]
    found = [
        {**common, "phase": "step", "calls": [call(seconds, 25, [seconds / 50] * 24)]},
        {**common, "phase": "first_image", "calls": [call(2 * seconds, 25, [])]},
        {**common, "phase": "image", "calls": images},
    ]
    if method == "fastcomposer":
        more = {"calls": [call(0.5, None, [])] * 6, "steps_asked": None, "artefact": {"bytes": 0, "dtypes": []}}
    elif method != "text-only":
        tuning = [call(12.0, 10, [0.9, 1.0, 1.1] * 3)]
        more = {"calls": tuning, "steps_asked": 60, "artefact": {"bytes": 3 * 2**20, "dtypes": ["F32"]}}
    else:
        return found
    shared = {"used": 4, "asked": 16} if method == "custom-diffusion" else None
    return [{**common, "phase": "customize", "step_period": 1, "class_images": shared, **more}, *found]


@pytest.fixture
def hostile() -> str:
    """See HOSTILE."""
    return HOSTILE
