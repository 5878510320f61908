"""Training the pocket IP-Adapter: attention to a photograph beside the prompt, over the finished base model.

As in IP-Adapter (arXiv 2308.06721, section 3.2), the embedding of the CLIP image encoder becomes four tokens, to which
new keys and values of each cross-attention layer attend; nothing else is trained. The photograph shows the person of
the training picture on another occasion, so that a copy of the photograph does not help. To learn in minutes, the
tokens begin where the text encoder puts a description of the person, which the base model understands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from fc_bench.model.attention import attention_for, use_attention
from fc_bench.model.ip_adapter import Adapter, numbered_layers, read_adapter
from fc_bench.model.pocket.base_unet import Denoising, encode_text
from fc_bench.model.pocket.clip import normalize, tokenize_captions
from fc_bench.model.pocket.dataset import PackedDataset
from fc_bench.model.pocket.stage import StageSettings, train_stage
from fc_bench.model.pocket.tokenizer import CONTEXT_LENGTH
from fc_bench.model.stored_weights import load_whole

TOKENS = 4
"""Tokens of a photograph, as many as the published layout of the plain IP-Adapter has."""
WEIGHTS = "ip-adapter.safetensors"
"""Name of the file, in the published layout."""
_PLAIN_CAPTION_SHARE = 0.8
_DESCRIBED, _RIDGE = 4000, 1e-2
"""Photographs whose descriptions the projection begins with, and the share of the variance that is added to it."""
_NO_PHOTOGRAPH, _NO_TEXT, _NEITHER = 0.05, 0.05, 0.05
"""Shares of samples whose photograph, text, or both are left out, those of the published training."""


def untrained_adapter(unet: UNet2DConditionModel, features: int, seed: int = 0) -> dict[str, Tensor]:
    """Weights in the published layout for `unet` and image embeddings of `features` numbers.

    New keys and values begin as those of the text, the projection at random.
    """
    width = int(unet.config["cross_attention_dim"])
    projection = nn.Linear(features, TOKENS * width)
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(projection.weight, std=features**-0.5, generator=generator)
    weights = {
        "image_proj.proj.weight": projection.weight.detach(),
        "image_proj.proj.bias": torch.zeros(TOKENS * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    for number, layer in numbered_layers(unet).items():
        for kind in ("to_k", "to_v"):
            weights[f"ip_adapter.{number}.{kind}_ip.weight"] = getattr(layer, kind).weight.detach().clone()
    return weights


def attach_adapter(unet: UNet2DConditionModel, weights: dict[str, Tensor]) -> nn.ModuleDict:
    """Load weights of the published layout into `unet` by diffusers; returns the adapter's modules."""
    unet._load_ip_adapter_weights([Adapter.of(weights).parts])
    projection: Any = unet.encoder_hid_proj
    layers = {str(number): layer.processor for number, layer in numbered_layers(unet).items()}
    return nn.ModuleDict({"image_proj": projection.image_projection_layers[0], "ip_adapter": nn.ModuleDict(layers)})


def adapter_weights(adapter: nn.ModuleDict) -> dict[str, Tensor]:
    """The weights of `attach_adapter` in the published layout."""
    names = {".image_embeds.": ".proj.", ".to_k_ip.0.": ".to_k_ip.", ".to_v_ip.0.": ".to_v_ip."}
    found = {}
    for key, value in adapter.state_dict().items():
        for current, published in names.items():
            key = key.replace(current, published)
        found[key] = value.detach().contiguous()
    return found


def save_adapter(adapter: nn.ModuleDict, file: Path) -> None:
    """Write the weights in half precision."""
    save_file({key: value.half() for key, value in adapter_weights(adapter).items()}, file)


@torch.no_grad()
def embed_references(
    encoder: CLIPVisionModelWithProjection, photographs: PackedDataset, path: Path, device: torch.device
) -> NDArray[np.float32]:
    """The image encoder's embeddings of all photographs, [N, features], cached in `path`."""
    if not path.exists():
        nn.Module.to(encoder.eval(), device)
        batches = [photographs.images[start : start + 64] for start in range(0, len(photographs.images), 64)]
        found = [encoder(pixel_values=normalize(batch, device)).image_embeds.cpu().numpy() for batch in batches]
        partial = path.with_suffix(".partial.npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(partial, np.concatenate(found))
        partial.replace(path)
    return np.load(path)


def train_adapter(
    unet: UNet2DConditionModel,
    data: PackedDataset,
    latents: NDArray[np.float16],
    photographs: PackedDataset,
    embeddings: NDArray[np.float32],
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    folder: Path,
    settings: StageSettings,
    device: torch.device,
) -> nn.ModuleDict:
    """Train an adapter on pictures of one person and photographs of the same; `unet` itself stays as it is."""
    use_attention(unet, attention_for(device))
    nn.Module.to(text_encoder.eval().requires_grad_(False), device)
    start = untrained_adapter(unet, embeddings.shape[1], settings.seed)
    start |= _described(photographs, embeddings, text_encoder, tokenizer, device)
    adapter = attach_adapter(unet, start)
    nn.Module.to(unet.requires_grad_(False), device)
    adapter.requires_grad_(True)
    token_ids = tokenize_captions(data, tokenizer)
    empty = np.array(tokenizer("", padding="max_length").input_ids, np.int16)
    denoising = Denoising(data, latents, device)
    alone = np.array([i for i, a in enumerate(data.annotations[: data.train_count]) if len(a["people"]) == 1])
    shown = _photographs_by_person(photographs)
    own = np.array([shown[data.annotations[i]["people"][0]] for i in alone])
    batch = settings.batch_size

    def loss(rng: np.random.Generator, progress: float) -> dict[str, Tensor]:
        row = rng.integers(0, len(alone), batch)
        index = alone[row]
        plain = rng.random(batch) < _PLAIN_CAPTION_SHARE
        ids = token_ids[index, np.where(plain, 0, rng.integers(1, token_ids.shape[1], batch))]
        chance = rng.random((batch, 1))
        no_photograph = (chance < _NO_PHOTOGRAPH) | (chance > 1 - _NEITHER)
        no_text = (chance >= _NO_PHOTOGRAPH) & (chance < _NO_PHOTOGRAPH + _NO_TEXT) | (chance > 1 - _NEITHER)
        reference = embeddings[own[row, rng.integers(0, own.shape[1], batch)]]
        image = torch.from_numpy(np.where(no_photograph, 0, reference).astype(np.float32)).to(device)
        states = encode_text(text_encoder, np.where(no_text, empty, ids), device)
        return denoising.losses(unet, index, states, added_cond_kwargs={"image_embeds": [image[:, None]]})

    train_stage(folder, {"adapter": adapter}, loss, settings, device)
    return adapter


@torch.no_grad()
def _described(
    photographs: PackedDataset,
    embeddings: NDArray[np.float32],
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    device: torch.device,
) -> dict[str, Tensor]:
    """The projection that predicts the text encoder's states of a photograph's description, by ridge regression.

    The states stand at equal distances in the description up to its end; each knows what comes before it.
    """
    some = range(0, len(photographs.annotations), -(-len(photographs.annotations) // _DESCRIBED))
    captions = [photographs.annotations[row]["rich_captions"][0] for row in some]
    encoded = tokenizer(captions, padding="max_length", max_length=CONTEXT_LENGTH, truncation=True)
    ids, ends = np.array(encoded.input_ids, np.int16), np.sum(encoded.attention_mask, 1) - 1
    places = ends[:, None] * np.arange(1, TOKENS + 1) // TOKENS
    batches = [
        encode_text(text_encoder, ids[start : start + 64], device).float().cpu() for start in range(0, len(ids), 64)
    ]
    states = torch.cat(batches)[torch.arange(len(ids))[:, None], torch.from_numpy(places)]
    norm = text_encoder.final_layer_norm
    gain, bias = norm.weight.detach().float().cpu(), norm.bias.detach().float().cpu()
    wanted = ((states - bias) / gain).flatten(1).double()
    known = torch.from_numpy(embeddings[list(some)]).double()
    middle, target = known.mean(0), wanted.mean(0)
    spread = (known - middle).T @ (known - middle)
    spread += _RIDGE * spread.diagonal().mean() * torch.eye(len(spread))
    weight = torch.linalg.solve(spread, (known - middle).T @ (wanted - target)).T
    return {
        "image_proj.proj.weight": weight.float().contiguous(),
        "image_proj.proj.bias": (target - weight @ middle).float(),
        "image_proj.norm.weight": gain.clone(),
        "image_proj.norm.bias": bias.clone(),
    }


def _photographs_by_person(photographs: PackedDataset) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row, annotation in enumerate(photographs.annotations):
        found.setdefault(annotation["people"][0], []).append(row)
    return found


def open_with_adapter(base: StableDiffusionPipeline, encoder: Path, adapter: Path) -> StableDiffusionPipeline:
    """The base pipeline with a trained adapter and its image encoder, in single precision."""
    pipeline: Any = base
    pipeline.register_modules(image_encoder=load_whole(CLIPVisionModelWithProjection, encoder))
    pipeline.load_ip_adapter(read_adapter(adapter).parts, "", None, image_encoder_folder=None)
    return pipeline
