"""The one command that trains every pocket model, at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fc_bench.model.pocket import train as command
from fc_bench.model.pocket.assemble import HERE, VARIANTS, open_fastcomposer, pack
from fc_bench.model.pocket.quality import find_faces, generate_set, open_face_pack
from fc_bench.model.pocket.train import FASTCOMPOSER_STAGES, STAGES, Workspace, run_stage
from fc_bench.model.training.config import TrainingConfig


@pytest.mark.slow
def test_every_stage_trains_and_packs_into_weights_that_generate(tmp_path: Path) -> None:
    work = Workspace(
        tmp_path / "training",
        torch.device("cpu"),
        pictures=200,
        people=20,
        face_pictures=200,
        face_people=20,
        workers=1,
    )
    for stage in STAGES:
        run_stage(work, stage, 3.0)
        assert work.model(stage).exists(), stage
    pack(work, tmp_path / "weights")
    for variant in VARIANTS:
        generated = generate_set(open_fastcomposer(tmp_path / "weights", variant), 2, 2, 1.0, steps=2)
        assert [image.shape for image in generated.images] == [(128, 128, 3)] * 2
    faces = open_face_pack(tmp_path / "weights" / "faces")
    assert isinstance(find_faces(faces, generated.images[0]), list)


def test_a_stage_out_of_order_names_the_one_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = command.main(["--output", str(tmp_path), "--stage", "base", "--pictures", "100", "--people", "2"])
    assert code == 2
    assert "run the stage 'vae' first" in capsys.readouterr().err


def test_a_stage_is_done_only_when_its_model_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Workspace(tmp_path, torch.device("cpu"))

    def interrupted(work: Workspace, seconds: float, target: Path) -> None:
        (target / "half.safetensors").write_text("half")
        raise KeyboardInterrupt

    def finished(work: Workspace, seconds: float, target: Path) -> None:
        (target / "whole.safetensors").write_text("whole")

    monkeypatch.setitem(STAGES, "vae", (0.1, interrupted))
    with pytest.raises(KeyboardInterrupt):
        run_stage(work, "vae", 1.0)
    assert not work.model("vae").exists()
    monkeypatch.setitem(STAGES, "vae", (0.1, finished))
    run_stage(work, "vae", 1.0)
    assert [file.name for file in work.model("vae").iterdir()] == ["whole.safetensors"]


@pytest.mark.parametrize("localized", [True, False])
def test_a_fine_tune_goes_on_from_its_own_earlier_one(
    localized: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier, stage = HERE / "weights", FASTCOMPOSER_STAGES[localized]
    work = Workspace(tmp_path, torch.device("cpu"), earlier=earlier)
    for needed in ("base", "clip"):
        work.model(needed).mkdir(parents=True)

    def trained(config: TrainingConfig, resume: bool, watch: object) -> Path:
        assert config.initial is not None
        assert (config.localization.weight > 0) == localized
        (tmp_path / "started from").write_text(config.initial.name)
        (tmp_path / "weights").mkdir()
        return tmp_path / "weights"

    monkeypatch.setattr("fc_bench.model.training.loop.train", trained)
    monkeypatch.setattr(Workspace, "data", lambda self: None)
    run_stage(work, stage, 1.0)
    assert (tmp_path / "started from").read_text() == ("with" if localized else "without") + "-localization"


def test_more_people_than_the_training_range_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--output", str(tmp_path), "--people", "150000"]) == 2
    assert "more would be the ones that suites show" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--seconds", "0"), ("--seconds", "-1"), ("--workers", "0")])
def test_a_number_that_is_not_positive_is_refused(tmp_path: Path, option: str, value: str) -> None:
    assert command.main(["--output", str(tmp_path), option, value]) == 2


def test_a_malformed_budget_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--output", str(tmp_path), "--budget", "soon"]) == 2
    assert capsys.readouterr().err == "error: 'soon' is not a duration: write it like 90s, 30m or 2h\n"
