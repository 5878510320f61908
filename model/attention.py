"""The implementation of attention in a UNet."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor

from fc_bench.model.kernels import AttentionKind

LARGEST_EAGER_MAP = 1024 * 1024
"""Largest map, queries x keys, of the kind `mixed` that is computed by separate matrix products."""


def attention_for(device: torch.device) -> AttentionKind:
    """The kind for training on small maps: eager on a CPU, where fused attention has a slow backward pass there."""
    return "eager" if device.type == "cpu" else "sdpa"


def use_attention(unet: UNet2DConditionModel, kind: AttentionKind) -> None:
    """Set the implementation of every attention layer."""
    processors = {"sdpa": AttnProcessor2_0, "eager": AttnProcessor, "mixed": MixedProcessor}
    unet.set_attn_processor(processors[kind]())


class MixedProcessor:
    """An attention processor: separate matrix products up to `LARGEST_EAGER_MAP`, fused attention for larger maps."""

    def __init__(self) -> None:
        self._small, self._large = AttnProcessor(), AttnProcessor2_0()

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """The layer's output; hidden states are [batch, length, features]."""
        keys = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        small = hidden_states.shape[1] * keys.shape[1] <= LARGEST_EAGER_MAP
        own = self._small if small else self._large
        return own(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
