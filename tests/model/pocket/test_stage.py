"""Properties of the training loop of the pocket stages and of the autoencoder's whitening."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fc_bench.model.durations import parse_duration
from fc_bench.model.pocket.dataset import PackedDataset
from fc_bench.model.pocket.people import make_person
from fc_bench.model.pocket.render import render_photograph
from fc_bench.model.pocket.stage import StageSettings, train_stage
from fc_bench.model.pocket.train import STAGES
from fc_bench.model.pocket.vae import _whiten, build_vae, to_tensor

CPU = torch.device("cpu")
SETTINGS = StageSettings(
    seconds=1e6, learning_rate=0.05, batch_size=8, max_steps=30, warmup_steps=3, checkpoint_every=0.0, log_every=5
)


class InterruptionError(Exception):
    """Stands for a killed process."""


def _model() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(3, 1)


def _loss_of(model: nn.Linear, interrupt_at: int | None = None):
    calls = 0

    def loss(rng: np.random.Generator, progress: float) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls == interrupt_at:
            raise InterruptionError
        inputs = torch.from_numpy(rng.normal(size=(SETTINGS.batch_size, 3)).astype(np.float32))
        error = model(inputs + 0.01 * torch.randn_like(inputs)) - inputs.sum(1, keepdim=True)
        return {"loss": error.pow(2).mean()}

    return loss


def test_a_stage_learns(tmp_path: Path) -> None:
    model = _model()
    result = train_stage(tmp_path, {"model": model}, _loss_of(model), SETTINGS, CPU)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert result.steps == 30
    assert lines[-1]["loss"] < 0.3 * lines[0]["loss"]
    assert result.last == {"loss": lines[-1]["loss"]}


def test_an_interrupted_stage_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = _model()
    train_stage(tmp_path / "whole", {"model": whole}, _loss_of(whole), SETTINGS, CPU)
    broken = _model()
    with pytest.raises(InterruptionError):
        train_stage(tmp_path / "broken", {"model": broken}, _loss_of(broken, interrupt_at=17), SETTINGS, CPU)
    resumed = _model()
    nn.init.zeros_(resumed.weight)
    result = train_stage(tmp_path / "broken", {"model": resumed}, _loss_of(resumed), SETTINGS, CPU)
    assert result.steps == 30
    assert torch.equal(resumed.weight, whole.weight)
    assert torch.equal(resumed.bias, whole.bias)


@pytest.mark.parametrize("interrupt_at", [1, 2, 8])
def test_an_interruption_at_any_point_can_be_continued(tmp_path: Path, interrupt_at: int) -> None:
    broken = _model()
    with pytest.raises(InterruptionError):
        train_stage(tmp_path, {"model": broken}, _loss_of(broken, interrupt_at), SETTINGS, CPU)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 7, "seco')
    resumed = _model()
    train_stage(tmp_path, {"model": resumed}, _loss_of(resumed), SETTINGS, CPU)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == [5, 10, 15, 20, 25, 30]


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    model = _model()
    model.bias.requires_grad_(False)
    before = model.bias.clone()
    train_stage(tmp_path, {"model": model}, _loss_of(model), SETTINGS, CPU)
    assert torch.equal(model.bias, before)


def test_a_stage_ends_with_its_time(tmp_path: Path) -> None:
    model = _model()
    result = train_stage(
        tmp_path, {"model": model}, _loss_of(model), StageSettings(seconds=0.05, learning_rate=0.01, batch_size=8), CPU
    )
    assert result.seconds >= 0.05
    assert result.steps > 0


def test_shares_of_the_budget_add_up_to_one() -> None:
    assert sum(share for share, _ in STAGES.values()) == pytest.approx(1)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400)])
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-3m", "2 weeks"])
def test_a_malformed_duration_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: write it like 90s, 30m or 2h"):
        parse_duration(text)


def test_whitening_changes_latents_but_not_pictures() -> None:
    torch.manual_seed(0)
    vae = build_vae().eval()
    images = np.stack([render_photograph(make_person(i), 0).image for i in range(6)])
    data = PackedDataset(images, [{} for _ in images], test_count=0)
    pictures = to_tensor(images, CPU)
    with torch.no_grad():
        before = vae.decode(vae.encode(pictures).latent_dist.mean).sample
        spread_before = vae.encode(pictures).latent_dist.std
        scale = vae.encode(pictures).latent_dist.mean.double().std((0, 2, 3))
        _whiten(vae, data, CPU)
        posterior = vae.encode(pictures).latent_dist
        after = vae.decode(posterior.mean).sample
    assert torch.allclose(after, before, atol=1e-3)
    assert torch.allclose(posterior.mean.mean((0, 2, 3)), torch.zeros(8), atol=1e-4)
    assert torch.allclose(posterior.mean.std((0, 2, 3)), torch.ones(8), atol=1e-3)
    assert torch.allclose(posterior.std, spread_before / scale.float()[None, :, None, None], rtol=1e-3)
