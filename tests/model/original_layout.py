"""A pipeline's weights under the names of the original implementation, as single files hold them.

The inverse of what diffusers converts, for Stable Diffusion's UNets and autoencoders and the text encoder of v1.x.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def single_file_state(unet: Any, vae: Any, text_encoder: Any) -> dict[str, Tensor]:
    """All weights of the three models as one state dict in the original layout."""
    config = unet.config
    per_block, blocks = config["layers_per_block"], len(config["down_block_types"])
    state = {f"model.diffusion_model.{_unet(name, per_block, blocks)}": x for name, x in unet.state_dict().items()}
    for name, value in vae.state_dict().items():
        renamed = _vae(name, len(vae.config["block_out_channels"]))
        attention = re.search(r"attn_1\.(q|k|v|proj_out)\.weight", renamed)
        state[f"first_stage_model.{renamed}"] = value[:, :, None, None] if attention else value
    prefix = "cond_stage_model.transformer.text_model."
    state |= {prefix + name.removeprefix("text_model."): x for name, x in text_encoder.state_dict().items()}
    length = text_encoder.config.max_position_embeddings
    state[f"{prefix}embeddings.position_ids"] = torch.arange(length)[None]
    return state | {"model_ema.decay": torch.tensor(0.9999), "alphas_cumprod": torch.linspace(1, 0, 1000)}


def write_single_file(state: Mapping[str, Tensor], file: Path, dtype: torch.dtype) -> Path:
    """Save a state dict as safetensors in a number format."""
    from safetensors.torch import save_file

    converted = {key: (x.to(dtype) if x.is_floating_point() else x).contiguous() for key, x in state.items()}
    save_file(converted, file)
    return file


def _unet(name: str, per_block: int, blocks: int) -> str:
    for ours, theirs in TOP.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    part, *rest = name.split(".")
    if part == "mid_block":
        kind, number, *rest = rest
        return f"middle_block.{2 * int(number) + (kind == 'attentions')}.{_inside(kind, '.'.join(rest))}"
    block, kind, number, *rest = rest
    if part == "down_blocks":
        place = 1 + int(block) * (per_block + 1) + int(number)
        if kind == "downsamplers":
            return f"input_blocks.{int(block) * (per_block + 1) + per_block + 1}.0.op.{rest[-1]}"
        return f"input_blocks.{place}.{int(kind == 'attentions')}.{_inside(kind, '.'.join(rest))}"
    place = int(block) * (per_block + 1) + int(number)
    if kind == "upsamplers":
        place = int(block) * (per_block + 1) + per_block
        return f"output_blocks.{place}.UPSAMPLER.conv.{rest[-1]}"
    return f"output_blocks.{place}.{int(kind == 'attentions')}.{_inside(kind, '.'.join(rest))}"


def _inside(kind: str, name: str) -> str:
    if kind == "attentions":
        return name
    for ours, theirs in RESNET.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    raise AssertionError(name)


def place_upsamplers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Upsamplers stand after the attention of their block where it has one, after the residual block elsewhere."""
    placed = {}
    for key, value in state.items():
        block = key.split(".UPSAMPLER")[0]
        attends = any(other.startswith(f"{block}.1.") for other in state)
        placed[key.replace("UPSAMPLER", "2" if attends else "1")] = value
    return placed


def _vae(name: str, blocks: int) -> str:
    def block(match: re.Match[str]) -> str:
        side, number, kind, inner = match.groups()
        place = int(number) if side == "down" else blocks - 1 - int(number)
        if kind == "resnets":
            return f"{side}.{place}.block.{inner}"
        return f"{side}.{place}.{'downsample' if side == 'down' else 'upsample'}"

    name = re.sub(r"(down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)", block, name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions.0" in name:
        name = name.replace("mid_block.attentions.0", "mid.attn_1")
        for ours, theirs in VAE_ATTENTION.items():
            if f"attn_1.{ours}." in name:
                name = name.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
                break
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
