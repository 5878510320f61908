"""A sample is what its id says: neither batch, nor order, nor company of other methods changes it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from PIL import Image


@pytest.fixture
def images(fc_bench, tiny_backbone, plugin, tmp_path):
    """Runs a suite into a new folder; returns the images by sample id."""

    def run(suite, out: str, *arguments: object) -> dict[str, np.ndarray]:
        folder = tmp_path / out
        done = fc_bench("run", suite, "--backbone", tiny_backbone, "--out", folder, *arguments)
        assert done.code == 0, done.err
        samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        return {sample["id"]: np.asarray(Image.open(folder / sample["image"]), dtype=np.int16) for sample in samples}

    return run


def test_image_does_not_depend_on_the_batch_size(images, suite):
    alone = images(suite, "alone", "-m", "text-only", "--batch-size", 1)
    together = images(suite, "together", "-m", "text-only", "--batch-size", 8)
    assert alone.keys() == together.keys()
    # Kernels round differently for other shapes: at most one of 255 levels.
    assert max(int(np.abs(alone[name] - together[name]).max()) for name in alone) <= 1


def test_sample_does_not_depend_on_the_order_of_subjects_and_prompts(images, suite, suite_data):
    forward = images(suite, "forward", "-m", "text-only", "-m", "paste")
    suite_data["subjects"].reverse()
    suite_data["multi"]["subjects"].reverse()
    suite_data["single"]["prompts"] = dict(reversed(suite_data["single"]["prompts"].items()))
    suite.write_text(yaml.safe_dump(suite_data, sort_keys=False))
    backward = images(suite, "backward", "-m", "paste", "-m", "text-only")
    assert forward.keys() == backward.keys()
    assert max(int(np.abs(forward[name] - backward[name]).max()) for name in forward) <= 1


def test_other_methods_change_nobodys_samples(images, suite):
    alone = images(suite, "alone", "-m", "text-only")
    beside = images(suite, "beside", "-m", "paste", "-m", "text-only")
    assert alone.keys() <= beside.keys()
    assert all((alone[name] == beside[name]).all() for name in alone)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda suite: suite | {"description": "other words"}, 11),
        (lambda suite: suite | {"version": "2"}, 0),
        (lambda suite: suite | {"seed": 8}, 0),
        (lambda suite: suite | {"sampler": {"steps": 3}}, 0),
        (lambda suite: suite | {"images_per_prompt": 2}, 11),
        (lambda suite: suite | {"multi": {"subjects": [["bob", "ann"]], "prompts": suite["multi"]["prompts"]}}, 9),
        (lambda suite: suite | {"subjects": [{"id": "ann", "noun": "lady"}, *suite["subjects"][1:]]}, 7),
    ],
)
def test_sample_id_changes_exactly_with_what_decides_the_image(images, suite, suite_data, change, kept):
    before = images(suite, "before", "-m", "paste")
    suite.write_text(yaml.safe_dump(change(suite_data), sort_keys=False))
    after = images(suite, "after", "-m", "paste")
    assert len(before.keys() & after.keys()) == kept


def test_sample_id_changes_with_a_photograph_of_its_subject_only(images, suite, portrait):
    before = images(suite, "before", "-m", "paste")
    portrait((250, 250, 20)).save(suite.parent / "people" / "ann-1.png")
    after = images(suite, "after", "-m", "paste")
    assert len(before.keys() & after.keys()) == 7
