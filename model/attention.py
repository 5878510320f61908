"""Which implementation of attention a UNet computes with."""

from typing import Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

AttentionKind = Literal["sdpa", "eager"]
"""Fused (PyTorch's scaled dot product attention) or written out."""


def attention_for(device: torch.device) -> AttentionKind:
    """The faster kind for training: eager on a CPU, where the backward pass of fused attention is slow."""
    return "eager" if device.type == "cpu" else "sdpa"


def use_attention(unet: UNet2DConditionModel, kind: AttentionKind) -> None:
    """Let every attention layer compute in this way."""
    unet.set_attn_processor(AttnProcessor() if kind == "eager" else AttnProcessor2_0())
