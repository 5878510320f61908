"""Tiny IP-Adapters with random weights, in the layouts in which they are published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from fc_bench.model.backbones.random_weights import drawn
from fc_bench.model.ip_adapter import Adapter, plus_shapes

TOKENS = 4
RANK = 2


def tiny_adapter(kind: str, unet: UNet2DConditionModel, features: int) -> dict[str, dict[str, Tensor]]:
    """Random weights for a UNet and inputs of `features` numbers; kind: plain, plus, full, faceid or faceid-plus."""
    torch.manual_seed(5)
    if kind == "plus":
        shapes = plus_shapes(unet, features, hidden_size=64, num_hidden_layers=4, num_tokens=TOKENS)
        return Adapter.of({name: _drawn(name, shape) for name, shape in shapes.items()}).parts
    width = int(unet.config["cross_attention_dim"])
    layers: dict[str, Tensor] = {}
    for number, name in enumerate(unet.attn_processors):
        layer: Any = unet.get_submodule(name.removesuffix(".processor"))
        if name.endswith("attn2.processor"):
            for part in ("to_k", "to_v"):
                layers[f"{number}.{part}_ip.weight"] = torch.randn(getattr(layer, part).out_features, width)
        if kind.startswith("faceid"):
            for part in ("to_q", "to_k", "to_v", "to_out"):
                linear = layer.to_out[0] if part == "to_out" else getattr(layer, part)
                layers[f"{number}.{part}_lora.down.weight"] = 0.1 * torch.randn(RANK, linear.in_features)
                layers[f"{number}.{part}_lora.up.weight"] = torch.randn(linear.out_features, RANK)
    return {"image_proj": _projection(kind, features, width), "ip_adapter": layers}


def write_adapter(parts: dict[str, dict[str, Tensor]], file: Path) -> Path:
    """A .safetensors file, or a .bin file with a dictionary for each part."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".bin":
        torch.save(parts, file)
    else:
        save_file({f"{part}.{key}": value for part, own in parts.items() for key, value in own.items()}, file)
    return file


def _projection(kind: str, features: int, width: int) -> dict[str, Tensor]:
    norm = {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    if kind == "plain":
        return {**_linear("proj", features, TOKENS * width), **norm}
    if kind == "full":
        last = {"proj.3.weight": torch.ones(width), "proj.3.bias": torch.zeros(width)}
        return {**_linear("proj.0", features, features), **_linear("proj.2", features, width), **last}
    if kind == "faceid":
        return {**_linear("proj.0", features, 2 * features), **_linear("proj.2", 2 * features, TOKENS * width), **norm}
    resampler = {"perceiver_resampler.proj_in.weight": torch.randn(width, features)}
    return {**_linear("proj.0", features, 2 * features), **norm, **resampler}


def _drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Of random weights, those in attention as large as `tiny_adapter`'s others, so that an adapter shows."""
    if name.startswith("ip_adapter."):
        return torch.randn(shape)
    return drawn(name, shape)


def _linear(name: str, inputs: int, outputs: int) -> dict[str, Tensor]:
    layer = nn.Linear(inputs, outputs)
    return {f"{name}.weight": layer.weight.detach(), f"{name}.bias": layer.bias.detach()}
