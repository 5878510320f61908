"""Low-rank adapters of a model's layers (LoRA, Hu et al. 2021, arXiv 2106.09685)."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.training_utils import cast_training_params
from peft import LoraConfig


def add_adapter(model: Any, rank: int, layers: Sequence[str]) -> None:
    """Add a trainable adapter in float32, scaled by 1, to each of the named layers; the model's own weights are frozen.

    It begins as those of the diffusers examples: one factor drawn from a Gaussian, the other one zero.
    """
    config = LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(layers))
    model.add_adapter(config)
    cast_training_params(model, torch.float32)
