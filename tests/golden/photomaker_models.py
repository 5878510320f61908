"""A tiny Stable Diffusion XL and a tiny PhotoMaker v1, whose weights follow from their names."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parent / "photomaker"
TOKENIZER = Path(__file__).parent / "fastcomposer" / "sd" / "tokenizer"
TEXT_FEATURES = (24, 32)
FEATURES = sum(TEXT_FEATURES)
UNET: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (8, 16, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "transformer_layers_per_block": (1, 2, 3),
    "attention_head_dim": (2, 4, 4),
    "cross_attention_dim": FEATURES,
    "norm_num_groups": 4,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + TEXT_FEATURES[1],
}
VAE: dict[str, Any] = {
    "block_out_channels": (8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "scaling_factor": 0.13025,
    "force_upcast": True,
}
TEXT: dict[str, Any] = {
    "vocab_size": 634,
    "max_position_embeddings": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "bos_token_id": 632,
    "eos_token_id": 633,
    "pad_token_id": 633,
}
VISION: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "image_size": 28,
    "patch_size": 14,
    "projection_dim": TEXT_FEATURES[0],
}
LORA_RANK = 2


def weight(name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """The weight of this name: normal values of a generator seeded with the name, scaled by the number of inputs.

    NumPy keeps the values of `RandomState` from version to version.
    """
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) > 1:
        values = values / np.sqrt(np.prod(shape[1:]))
    else:
        values = 0.1 * values + (1 if "norm" in name and name.endswith("weight") else 0)
    return torch.from_numpy(np.asarray(values)).to(dtype)


def filled(model: nn.Module, prefix: str) -> Any:
    """The model with the weights of its names, each after the prefix."""
    state = {
        name: weight(f"{prefix}.{name}", tuple(value.shape)) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model.eval()


def sdxl_parts() -> dict[str, Any]:
    """The parts of the tiny Stable Diffusion XL, by their names in a pipeline."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    first, second = TEXT_FEATURES
    texts = [
        CLIPTextConfig(**TEXT, hidden_size=first, intermediate_size=2 * first, projection_dim=first),
        CLIPTextConfig(
            **TEXT, hidden_size=second, intermediate_size=2 * second, projection_dim=second, hidden_act="gelu"
        ),
    ]
    return {
        "unet": filled(UNet2DConditionModel(**UNET), "unet"),
        "vae": filled(AutoencoderKL(**VAE), "vae"),
        "text_encoder": filled(CLIPTextModel(texts[0]), "text_encoder"),
        "text_encoder_2": filled(CLIPTextModelWithProjection(texts[1]), "text_encoder_2"),
        "tokenizer": CLIPTokenizer.from_pretrained(TOKENIZER),
        "tokenizer_2": CLIPTokenizer.from_pretrained(TOKENIZER, pad_token="!"),
        "scheduler": EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
    }


def photomaker_weights(unet: nn.Module, shapes: Mapping[str, Sequence[int]]) -> dict[str, dict[str, Tensor]]:
    """The content of a `photomaker-v1.bin` for this UNet: weights of the given shapes, and a LoRA on its attention."""
    lora: dict[str, Tensor] = {}
    for name, layer in unet.named_modules():
        block, _, part = name.rpartition(".attn")
        if isinstance(layer, nn.Linear) and block and part[2:] in ("to_q", "to_k", "to_v", "to_out.0"):
            key = f"unet.{block}.attn{part[0]}.processor.{part[2:].removesuffix('.0')}_lora"
            lora[f"{key}.down.weight"] = weight(f"{key}.down", (LORA_RANK, layer.in_features))
            lora[f"{key}.up.weight"] = weight(f"{key}.up", (layer.out_features, LORA_RANK))
    return {
        "id_encoder": {name: weight(f"id_encoder.{name}", tuple(shape)) for name, shape in shapes.items()},
        "lora_weights": lora,
    }


def fuse_module_weights(features: int) -> dict[str, Tensor]:
    """The weights of a fuse module of this size."""
    wide = 2 * features
    shapes: dict[str, tuple[int, ...]] = {"layer_norm.weight": (features,), "layer_norm.bias": (features,)}
    for part, inputs in (("mlp1", wide), ("mlp2", features)):
        shapes |= {f"{part}.layernorm.weight": (inputs,), f"{part}.layernorm.bias": (inputs,)}
        shapes |= {f"{part}.fc1.weight": (features, inputs), f"{part}.fc1.bias": (features,)}
        shapes |= {f"{part}.fc2.weight": (features, features), f"{part}.fc2.bias": (features,)}
    return {name: weight(f"fuse.{features}.{name}", shape) for name, shape in shapes.items()}


def id_encoder_shapes(*text_features: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of a tiny encoder, for these features of two text encoders."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    first, second = text_features
    vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**{**VISION, "projection_dim": first})).state_dict()
    shapes = {name: tuple(value.shape) for name, value in vision.items() if "position_ids" not in name}
    shapes["visual_projection_2.weight"] = (second, VISION["hidden_size"])
    fuse = {f"fuse_module.{name}": tuple(value.shape) for name, value in fuse_module_weights(first + second).items()}
    return {**shapes, **fuse}
