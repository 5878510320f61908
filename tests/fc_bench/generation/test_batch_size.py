"""Without a batch size, batches are as large as the device's memory allows, and the images are the same."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console

from fc_bench.commands.run import RunOptions
from fc_bench.commands.run import run as execute
from fc_bench.generation.batch_size import Filling


class StandIn:
    """A device of `total` bytes, of which the models take `models` and an image `each`."""

    total, models, each = 1000, 100, 40
    more = 0
    """What an image takes beyond what is seen, in batches of more than a few."""

    def __init__(self, device: str = "") -> None:
        self.peak = self.models

    def in_use(self) -> int:
        return self.models

    def free(self) -> int:
        return self.total - self.models

    def peak_of(self, work) -> int:
        self.peak = self.models
        StandIn.now = self
        work()
        return self.peak

    def take(self, images: int) -> None:
        need = self.models + images * (self.each + (self.more if images > 2 else 0))
        if need > self.total:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.peak = max(self.peak, need)


@pytest.mark.parametrize(
    ("total", "each", "size"),
    [(1000, 40, 16), (400, 40, 8), (90, 40, 1), (10**9, 40, 1024), (900, 80, 8)],
)
def test_size_is_the_largest_power_of_two_that_fits(total, each, size):
    memory = StandIn()
    memory.total, memory.each = total, each
    memory.models = 0
    tried = []
    filling = Filling(memory, 64)
    make = lambda count: (tried.append(count), memory.take(count))  # noqa: E731
    assert filling.size(8, make) == 8
    assert not tried  # a job that is one small batch anyway is not worth a look
    assert [filling.size(9, make), filling.size(100, make)] == [size, size]
    assert tried == [2]


def test_large_pictures_are_few_at_once_however_much_memory_there_is():
    memory = StandIn()
    memory.total = 10**9
    assert Filling(memory, 512).size(100, memory.take) == 16


@pytest.fixture
def run(tiny_backbone, suite, suite_data, tmp_path, records, monkeypatch):
    """Runs FastComposer with a stand-in for the device; sizes of the UNet's batches, samples, images."""
    from diffusers import UNet2DConditionModel

    forward, seen = UNet2DConditionModel.forward, []

    def counted(self, sample, *arguments, **further):
        seen.append(len(sample) // 2)
        if current := getattr(StandIn, "now", None):
            current.take(len(sample) // 2)
        return forward(self, sample, *arguments, **further)

    monkeypatch.setattr(UNet2DConditionModel, "forward", counted)
    monkeypatch.setattr("fc_bench.generation.worker.AcceleratorMemory", StandIn)

    def invoke(out: str, fills: bool = True, **options: object):
        for place in ("commands.run", "generation.worker"):
            monkeypatch.setattr(f"fc_bench.{place}.fills", lambda device: fills)
        monkeypatch.setattr(StandIn, "now", None, raising=False)
        suite.write_text(yaml.safe_dump({**suite_data, "sampler": {"scheduler": "ddim", "steps": 3}}))
        seen.clear()
        asked = {"methods": ("fastcomposer",), "device": "cpu", "images_per_prompt": 3, "limit_subjects": 2, **options}
        execute(
            RunOptions(str(suite), backbone=str(tiny_backbone), out=tmp_path / out, **asked),
            Console(file=io.StringIO()),
        )
        samples = {sample["id"]: sample for sample in records(tmp_path / out / "samples.jsonl")}
        pictures = {name: np.asarray(Image.open(tmp_path / out / each["image"])) for name, each in samples.items()}
        return seen[:], samples, pictures

    return invoke


def assert_alike(images, others) -> None:
    assert images.keys() == others.keys()
    for name, image in images.items():
        assert np.abs(image.astype(int) - others[name].astype(int)).max() <= 1


def test_batches_fill_the_memory_to_the_same_images_and_a_continued_run_makes_what_is_missing(run, tmp_path):
    _, samples, plain = run("plain", fills=False)
    assert [sample["batch"] for sample in samples.values()][:9] == [8] * 8 + [1]
    seen, samples, images = run("filled")
    assert [sample["batch"] for sample in samples.values()][:18] == [9] * 18
    assert seen[:3] == [2] * 3  # looked at once, for all jobs
    assert seen.count(2) == 3
    assert_alike(images, plain)
    file = tmp_path / "filled" / "samples.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:10]))
    seen, _, again = run("filled")
    assert seen[0] == 8
    assert_alike(again, images)


def test_memory_that_does_not_suffice_after_all_makes_the_following_batches_smaller_too(run, monkeypatch):
    monkeypatch.setattr(StandIn, "more", 72)  # eight images fit, sixteen seemed to
    seen, samples, _ = run("run")
    assert {sample["status"] for sample in samples.values()} == {"ok"}
    assert [sample["batch"] for sample in samples.values()][:9] == [8] * 8 + [1]
    assert seen.count(9) == 1  # not tried again by the next job


@pytest.mark.parametrize("text", ["0", "1025", "many", "-1", "1.5"])
def test_a_batch_size_that_is_none_is_one_sentence(fc_bench, text):
    done = fc_bench("run", "--batch-size", text)
    assert done.code == 2
    assert done.err == f'fc-bench: --batch-size "{text}" is neither auto nor a number from 1 to 1024.\n'
