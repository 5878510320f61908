"""A fine-tuned UNet that is kept as what fine-tuning changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from fc_bench.model.backbones.layouts import required_files
from fc_bench.model.errors import ModelInputError
from fc_bench.model.fastcomposer.overlay import UNET_DIFFERENCE
from fc_bench.model.fastcomposer.pipeline import load_fastcomposer
from fc_bench.model.fastcomposer.unet_difference import keep_difference, load_unet
from fc_bench.model.stored_weights import load_whole


@pytest.fixture
def pipeline(tiny_backbone: Path) -> Path:
    """The base pipeline's folder."""
    return tiny_backbone.parent / "pipeline"


@pytest.fixture
def tuned(pipeline: Path, tmp_path: Path) -> Path:
    """The folder of a UNet with every weight moved, by steps of very different size from channel to channel."""
    unet = load_whole(UNet2DConditionModel, pipeline / "unet")
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in unet.parameters():
            rows = torch.rand(len(weight), generator=draw).reshape(-1, *[1] * (weight.ndim - 1))
            weight += 0.1 * rows * torch.randn(weight.shape, generator=draw)
    unet.save_pretrained(tmp_path / "unet")
    return tmp_path / "unet"


def test_weights_come_back_to_half_a_step_of_their_channel(pipeline: Path, tuned: Path) -> None:
    before, whole = load_unet(pipeline / "unet").state_dict(), load_unet(tuned).state_dict()
    keep_difference(tuned, pipeline)
    again = load_unet(tuned, pipeline).state_dict()
    assert again.keys() == whole.keys()
    for name, value in whole.items():
        change = (value - before[name]).flatten(1) if value.ndim > 1 else (value - before[name])[:, None]
        error = (again[name] - value).reshape(change.shape).abs().amax(1)
        step = change.abs().amax(1) / 127 if value.ndim > 1 else change.abs().amax(1) / 1024
        assert (error <= 0.51 * step + 1e-7).all(), name


def test_a_weight_takes_one_byte(pipeline: Path, tuned: Path) -> None:
    matrices = {name for name, value in load_unet(tuned).state_dict().items() if value.ndim > 1}
    keep_difference(tuned, pipeline)
    (kept,) = tuned.iterdir()
    stored = load_file(kept)
    assert {name for name, value in stored.items() if value.element_size() == 1} == matrices
    assert sum(value.nbytes for value in stored.values()) < 1.2 * sum(stored[name].numel() for name in matrices)


def test_nothing_changed_is_the_base_itself(pipeline: Path, tmp_path: Path) -> None:
    shutil.copytree(pipeline / "unet", tmp_path / "unet")
    keep_difference(tmp_path / "unet", pipeline)
    base, again = load_unet(pipeline / "unet").state_dict(), load_unet(tmp_path / "unet", pipeline).state_dict()
    assert all(torch.equal(again[name], value) for name, value in base.items())


def test_on_another_base_it_adds_what_was_changed(pipeline: Path, tuned: Path, tmp_path: Path) -> None:
    other = load_whole(UNet2DConditionModel, pipeline / "unet")
    with torch.no_grad():
        other.conv_in.weight += 1
    other.save_pretrained(tmp_path / "other" / "unet")
    keep_difference(tuned, pipeline)
    here, there = load_unet(tuned, pipeline).state_dict(), load_unet(tuned, tmp_path / "other").state_dict()
    moved = {name: (there[name] - value).abs().max().item() for name, value in here.items()}
    assert {name for name, by in moved.items() if by > 1e-5} == {"conv_in.weight"}
    torch.testing.assert_close(there["conv_in.weight"], here["conv_in.weight"] + 1)


def test_fastcomposer_draws_from_a_difference_what_it_drew_from_the_whole(
    tiny_backbone: Path, pipeline: Path, tuned: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(tiny_backbone.parent / "fastcomposer", checkpoint)
    shutil.rmtree(checkpoint / "unet")
    shutil.copytree(tuned, checkpoint / "unet")
    whole = load_fastcomposer(pipeline, checkpoint).unet.state_dict()
    keep_difference(checkpoint / "unet", pipeline)
    assert all(file.present for file in required_files("fastcomposer/mine", checkpoint))
    assert checkpoint / "unet" / UNET_DIFFERENCE in [f.path for f in required_files("fastcomposer/mine", checkpoint)]
    again = load_fastcomposer(pipeline, checkpoint).unet.state_dict()
    error = sum((again[name] - value).square().sum() for name, value in whole.items())
    assert 0 < error < 1e-4 * sum(value.square().sum() for value in whole.values())


def test_a_difference_without_its_base_says_what_to_name(pipeline: Path, tuned: Path) -> None:
    keep_difference(tuned, pipeline)
    with pytest.raises(ModelInputError, match="name the pipeline that it was trained from"):
        load_unet(tuned)


@pytest.mark.parametrize("fault", ["shape", "unknown", "missing"])
def test_a_difference_of_another_model_is_refused(fault: str, pipeline: Path, tuned: Path) -> None:
    keep_difference(tuned, pipeline)
    stored = load_file(tuned / UNET_DIFFERENCE)
    if fault == "shape":
        stored["conv_in.bias"] = stored["conv_in.bias"][:-1].clone()
    elif fault == "unknown":
        stored["conv_in.gain"] = stored.pop("conv_in.bias")
    else:
        del stored["conv_in.bias"]
    save_file(stored, tuned / UNET_DIFFERENCE)
    with pytest.raises(ModelInputError, match=r"does not fit the UNet of .*conv_in\.(bias|gain)"):
        load_unet(tuned, pipeline)
