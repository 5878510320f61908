"""Stable Diffusion XL in one file of the original implementation becomes its folder, weight by weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.model.errors import ModelInputError
from tests.model.original_layout import place_upsamplers, single_file_state, write_single_file

FIRST, SECOND = "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."
BIG = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


@pytest.fixture
def stock(tiny_sdxl_backbone: Path) -> Any:
    return StableDiffusionXLPipeline.from_pretrained(tiny_sdxl_backbone.parent / "pipeline", add_watermarker=False)


def second_encoder(model: Any) -> dict[str, Tensor]:
    """The weights as open_clip names them, with queries, keys and values in one matrix."""
    weights = {name.removeprefix("text_model."): value for name, value in model.state_dict().items()}
    found = {
        "token_embedding.weight": weights["embeddings.token_embedding.weight"],
        "positional_embedding": weights["embeddings.position_embedding.weight"],
        "ln_final.weight": weights["final_layer_norm.weight"],
        "ln_final.bias": weights["final_layer_norm.bias"],
        "text_projection": weights["text_projection.weight"].T,
    }
    for number in range(model.config.num_hidden_layers):
        ours, theirs = f"encoder.layers.{number}.", f"transformer.resblocks.{number}."
        for kind in ("weight", "bias"):
            found |= {f"{theirs}{there}.{kind}": weights[f"{ours}{own}.{kind}"] for own, there in BIG.items()}
            joint = [weights[f"{ours}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            found[f"{theirs}attn.in_proj_{kind}"] = torch.cat(joint)
    return {SECOND + name: value for name, value in found.items()}


def whole_state(stock: Any) -> dict[str, Tensor]:
    state = place_upsamplers(single_file_state(stock.unet, stock.vae, stock.text_encoder))
    renamed = {name.replace("cond_stage_model.transformer.text_model.", FIRST): own for name, own in state.items()}
    return renamed | second_encoder(stock.text_encoder_2)


@pytest.fixture
def backbone(tiny_sdxl_backbone: Path, stock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tiny backbone with a single file in place of its folder."""
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "cache"))
    shapes = tmp_path / "shapes"
    shapes.mkdir()
    for part in ("unet", "vae", "scheduler"):
        (shapes / f"{part}.json").write_text(json.dumps(dict(getattr(stock, part).config), default=str))
    for part in ("text_encoder", "text_encoder_2"):
        (shapes / f"{part}.json").write_text(json.dumps(getattr(stock, part).config.to_dict(), default=str))
        (shapes / f"{part.replace('text_encoder', 'tokenizer')}.json").write_text("{}")

    def write(state: dict[str, Tensor]) -> Any:
        data = yaml.safe_load(tiny_sdxl_backbone.read_text())
        pipeline = write_single_file(state, tmp_path / "model.safetensors", torch.float32)
        data |= {"pipeline": str(pipeline), "architecture": str(shapes)}
        data["faces"]["pack"] = str(data["faces"]["pack"])
        file = tmp_path / "single.yaml"
        file.write_text(yaml.safe_dump(data))
        return read_backbone(str(file))

    return write


def test_every_weight_and_both_tokenizers_are_those_of_the_folder(backbone, stock):
    made = StableDiffusionXLPipeline.from_pretrained(backbone(whole_state(stock)).path("pipeline"))
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        expected, found = getattr(stock, part).state_dict(), getattr(made, part).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected), part
    for part in ("tokenizer", "tokenizer_2"):
        own, other = (getattr(one, part)("a man", padding="max_length").input_ids for one in (stock, made))
        assert own == other


@pytest.mark.parametrize("kind", ["refiner", "playground", "stable diffusion 1"])
def test_a_file_of_another_architecture_is_refused(kind, backbone, stock):
    state = whole_state(stock)
    if kind == "refiner":
        state = {name.replace(SECOND, "conditioner.embedders.0.model."): own for name, own in state.items()}
    elif kind == "playground":
        state["edm_mean"] = torch.zeros(1, 4, 1, 1)
    else:
        state = {name: own for name, own in state.items() if not name.startswith("conditioner.")}
    with pytest.raises(ModelInputError, match="is not a checkpoint of Stable Diffusion XL"):
        backbone(state).path("pipeline")
