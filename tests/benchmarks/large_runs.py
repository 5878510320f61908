"""Planning, resuming, reporting and comparing a run of a million recorded samples: seconds and peak memory of each.

    python tests/benchmarks/large_runs.py

writes a suite and the records of a finished run with five methods (no images but those of the grid, no model) at two
sizes and runs each step in a process of its own, from its start to its end:

- plan: everything `fc-bench run` does before it generates, on an empty folder
- resume: all of `fc-bench run` on the finished run, up to its report: nothing is left to generate or score
- score: what of a run whose scores are lost is to be scored
- report: all of `fc-bench report`
- compare: `fc-bench compare` of the run with itself, read twice

The table is written to tests/benchmarks/large_runs.txt, with the machine and how busy it was, and ends with what took
more than 30 s or 1 GiB. Columns: wall and processor seconds, peak resident set, and the last two as ratios to the
smaller run's; linear growth is the ratio of the sizes, less where the imports dominate. The metrics are the real ones
with their models left out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from fc_bench.generation.plan import make_plan, resolve_method
from fc_bench.quiet_libraries import quiet_libraries
from fc_bench.run_folder.json_lines import stream_lines
from fc_bench.run_folder.records import JOBS, PLAN, SAMPLES, SCORES

METHODS = ("text-only", "fastcomposer", "textual-inversion", "dreambooth", "dreambooth-lora")
PROMPTS, IMAGES = 40, 10
"""Prompts of each subject set, images of each prompt."""
MOST_SECONDS, MOST_GIB = 30, 1.0
"""What each step may take."""
TABLE = Path(__file__).with_suffix(".txt")
CATEGORIES = ("accessory", "style", "context", "action")


def write_suite(file: Path, samples: int) -> None:
    """A suite that asks five methods for so many samples: one in five sets is a pair, everyone is in one or two."""
    sets = samples // (len(METHODS) * PROMPTS * IMAGES)
    people = [f"s{number:04d}" for number in range(sets - sets // 5)]
    prompts = {
        category: [f"a photo of a {{subject}} with {category} {number}" for number in range(PROMPTS // len(CATEGORIES))]
        for category in CATEGORIES
    }
    suite: dict[str, Any] = {
        "name": "large",
        "version": "1",
        "description": "records without images",
        "license": "MIT",
        "source": "tests/benchmarks",
        "images_per_prompt": IMAGES,
        "subjects": [
            {"id": name, "noun": ("man", "woman")[number % 2], "photographs": ["person.png"]}
            for number, name in enumerate(people)
        ],
        "single": {"prompts": prompts},
    }
    if sets // 5:
        suite["multi"] = {
            "subjects": [list(people[number : number + 2]) for number in range(sets // 5)],
            "prompts": {
                category: [text.replace("a {subject}", "{subjects}") for text in texts]
                for category, texts in prompts.items()
            },
        }
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), "gray").save(file.parent / "person.png")
    file.write_text(yaml.safe_dump(suite, sort_keys=False))


def write_records(run: Path) -> None:
    """Finished samples, jobs and scores for everything in the plan, and the images that the grid shows."""
    draw = random.Random(0)
    shared: dict[str, dict[str, Any]] = {}
    jobs: dict[tuple[str, str], None] = {}
    shown: set[tuple[str, str, str]] = set()
    with (run / SAMPLES).open("w") as samples, (run / SCORES).open("w") as scores:
        for planned in stream_lines(run / PLAN):
            key = "+".join(planned["subjects"])
            jobs[planned["method"], key] = None
            record = _sample(planned, key, shared)
            samples.write(json.dumps(record) + "\n")
            for score in _scores(planned, draw):
                scores.write(json.dumps(score) + "\n")
            place = (planned["method"], key, planned["category"])
            if planned["index"] == 0 and place not in shown:
                shown.add(place)
                file = run / record["image"]
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8)).save(file)
    lines = [json.dumps(_job(method, key)) for method, key in jobs]
    (run / JOBS).write_text("\n".join(lines) + "\n")


def _sample(planned: Mapping[str, Any], key: str, shared: dict[str, dict[str, Any]]) -> dict[str, Any]:
    record = {**planned, "generated_prompt": planned["prompt"], "status": "ok"}
    origin = shared.get(planned["shared_key"]) if planned["method"] == "text-only" else None
    if origin is not None:
        record |= {"image": origin["image"], "seconds": None, "same_image_as": origin["id"]}
    else:
        record["image"] = f"images/{planned['method']}/{key}/{planned['id']}.png"
        record |= {"seconds": 0.5944678504001786, "batch": 8, "peak_memory_bytes": 767438848}
    if planned["method"] == "text-only":
        shared.setdefault(planned["shared_key"], {"id": record["id"], "image": record["image"]})
    return {**record, "finished": "2026-01-01T00:00:00+00:00"}


def _scores(planned: Mapping[str, Any], draw: random.Random) -> Iterator[dict[str, Any]]:
    from fc_bench.metrics.identity import Identity

    count = len(planned["subjects"])
    values = {column.name: draw.random() for column in Identity.columns}
    if draw.random() < 0.05:
        values |= {"identity": 0.0, "identity_detected": None}
    faces = [{"box": [33.64, 28.27, 93.21, 98.8], "score": 0.8255} for _ in range(count)]
    details = {"faces": faces, "similarities": [[0.110696] * count] * count, "matched": {"0": 0}}
    head = {"sample": planned["id"], "status": "ok"}
    yield {**head, "metric": "identity", "values": values, "details": details}
    yield {**head, "metric": "prompt-consistency", "values": {"prompt_consistency": draw.random()}, "details": {}}


def _job(method: str, key: str) -> dict[str, Any]:
    return {
        "method": method,
        "set": key,
        "status": "ok",
        "seconds": 12.5,
        "shared_seconds": 0.0,
        "steps": 100,
        "seconds_per_step": 0.1,
        "load_seconds": 0.5,
        "peak_memory_bytes": 767438848,
        "artefact_bytes": 3 << 20,
        "artefact_sha256": None,
        "details": {},
    }


def without_models() -> None:
    """The suite's metrics measure nothing and load nothing: only their columns are needed."""
    from fc_bench import registry

    load = registry.load

    def loaded(kind: registry.Kind, name: str) -> Any:
        found = load(kind, name)
        if kind != "metrics":
            return found
        nothing = {
            "needs_faces": False,
            "__init__": lambda self, setting: None,
            "prepare": lambda self, subjects: None,
            "anchors": lambda self, subjects, others: {},
            "provenance": lambda self: {},
        }
        return type(found.__name__, (found,), nothing)

    registry.load = loaded


def plan(folder: Path) -> None:
    """Settle, check and write down what is asked."""
    from rich.console import Console

    from fc_bench.commands.run import setting_of
    from fc_bench.commands.session import session
    from fc_bench.inspection.inspector import Inspector
    from fc_bench.model.backbones.backbone import read_backbone
    from fc_bench.suites.suite import read_suite

    without_models()
    suite = read_suite(folder / "suite" / "suite.yaml")
    setting = setting_of(suite, read_backbone("pocket"), "cpu")
    asked = make_plan(suite, setting, [resolve_method(name, {}, setting) for name in METHODS])
    with session(folder / "run", suite, setting, asked, Inspector(None), Console()) as opened:
        print(f"{opened.plan.size} samples planned")


def resume(folder: Path) -> None:
    """The same command again."""
    from rich.console import Console

    from fc_bench.commands.run import RunOptions, run

    without_models()
    options = RunOptions(str(folder / "suite" / "suite.yaml"), METHODS, "pocket", folder / "run", device="cpu")
    outcome = run(options, Console())
    assert outcome.complete


def score(folder: Path) -> None:
    """What is pending where no score is there."""
    from fc_bench import registry
    from fc_bench.run_folder.records import RunFolder
    from fc_bench.scoring.score import PendingScores

    scores, away = folder / "run" / SCORES, folder / SCORES
    scores.rename(away)
    try:
        metrics = {name: registry.load("metrics", name) for name in ("identity", "prompt-consistency")}
        pending = PendingScores(RunFolder(folder / "run"), metrics)
        print(f"{sum(len(names) for _, names in pending)} scores of {len(pending)} samples pending")
    finally:
        away.rename(scores)


def report(folder: Path) -> None:
    """The verb itself."""
    from fc_bench.cli import main

    sys.argv = ["fc-bench", "report", str(folder / "run")]
    main()


def compare(folder: Path) -> None:
    """The verb itself, on the run as base and as new."""
    from fc_bench.cli import main

    sys.argv = ["fc-bench", "compare", str(folder / "run"), str(folder / "run")]
    main()


STEPS: dict[str, Callable[[Path], None]] = {step.__name__: step for step in (plan, resume, score, report, compare)}


def measured(step: str, folder: Path) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak GiB of a step in a process of its own."""
    begun, before = time.perf_counter(), os.times()
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, after = time.perf_counter() - begun, os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, processor, float(done.stdout.split()[-1]) / 2**20


def peak_kib() -> int:
    """The largest resident set of this process, as the kernel counts it since the program began."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--smaller", type=int, default=100_000, help="of the run that ratios are to")
    parser.add_argument("--folder", type=Path, help="where the runs are written; a temporary folder if not given")
    parser.add_argument("--table", type=Path, default=TABLE, help="file that the table is written to")
    parser.add_argument("--only", choices=STEPS, nargs="+", default=list(STEPS), help="steps to measure")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        quiet_libraries()
        try:
            STEPS[options.step](options.folder)
        finally:
            print(peak_kib())
        return
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="large-runs-") as place:
        rows: dict[int, dict[str, tuple[float, float, float]]] = {}
        for samples in (options.smaller, options.samples):
            folder = Path(place) / str(samples)
            write_suite(folder / "suite" / "suite.yaml", samples)
            rows[samples] = {"plan": measured("plan", folder)}
            write_records(folder / "run")
            rows[samples] |= {step: measured(step, folder) for step in options.only if step != "plan"}
    text = "\n".join(
        [*described(options, before), "", *table(rows, options.smaller), "", *judged(rows[options.samples])]
    )
    options.table.write_text(text + "\n")
    print(text)


def described(options: argparse.Namespace, before: float) -> list[str]:
    """The command and the machine: seconds mean little where others were at work."""
    from fc_bench.run_folder.provenance import hardware

    command = f"python tests/benchmarks/large_runs.py --samples {options.samples} --smaller {options.smaller}"
    load = f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after (one process at a time is 1.0)"
    return [command, f"{hardware()['processor']}, {os.cpu_count()} cores, {load}"]


def table(rows: Mapping[int, Mapping[str, tuple[float, float, float]]], smaller: int) -> list[str]:
    """A line for each size and step."""
    made = [f"{'samples':>10}  {'step':7} {'seconds':>8} {'cpu s':>7} {'peak GiB':>9} {'x cpu s':>8} {'x GiB':>6}"]
    for samples, steps in rows.items():
        for step, (seconds, processor, peak) in steps.items():
            _, base, small = rows[smaller][step]
            ratios = f" {processor / base:8.1f} {peak / small:6.1f}" if samples != smaller else ""
            made.append(f"{samples:10d}  {step:7} {seconds:8.1f} {processor:7.1f} {peak:9.2f}{ratios}")
    return made


def judged(steps: Mapping[str, tuple[float, float, float]]) -> list[str]:
    """Which steps took more than they may."""
    slow = [step for step, (seconds, _, _) in steps.items() if seconds > MOST_SECONDS]
    large = [step for step, (_, _, peak) in steps.items() if peak > MOST_GIB]
    return [
        f"more than {MOST_SECONDS} s: {', '.join(slow) or 'none'}",
        f"more than {MOST_GIB:g} GiB: {', '.join(large) or 'none'}",
    ]


if __name__ == "__main__":
    main()
