"""The published FastComposer checkpoint, one file with the authors' weight names, loaded with current libraries."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from fc_bench.model.errors import ModelInputError, loading
from fc_bench.model.fastcomposer.postfuse import PostfuseModule

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
VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
COMPONENTS = ("text_encoder", "image_encoder", "vae", "unet", "postfuse_module")


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """All tensors of a .bin file (read weights-only) or .safetensors file, by their published names.

    Raises ModelInputError if the file is missing or damaged, or contains anything other than tensors.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelInputError(f"the checkpoint {file} cannot be read ({error.strerror}): check the path") from error
    except pickle.UnpicklingError as error:
        raise ModelInputError(
            f"the checkpoint {file} was refused, because it contains more than weights and could run code: get it from "
            "its authors"
        ) from error
    except Exception as error:  # damaged files make the readers raise many types
        raise ModelInputError(f"the checkpoint {file} is damaged or not a PyTorch file: download it again") from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise ModelInputError(
            f"the checkpoint {file} is not a plain dictionary of tensors and therefore not a FastComposer checkpoint: "
            "choose another file"
        )
    for name, value in content.items():
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise ModelInputError(
                f"the checkpoint {file} stores {name} in a sparse, quantized or empty form: save it with dense tensors"
            )
    return content


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
        if component == "vae" and (match := re.search(r"\.attentions\.\d+\.(query|key|value|proj_attn)\.", name)):
            name = name.replace(f".{match.group(1)}.", f".{VAE_ATTENTION[match.group(1)]}.")
            value = value.flatten(1) if value.ndim == 4 else value
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


def load_whole(kind: type[ModelMixin], folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The model in a folder; raises ModelInputError if its weights do not match its configuration exactly."""
    with loading(f"the model {folder}"):
        loaded: Any = kind.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    model, report = loaded
    for fault in ("missing", "unexpected"):
        if names := sorted(report[f"{fault}_keys"]):
            raise ModelInputError(
                f"the model {folder}: {len(names)} weights are {fault}, for example {names[0]}: restore its weights "
                "and its config.json"
            )
    return model


def load_strictly(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    dtype: torch.dtype,
    where: str,
    advice: str = "use the base pipeline and image encoder that it was trained from",
) -> None:
    """Load weights into a model; raises ModelInputError, with `advice` at its end, unless they match exactly."""
    expected = model.state_dict()
    missing, unexpected = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing:
        raise ModelInputError(f"{where}: {len(missing)} weights are missing, for example {missing[0]}: {advice}")
    if unexpected:
        raise ModelInputError(
            f"{where}: {len(unexpected)} weights are unexpected, for example {unexpected[0]}: {advice}"
        )
    for key, value in weights.items():
        if value.shape != expected[key].shape:
            raise ModelInputError(
                f"{where}: {key} has shape {tuple(value.shape)} instead of {tuple(expected[key].shape)}: {advice}"
            )
    model.load_state_dict({key: value.to(dtype) for key, value in weights.items()}, strict=True, assign=True)
