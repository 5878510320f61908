"""Properties of the training loop: same weights whichever way one gets there."""

import json
from pathlib import Path

import torch
from fc_bench.model.training.config import TrainingConfig
from fc_bench.model.training.loop import train
from safetensors.torch import load_file


def configured(fields: dict, **changes: object) -> TrainingConfig:
    return TrainingConfig.model_validate({**fields, **changes})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": value
        for part in ("unet", "image_encoder", "postfuse_module")
        for file in (folder / part).glob("*.safetensors")
        for name, value in load_file(file).items()
    }


def assert_same(first: Path, second: Path, **tolerance: float) -> None:
    one, two = weights(first), weights(second)
    assert one and one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], **(tolerance or {"rtol": 0, "atol": 0}), msg=name)


def test_resumed_training_equals_uninterrupted(config_fields: dict, tmp_path: Path) -> None:
    fields = {**config_fields, "gradient_accumulation": 2, "ema_decay": 0.9}
    whole = train(configured(fields, output=tmp_path / "whole", max_steps=4))
    train(configured(fields, output=tmp_path / "parts", max_steps=2))
    parts = train(configured(fields, output=tmp_path / "parts", max_steps=4), resume=True)
    assert_same(whole, parts)
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_cached_training_equals_training_from_files(config_fields: dict, tmp_path: Path) -> None:
    cached = train(configured(config_fields, output=tmp_path / "cached"))
    files = train(configured(config_fields, output=tmp_path / "files", cache=None))
    assert_same(cached, files, rtol=1e-4, atol=1e-5)
