"""The published FastComposer checkpoint, one file with the authors' weight names, loaded with current libraries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from fc_bench.model.errors import ModelInputError
from fc_bench.model.fastcomposer.postfuse import PostfuseModule
from fc_bench.model.stored_weights import current, load_strictly, read_checkpoint

VIT_L_14: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 768,
}
"""The image encoder of the published checkpoint."""
COMPONENTS = ("text_encoder", "image_encoder", "vae", "unet", "postfuse_module")


def split_components(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Weights by component under the names of current diffusers and transformers.

    Raises ModelInputError for a weight that belongs to no component.
    """
    components: dict[str, dict[str, Tensor]] = {name: {} for name in COMPONENTS}
    for key, value in state.items():
        component, _, name = key.partition(".")
        if component not in components:
            raise ModelInputError(
                f"the checkpoint has the weight {key}, which belongs to none of {', '.join(COMPONENTS)}, and is "
                "therefore not a FastComposer checkpoint: choose another file"
            )
        if name.endswith("embeddings.position_ids"):
            continue
        name, value = current(name, value) if component == "vae" else (name, value)
        components[component][name] = value
    return components


def load_components(
    file: Path, base: Path | str, dtype: torch.dtype = torch.float32, image_encoder: Path | str | None = None
) -> dict[str, Any]:
    """The five models of a published checkpoint.

    The base pipeline (folder or hub id) and the CLIP model `image_encoder` (folder or hub id) determine their shapes.
    Only the configuration of `image_encoder` is read, and None means the published CLIP ViT-L/14. Raises
    ModelInputError if any weight is missing, unexpected or of another shape.
    """
    weights = split_components(read_checkpoint(file))
    if image_encoder is None:
        vision_config: Any = CLIPVisionConfig(**VIT_L_14)
    else:
        clip_config = CLIPConfig.from_pretrained(image_encoder)
        vision_config = clip_config.vision_config
        vision_config.projection_dim = clip_config.projection_dim
    unet_config: Any = UNet2DConditionModel.load_config(base, subfolder="unet")
    vae_config: Any = AutoencoderKL.load_config(base, subfolder="vae")
    with init_empty_weights(include_buffers=False):
        models: dict[str, Any] = {
            "text_encoder": CLIPTextModel(CLIPTextConfig.from_pretrained(base, subfolder="text_encoder")),
            "image_encoder": CLIPVisionModelWithProjection(vision_config),
            "vae": AutoencoderKL.from_config(vae_config),
            "unet": UNet2DConditionModel.from_config(unet_config),
            "postfuse_module": PostfuseModule(features=unet_config["cross_attention_dim"]),
        }
    for name, model in models.items():
        load_strictly(model, weights[name], dtype, f"the checkpoint {file}, {name}")
        model.requires_grad_(False).eval()
    return models
