"""The learning curve of the pocket fine-tunes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fc_bench.model.errors import ModelInputError
from fc_bench.model.pocket.assemble import HERE
from fc_bench.model.pocket.learning import SUBJECTS, draw_learning, measure_learning
from fc_bench.model.pocket.train import FASTCOMPOSER_STAGES, SNAPSHOTS, Workspace, keeping_snapshots


def test_weights_are_kept_once_in_each_part_of_a_training(tmp_path: Path) -> None:
    weights, keep = tmp_path / "weights", keeping_snapshots(600)
    weights.mkdir()
    for step, elapsed in enumerate([30, 90, 110, 170, 450, 599, 601]):
        (weights / "training.json").write_text(json.dumps({"step": step, "elapsed": elapsed}))
        keep(step, weights)
    kept = {file.parent.name: json.loads(file.read_text())["step"] for file in tmp_path.glob(f"{SNAPSHOTS}/*/*.json")}
    assert kept == {"part-0": 0, "part-2": 4, "part-3": 6}


def test_a_training_that_kept_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelInputError, match="has no snapshots"):
        measure_learning(Workspace(tmp_path, torch.device("cpu")), HERE / "weights", FASTCOMPOSER_STAGES[True])


def test_the_curve_measures_each_kept_model_in_the_order_of_its_steps(tmp_path: Path) -> None:
    stage = FASTCOMPOSER_STAGES[True]
    for part, step in (("part-0", 12), ("part-1", 7)):
        folder = tmp_path / stage / SNAPSHOTS / part
        folder.mkdir(parents=True)
        for own in (HERE / "weights" / "fastcomposer" / "with-localization").iterdir():
            (folder / own.name).symlink_to(own)
        (folder / "training.json").write_text(json.dumps({"step": step}))
    points = measure_learning(Workspace(tmp_path, torch.device("cpu")), HERE / "weights", stage, pictures=1)
    assert [point["steps"] for point in points] == [7, 12]
    for name in SUBJECTS:
        first, second = (point[name] for point in points)
        assert first == second  # the same weights
        assert first["interval_low"] <= first["identity"] <= first["interval_high"]
    assert points[0]["one_subject"]["identity"] > 0


def test_the_shipped_curve_ends_at_the_shipped_weights(tmp_path: Path) -> None:
    curves = json.loads((HERE / "cards" / "learning.json").read_text())
    measured = json.loads((HERE / "cards" / "quality.json").read_text())
    assert list(curves) == list(FASTCOMPOSER_STAGES.values())
    for stage, points in curves.items():
        steps = [point["steps"] for point in points]
        assert steps == sorted(set(steps))
        assert len(steps) >= 4
        for name in SUBJECTS:
            shipped = measured[stage][name]["alpha_1.0"]["identity"]
            assert points[-1][name]["identity"] == pytest.approx(shipped["identity"], abs=0.01)  # eight bits a weight
    draw_learning(curves, measured["reference"], tmp_path / "learning.png")
    assert (tmp_path / "learning.png").read_bytes()[:4] == b"\x89PNG"
