"""A small Stable Diffusion XL of the pocket world is trained as text to image, then FastComposer on it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

STAGES = ("base", "with-localization", "without-localization", "measure")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fastcomposer_xl.py"


@pytest.mark.slow
def test_losses_fall_and_localization_moves_attention_onto_the_subjects(tmp_path: Path) -> None:
    options = ("--base-steps", "80", "--steps", "80", "--pictures", "600", "--measured", "8", "--stages", *STAGES)
    command = [sys.executable, str(SCRIPT), "--folder", str(tmp_path / "xl"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "xl" / "results.json").read_text())
    localized, plain = results["with-localization"], results["without-localization"]
    assert results["base"]["log"]["denoising_loss_last"] < 0.8 * results["base"]["log"]["denoising_loss_first"]
    assert localized["log"]["localization_loss_last"] < localized["log"]["localization_loss_first"]
    moved, unmoved = (stage["attention"]["inside_minus_outside"] for stage in (localized, plain))
    assert moved > 2 * max(unmoved, 0)
    assert min(stage["differences"]["other_subject"] for stage in (localized, plain)) > 0
