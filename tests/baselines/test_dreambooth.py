"""DreamBooth and its low-rank adapters bind subjects to rare tokens; stock diffusers loads what they leave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from fc_bench.baselines.tuning import loop
from fc_bench.errors import UserError

from .conftest import of_sd1, of_sdxl

RARE = ["dreambooth", "dreambooth-lora"]
ENCODERS = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
PROMPTS = {1: "a photo of a x woman", 2: "a photo of a x woman and a y man"}


@pytest.mark.parametrize("case", ["dreambooth", "dreambooth with text encoder"])
def test_stock_diffusers_gives_the_same_image_of_the_tuned_model(
    case, count, build, customize, images_of, stock_pipeline, stock_images, subjects, tmp_path
):
    method, artefact = build(case), tmp_path / "artefact"
    ours = images_of(method, customize(method, subjects[:count], artefact))
    parts = {"unet": UNet2DConditionModel.from_pretrained(artefact / "unet")}
    for encoder in method.base.family.encoders:
        assert (artefact / encoder.part).exists() == ("text encoder" in case)
        if "text encoder" in case:
            parts[encoder.part] = ENCODERS[encoder.part].from_pretrained(artefact / encoder.part)
    assert np.abs(ours - stock_images(stock_pipeline(**parts), PROMPTS[count])).max() <= 1
    for name in parts:
        rest = {other: part for other, part in parts.items() if other != name}
        assert np.abs(ours - stock_images(stock_pipeline(**rest), PROMPTS[count])).max() > 1


@pytest.mark.parametrize("case", ["dreambooth-lora", "dreambooth-lora with text encoder"])
def test_stock_diffusers_gives_the_same_image_of_the_adapters(
    case, count, build, customize, images_of, stock_pipeline, stock_images, subjects, tmp_path
):
    method, artefact = build(case), tmp_path / "artefact"
    ours = images_of(method, customize(method, subjects[:count], artefact))
    prefixes = {"unet", *(encoder.part for encoder in method.base.family.encoders if "text encoder" in case)}
    assert {name.split(".")[0] for name in adapter(artefact / subjects[0].id)} == prefixes
    stock = stock_pipeline()
    without = stock_images(stock, PROMPTS[count])
    names = [subject.id for subject in subjects[:count]]
    for name in names:
        stock.load_lora_weights(artefact / name, adapter_name=name)
    stock.set_adapters(names)
    assert np.abs(ours - stock_images(stock, PROMPTS[count])).max() <= 1
    assert np.abs(ours - without).max() > 1


@of_sdxl
def test_stock_diffusers_gives_the_same_image_of_another_shape(
    build, customize, images_of, stock_pipeline, stock_images, subjects, tmp_path
):
    method, artefact = build("dreambooth-lora"), tmp_path / "artefact"
    customized = customize(method, subjects[:1], artefact)
    stock = stock_pipeline()
    stock.load_lora_weights(artefact / subjects[0].id)
    for size in ((64, 96), (96, 48)):
        ours = images_of(method, customized, size=size)
        assert ours.shape[1:3] == size[::-1]
        assert np.abs(ours - stock_images(stock, PROMPTS[1], size=size)).max() <= 1


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "pytorch_lora_weights.safetensors")


@of_sd1
def test_two_adapters_start_and_are_drawn_apart(build, customize, subjects, tmp_path, monkeypatch):
    seen = []
    loss = loop.diffusion_loss

    def noted(family, unet, diffusion, batch, draws, step, *rest):
        seen.append(float(torch.rand(1, generator=draws.torch(loop.DIFFUSION, step))))
        return loss(family, unet, diffusion, batch, draws, step, *rest)

    monkeypatch.setattr(loop, "diffusion_loss", noted)
    customize(build("dreambooth-lora", steps=1, learning_rate=1e-12), subjects, tmp_path / "pair")
    assert len(seen) == len(set(seen)) == 2
    ann, bob = (adapter(tmp_path / "pair" / name) for name in ("ann", "bob"))
    starts = [name for name in ann if "lora.down" in name or "lora_A" in name]
    assert len(starts) == len(ann) / 2
    assert all((ann[name] != bob[name]).any() for name in starts)


@of_sd1
@pytest.mark.parametrize("case", RARE)
def test_equal_rare_tokens_are_refused_with_the_options(case, build):
    with pytest.raises(ValidationError, match="two subjects need two different rare tokens"):
        build(case, rare_tokens=["x", "x"])


@of_sd1
@pytest.mark.parametrize("case", RARE)
def test_a_rare_token_of_several_tokens_is_refused_with_the_option(case, build, customize, subjects, tmp_path):
    method = build(case, rare_tokens=["x", "sk"])
    customize(method, subjects[:1], tmp_path / "alone")
    with pytest.raises(UserError, match=r'The option rare_tokens: "sk" has to be one token .* becomes "s", "k</w>"'):
        customize(method, subjects, tmp_path / "pair")
