"""The cards of the pocket models report how each model was trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from fc_bench.model.pocket.assemble import HERE
from fc_bench.model.pocket.cards import TRAINING, write_cards
from fc_bench.model.pocket.train import CONTINUED, Workspace

CARDS = HERE / "cards"


def test_a_training_that_went_on_tells_what_from_and_others_keep_what_is_known(tmp_path: Path) -> None:
    work, cards = Workspace(tmp_path / "training", torch.device("cpu")), tmp_path / "cards"
    cards.mkdir()
    shutil.copy(CARDS / TRAINING, cards)
    before = json.loads((CARDS / TRAINING).read_text())
    (work.folder / "data").mkdir(parents=True)
    (work.folder / "data" / "plan.json").write_text(json.dumps({"count": 70, "people": 7}))
    (work.folder / "base").mkdir()
    (work.folder / "base" / "log.jsonl").touch()
    (work.folder / "base" / CONTINUED).write_text("elsewhere\n")
    settings = {"seed": 3, "seconds": 60.0, "batch_size": 4, "learning_rate": 1e-3}
    result = {"steps": 11, "seconds": 60.5, "device": "CPU", "settings": settings, "last": {"loss": 0.25}}
    (work.folder / "base" / "result.json").write_text(json.dumps(result))
    write_cards(work, json.loads((CARDS / "quality.json").read_text()), cards)
    base = before["base"]
    past = f"{base['steps']} steps of {base['batch size']} in {base['wall time (s)']:.0f} s"
    text = (cards / "base.md").read_text()
    assert f"| continued from the weights of | {past}" in text
    assert "--stage base --seconds 60 --pictures 70 --people 7 --continue-from WEIGHTS`" in text
    assert "70 pictures of 7 people" in text
    write_cards(work, json.loads((CARDS / "quality.json").read_text()), cards)
    assert (cards / "base.md").read_text() == text  # writing them again changes nothing
    after = json.loads((cards / TRAINING).read_text())
    assert {stage: facts for stage, facts in after.items() if stage != "base"} == {
        stage: facts for stage, facts in before.items() if stage != "base"
    }
