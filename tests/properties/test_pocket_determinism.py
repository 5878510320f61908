"""On the pocket backbone: the same seed gives the same bytes, whatever was made before, beside or in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

POCKET = Path(__file__).parents[2] / "datasets" / "pocket"
PROMPTS = {
    "context": ["a photo of a {subject} in the snow", "a photo of a {subject} in the jungle"],
    "style": ["a watercolor painting of a {subject}"],
}
BATCH = ("--batch-size", "4")


@pytest.fixture
def made(fc_bench, tmp_path):
    """Runs a suite of two pocket people into a new folder or goes on in it; returns the images' bytes by sample id."""

    def run(out: str, *arguments: str, backwards: bool = False) -> dict[str, bytes]:
        done = fc_bench("run", suite_of(tmp_path, backwards), "--out", tmp_path / out, *arguments)
        assert done.code == 0, done.err
        return bytes_of(tmp_path / out)

    return run


def suite_of(folder: Path, backwards: bool = False) -> Path:
    data = yaml.safe_load((POCKET / "suite.yaml").read_text())
    data["name"] = "pocket-determinism"
    turn = -1 if backwards else 1
    data["photographs"] = {**data.get("photographs", {}), "folder": "suite", "pattern": "{id}/{n}.png"}
    people = [entry for entry in data["subjects"] if entry["id"] in ("p01", "p02")]
    for entry in people:
        target = folder / "suite" / entry["id"]
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            subprocess.run(["cp", "-r", POCKET / "subjects" / entry["id"], target], check=True)
    data["subjects"] = people[::turn]
    data["single"] = {"prompts": {key: own[::turn] for key, own in list(PROMPTS.items())[::turn]}}
    data["multi"] = {"subjects": [["p01", "p02"]], "prompts": {"context": ["a photo of {subjects} in the snow"]}}
    file = folder / "suite" / f"suite-{turn}.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    return file


def bytes_of(folder: Path) -> dict[str, bytes]:
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert all(sample["status"] == "ok" for sample in samples)
    return {sample["id"]: (folder / sample["image"]).read_bytes() for sample in samples}


@pytest.mark.slow
def test_bytes_depend_neither_on_other_methods_nor_on_an_interruption(made, tmp_path):
    whole = made("whole", "-m", "text-only", "-m", "fastcomposer", *BATCH)
    assert len(whole) == 14
    alone = made("alone", "-m", "fastcomposer", *BATCH)
    other = made("other", "-m", "fastcomposer", "-m", "text-only", *BATCH)
    assert other == whole
    assert alone == {name: whole[name] for name in alone}
    killed = tmp_path / "killed"
    arguments = ["run", str(suite_of(tmp_path)), "--out", str(killed), "-m", "text-only", "-m", "fastcomposer", *BATCH]
    command = [sys.executable, "-c", "from fc_bench.cli import main; main()", *arguments]
    for count in (1, 6, 11):
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
        lines = killed / "samples.jsonl"
        while process.poll() is None and not (lines.exists() and lines.read_bytes().count(b"\n") >= count):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert made("killed", "-m", "text-only", "-m", "fastcomposer", *BATCH) == whole


@pytest.mark.slow
def test_order_and_batch_size_change_no_level_by_more_than_one(made):
    whole = made("whole", "-m", "fastcomposer", *BATCH)
    turned = made("turned", "-m", "fastcomposer", *BATCH, backwards=True)
    single = made("single", "-m", "fastcomposer", "--batch-size", "1")
    assert whole.keys() == turned.keys() == single.keys()
    for other in (turned, single):
        assert max(_farthest(whole[name], other[name]) for name in whole) <= 1


def _farthest(one: bytes, other: bytes) -> int:
    from io import BytesIO

    pixels = [np.asarray(Image.open(BytesIO(content)), dtype=np.int16) for content in (one, other)]
    return int(np.abs(pixels[0] - pixels[1]).max())
