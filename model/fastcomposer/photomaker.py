"""PhotoMaker v1 (arXiv 2312.04461): published weights of FastComposer's parts for Stable Diffusion XL, and a LoRA.

Its "id encoder" is a CLIP vision tower with one projection for each text encoder and a post-fuse module over both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft
from peft.utils.save_and_load import get_peft_model_state_dict
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.detection import family_of
from fc_bench.model.families.sdxl import StableDiffusionXL
from fc_bench.model.fastcomposer.pipeline import FastComposerXLPipeline, composing
from fc_bench.model.fastcomposer.postfuse import PostfuseModule
from fc_bench.model.fastcomposer.references import cropped_pixels
from fc_bench.model.ip_adapter import unet_outline
from fc_bench.model.stored_weights import load_strictly, read_checkpoint

ENCODER, FUSE, LORA = "id_encoder.", "fuse_module.", "lora_weights."
"""What the names of the encoder's weights, the post-fuse module's among them, and the LoRA's begin with."""
PROJECTION = "visual_projection.weight"
PROJECTIONS = (PROJECTION, "visual_projection_2.weight")
PATCHES = "vision_model.embeddings.patch_embedding.weight"
POSITIONS = "vision_model.embeddings.position_embedding.weight"
WIDEST = "vision_model.encoder.layers.0.mlp.fc1.weight"
SHAPES = {**dict.fromkeys((*PROJECTIONS, POSITIONS, WIDEST), 2), PATCHES: 4}
"""Weights whose shapes give the sizes of the image encoder, with their numbers of dimensions."""
ADAPTER = "photomaker"
"""Name of the LoRA in the UNet."""
HEAD_FEATURES = 64
"""Features of an attention head in the CLIP models ViT-B and ViT-L."""
ADVICE = "name the file photomaker-v1.bin as its authors publish it"


@dataclass(frozen=True)
class PhotoMaker:
    """The parts of a `photomaker-v1.bin`."""

    image_encoder: CLIPVisionModelWithProjection
    """Both projections are rows of one, in the order of the text encoders."""
    postfuse_module: PostfuseModule
    lora: dict[str, Tensor]
    """The weights of the LoRA on the UNet, as `load_lora_weights` of diffusers takes them."""


def read_photomaker(file: Path, dtype: torch.dtype = torch.float32) -> PhotoMaker:
    """The parts of PhotoMaker v1 in a file; it holds a dictionary of parts, or safetensors with the same names.

    Raises ModelInputError for any other file; it names PhotoMaker v2, checkpoints of FastComposer and LoRAs.
    """
    encoder, lora = _read(file)
    fuse = {name.removeprefix(FUSE): encoder.pop(name) for name in list(encoder) if name.startswith(FUSE)}
    encoder.pop("vision_model.embeddings.position_ids", None)
    encoder[PROJECTION] = torch.cat([encoder.pop(name)[...] for name in PROJECTIONS])
    with init_empty_weights(include_buffers=False):
        image_encoder = CLIPVisionModelWithProjection(_vision_config(encoder))
        postfuse_module = PostfuseModule(features=encoder[PROJECTION].shape[0])
    for model, own in ((image_encoder, encoder), (postfuse_module, fuse)):
        load_strictly(model, own, dtype, f"the PhotoMaker weights {file}", ADVICE)
        model.requires_grad_(False).eval()
    return PhotoMaker(image_encoder, postfuse_module, lora)


def check_photomaker(file: Path, pipeline: Path) -> None:
    """Raise ModelInputError for a file that is not PhotoMaker v1, or does not fit the pipeline in a folder.

    No weights are loaded.
    """
    encoder, lora = _read(file)
    found, features = (
        sum(encoder[name].shape[0] for name in PROJECTIONS),
        family_of(pipeline).text_features(pipeline),
    )
    if found != features:
        raise ModelInputError(
            f"the PhotoMaker weights {file} are for text of {found} features, but the pipeline's has {features}: use "
            "weights and a pipeline that fit together"
        )
    _add_lora(unet_outline(pipeline), {name: value.to("meta") for name, value in lora.items()}, file)


def _add_lora(unet: Any, lora: Mapping[str, Tensor], file: Path) -> None:
    """Add the LoRA of a file to a UNet; raises ModelInputError when it has other layers or shapes."""
    wanted = convert_unet_state_dict_to_peft({name.removeprefix("unet."): value for name, value in lora.items()})
    try:
        unet.load_lora_adapter(dict(lora), prefix="unet", adapter_name=ADAPTER)
        loaded = get_peft_model_state_dict(unet, adapter_name=ADAPTER)
    except (ValueError, RuntimeError):
        loaded = {}
    if loaded.keys() != wanted.keys():
        raise ModelInputError(
            f"the LoRA in the PhotoMaker weights {file} does not fit the pipeline's UNet: use a pipeline of "
            f"{StableDiffusionXL.title}"
        )


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The weights of the encoder, and those of the LoRA."""
    weights = read_checkpoint(file)
    encoder = {name.removeprefix(ENCODER): value for name, value in weights.items() if name.startswith(ENCODER)}
    lora = {name.removeprefix(LORA): value[...] for name, value in weights.items() if name.startswith(LORA)}
    if other := _other_kind(weights, encoder):
        raise ModelInputError(f"the PhotoMaker weights {file} are {other}: {ADVICE}")
    if unknown := sorted(name for name in lora if not name.startswith("unet.")):
        raise ModelInputError(
            f"the PhotoMaker weights {file} have a LoRA on something other than the UNet, for example {unknown[0]}: "
            f"{ADVICE}"
        )
    return encoder, lora


def with_photomaker(pipeline: Any, file: Path) -> FastComposerXLPipeline:
    """The pipeline of FastComposer with PhotoMaker's parts, and its LoRA in the UNet, of a stock pipeline.

    The stock pipeline's UNet is changed. Raises ModelInputError for a file that is not PhotoMaker v1, or does not fit.
    """
    unet = pipeline.unet
    photomaker = read_photomaker(file, unet.dtype)
    models = (photomaker.image_encoder.to(unet.device), photomaker.postfuse_module.to(unet.device))
    composed = composing(pipeline, *models)
    composed.read_reference = cropped_pixels
    _add_lora(unet, {name: value.to(unet.dtype) for name, value in photomaker.lora.items()}, file)
    unet.requires_grad_(False).eval()
    return composed


def photomaker_shapes(
    image_encoder: Any, postfuse_module: Any, unet: Any, text_features: Sequence[int], rank: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of a `photomaker-v1.bin`, for FastComposer's parts and a UNet.

    `text_features` are those of each text encoder, and `rank` that of the LoRA on every attention layer.
    """
    encoder = {name: tuple(value.shape) for name, value in image_encoder.state_dict().items()}
    _, width = encoder.pop(PROJECTION)
    encoder |= {name: (own, width) for name, own in zip(PROJECTIONS, text_features, strict=True)}
    encoder |= {f"{FUSE}{name}": tuple(value.shape) for name, value in postfuse_module.state_dict().items()}
    shapes: dict[str, tuple[int, ...]] = {f"{ENCODER}{name}": shape for name, shape in encoder.items()}
    for name, layer in unet.named_modules():
        block, _, part = name.rpartition(".attn")
        if block and part[2:] in ("to_q", "to_k", "to_v", "to_out.0"):
            key = f"{LORA}unet.{block}.attn{part[0]}.processor.{part[2:].removesuffix('.0')}_lora"
            shapes[f"{key}.down.weight"] = (rank, layer.in_features)
            shapes[f"{key}.up.weight"] = (layer.out_features, rank)
    return shapes


def alpha_of(start_merge_step: int, steps: int) -> float:
    """The alpha with which step i is text-only while i <= `start_merge_step`, PhotoMaker's expression.

    It is that of half a step later, so that no rounding decides.
    """
    return max(0.0, 1 - (start_merge_step + 0.5) / steps)


def _other_kind(weights: Mapping[str, Any], encoder: Mapping[str, Any]) -> str | None:
    """What the weights are where they are not PhotoMaker v1."""
    if any(name.startswith("qformer_perceiver.") for name in encoder):
        return "those of PhotoMaker v2, whose encoder also needs embeddings of a face recognizer"
    if any(name.startswith("postfuse_module.") for name in weights):
        return "a FastComposer checkpoint"
    if not encoder and any(".lora" in name or "_lora" in name for name in weights):
        return "a LoRA without an image encoder"
    if not all(name.startswith((ENCODER, LORA)) for name in weights):
        return "not in PhotoMaker's layout, whose parts are id_encoder and lora_weights"
    if unfit := [name for name, ndim in SHAPES.items() if name not in encoder or encoder[name].ndim != ndim]:
        return f"incomplete, without a usable {unfit[0]}"
    width = encoder[PATCHES].shape[0]
    if width % HEAD_FEATURES or any(encoder[name].shape[1] != width for name in PROJECTIONS):
        return f"damaged: the projections do not fit a vision tower of {width} features"
    return None if any(name.startswith(LORA) for name in weights) else "incomplete, without the LoRA"


def _vision_config(encoder: Mapping[str, Any]) -> CLIPVisionConfig:
    """The configuration of the vision tower with these weights."""
    width, _, patch, _ = encoder[PATCHES].shape
    layers = {name.split(".")[3] for name in encoder if name.startswith("vision_model.encoder.layers.")}
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=encoder[WIDEST].shape[0],
        num_hidden_layers=len(layers),
        num_attention_heads=width // HEAD_FEATURES,
        image_size=patch * round((encoder[POSITIONS].shape[0] - 1) ** 0.5),
        patch_size=patch,
        projection_dim=encoder[PROJECTION].shape[0],
    )
