"""The implementation of attention in a UNet."""

from typing import Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

AttentionKind = Literal["sdpa", "eager"]
"""sdpa: PyTorch's fused scaled dot product attention; eager: separate matrix products."""


def attention_for(device: torch.device) -> AttentionKind:
    """The faster kind for training: eager on a CPU, where the backward pass of fused attention is slow."""
    return "eager" if device.type == "cpu" else "sdpa"


def use_attention(unet: UNet2DConditionModel, kind: AttentionKind) -> None:
    """Set the implementation of every attention layer."""
    unet.set_attn_processor(AttnProcessor() if kind == "eager" else AttnProcessor2_0())
