"""A run that tells what each sample shows, for the executors that are to show the same."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def run(fc_bench, tiny_backbone, plugin, suite, tmp_path, records):
    """Runs the suite; gives the finished command, the samples, and what each shows by subjects, prompt and method."""

    def invoke(out: str, *arguments: object, code: int = 0):
        folder = tmp_path / out
        done = fc_bench("run", suite, "--backbone", tiny_backbone, "--out", folder, *arguments)
        assert done.code == code, done.err
        samples = records(folder / "samples.jsonl")
        assert len({sample["id"] for sample in samples}) == len(samples)
        shown = {
            (sample["method"], *sample["subjects"], sample["template"]): np.asarray(
                Image.open(folder / sample["image"])
            )
            for sample in samples
            if sample["status"] == "ok"
        }
        return done, samples, shown

    return invoke
