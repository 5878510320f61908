"""A run that is killed and repeated is the run that was never interrupted: every sample once, the same bytes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def start(tiny_backbone, plugin_folder, suite):
    """Starts the same command as a process of its own, on the given folder."""

    def begin(out: Path, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-c", "from fc_bench.cli import main; main()", "run", str(suite)]
        command += ["--backbone", str(tiny_backbone), "--out", str(out), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(plugin_folder), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return begin


@pytest.fixture
def finish(fc_bench, tiny_backbone, plugin, suite):
    """Runs the same command in this process, to its end."""

    def run(out: Path, *arguments: str) -> None:
        done = fc_bench("run", suite, "--backbone", tiny_backbone, "--out", out, *arguments)
        assert done.code == 0, done.err

    return run


def lines_in(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def kill_when(process: subprocess.Popen, file: Path, count: int) -> None:
    """SIGKILL as soon as the file has that many lines."""
    deadline = time.monotonic() + 120
    while lines_in(file) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run did not get that far"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def contents(folder: Path) -> dict[str, bytes]:
    """Image bytes by sample id; asserts that each sample is recorded once and scored once by each metric."""
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert len({sample["id"] for sample in samples}) == len(samples)
    assert all(sample["status"] == "ok" for sample in samples)
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert len({(score["sample"], score["metric"]) for score in scores}) == len(scores)
    assert not list(folder.rglob("*.part"))
    return {sample["id"]: (folder / sample["image"]).read_bytes() for sample in samples}


def results(folder: Path) -> list[str]:
    """results.csv without the cost rows, which are timings."""
    text = (folder / "report" / "results.csv").read_text()
    return [line for line in text.splitlines() if not any(word in line for word in ("seconds", "gib"))]


def test_killed_run_repeated_gives_the_same_samples_none_twice(start, finish, tmp_path):
    arguments = ("-m", "paste", "-o", "paste.seconds=0.05", "--batch-size", "2")
    finish(tmp_path / "whole", *arguments)
    killed = tmp_path / "killed"
    kill_when(start(killed, *arguments), killed / "samples.jsonl", 3)
    assert 3 <= lines_in(killed / "samples.jsonl") < 11
    with (killed / "samples.jsonl").open("ab") as file:
        file.write(b'{"id": "half a rec')
    kill_when(start(killed, *arguments), killed / "scores.jsonl", 3)
    assert 3 <= lines_in(killed / "scores.jsonl") < 22
    finish(killed, *arguments)
    assert contents(killed) == contents(tmp_path / "whole")
    assert len(contents(killed)) == 11
    assert results(killed) == results(tmp_path / "whole")


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)), dtype=np.int16)


def test_killed_run_of_the_diffusion_pipeline_gives_the_same_images(start, finish, tmp_path):
    arguments = ("-m", "text-only", "--batch-size", "3", "--images-per-prompt", "4")
    finish(tmp_path / "whole", *arguments)
    killed = tmp_path / "killed"
    kill_when(start(killed, *arguments), killed / "samples.jsonl", 4)
    assert 4 <= lines_in(killed / "samples.jsonl") < 44
    finish(killed, *arguments)
    resumed, whole = contents(killed), contents(tmp_path / "whole")
    assert resumed.keys() == whole.keys()
    # Kernels with several threads round differently from process to process: at most one of 255 levels.
    assert max(int(np.abs(pixels(resumed[name]) - pixels(whole[name])).max()) for name in whole) <= 1
    assert len(contents(killed)) == 44


def test_finished_run_repeated_changes_no_record(finish, tmp_path):
    finish(tmp_path / "run", "-m", "paste")
    before = {name: (tmp_path / "run" / name).read_bytes() for name in ("samples.jsonl", "jobs.jsonl", "scores.jsonl")}
    finish(tmp_path / "run", "-m", "paste")
    assert {name: (tmp_path / "run" / name).read_bytes() for name in before} == before
