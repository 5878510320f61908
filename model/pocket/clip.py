"""Training the pocket CLIP: contrastive on captions that describe traits, as captions of real pictures name people.

What web-scale captions do for CLIP's sense of faces, a small auxiliary loss does here: from pictures of one person a
linear head (discarded afterwards) predicts the person's traits from the image embedding.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from fc_bench.model import references
from fc_bench.model.pocket.canvas import SIZE
from fc_bench.model.pocket.dataset import PackedDataset
from fc_bench.model.pocket.people import make_person, trait_vector
from fc_bench.model.pocket.stage import StageSettings, train_stage
from fc_bench.model.pocket.tokenizer import CONTEXT_LENGTH

WIDTH = 192


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained pocket CLIP: 3 text layers, 5 vision layers of width 192, patches of 16."""
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 4, "projection_dim": WIDTH}
    config = CLIPConfig(
        text_config={
            **tower,
            "num_hidden_layers": 3,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": CONTEXT_LENGTH,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**tower, "num_hidden_layers": 5, "image_size": SIZE, "patch_size": 16},
        projection_dim=WIDTH,
    )
    return CLIPModel._from_config(config, attn_implementation="eager")


def build_image_processor() -> CLIPImageProcessor:
    """The preprocessing that goes with the pocket CLIP: 128 pixels, CLIP's normalization."""
    size = {"height": SIZE, "width": SIZE}
    return CLIPImageProcessor(
        size={"shortest_edge": SIZE},
        crop_size=size,
        image_mean=list(references.CLIP_MEAN),
        image_std=list(references.CLIP_STD),
    )


def train_clip(
    data: PackedDataset, tokenizer: CLIPTokenizer, folder: Path, settings: StageSettings, device: torch.device
) -> CLIPModel:
    """Train on random pictures with one of their captions each; equal captions count as positives of one another."""
    clip = build_clip(tokenizer)
    token_ids = tokenize_captions(data, tokenizer)
    traits, single = _single_person_traits(data)
    head = nn.Linear(WIDTH, traits.shape[1])

    batch = settings.batch_size

    def loss(rng: np.random.Generator, progress: float) -> dict[str, Tensor]:
        index = rng.integers(0, data.train_count, batch)
        which = np.where(rng.random(batch) < 0.15, 0, rng.integers(1, token_ids.shape[1], batch))
        ids = torch.from_numpy(token_ids[index, which].astype(np.int64)).to(device)
        pixels = normalize(data.images[index], device)
        with torch.autocast(device.type, torch.bfloat16):
            output = clip(input_ids=ids, pixel_values=pixels)
        image, text = output.image_embeds.float(), output.text_embeds.float()
        logits = clip.logit_scale.exp().clamp(max=100) * image @ text.T
        equal = (ids[:, None] == ids[None]).all(-1).float()
        target = equal / equal.sum(1, keepdim=True)
        contrast = -0.5 * ((target * logits.log_softmax(1)).sum(1) + (target * logits.T.log_softmax(1)).sum(1)).mean()
        alone = torch.from_numpy(single[index]).to(device)
        wanted = torch.from_numpy(traits[index]).to(device)
        trait = F.mse_loss(head(image[alone] * WIDTH**0.5), wanted[alone])
        hit = (logits.argmax(1) == torch.arange(batch, device=device)).float().mean()
        return {"loss": contrast + 10 * trait, "contrast": contrast, "traits": trait, "hit": hit}

    train_stage(folder, {"clip": clip, "head": head}, loss, settings, device)
    return clip


def tokenize_captions(data: PackedDataset, tokenizer: CLIPTokenizer) -> NDArray[np.int16]:
    """Token ids of every picture's plain caption (index 0) and rich captions, [N, 1 + rich, CONTEXT_LENGTH]."""
    captions = [caption for a in data.annotations for caption in (a["caption"], *a["rich_captions"])]
    encoded = tokenizer(captions, padding="max_length", max_length=CONTEXT_LENGTH, truncation=True).input_ids
    return np.array(encoded, np.int16).reshape(len(data.annotations), -1, CONTEXT_LENGTH)


def normalize(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 [N, 128, 128, 3] to CLIP's input, [N, 3, 128, 128]."""
    return references.normalize(torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float() / 255)


def _single_person_traits(data: PackedDataset) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    cache: dict[int, NDArray[np.float32]] = {}
    rows = []
    for annotation in data.annotations:
        seed = annotation["people"][0]
        if seed not in cache:
            cache[seed] = trait_vector(make_person(seed))
        rows.append(cache[seed])
    return np.stack(rows), np.array([len(a["people"]) == 1 for a in data.annotations])
