"""Training the pocket CLIP: contrastive on captions that describe traits, as captions of real pictures name people.

What web-scale captions do for CLIP's sense of faces, an auxiliary loss does here: from pictures and photographs of one
person a linear head (discarded afterwards) predicts the person's traits from the image embedding. It bounds how much of
an identity FastComposer passes on: what the embedding does not hold, no training of the generator brings back.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from fc_bench.model.fastcomposer import references
from fc_bench.model.pocket.canvas import SIZE
from fc_bench.model.pocket.dataset import PackedDataset
from fc_bench.model.pocket.people import make_person, trait_vector
from fc_bench.model.pocket.stage import StageSettings, train_stage
from fc_bench.model.pocket.tokenizer import CONTEXT_LENGTH

WIDTH = 192
_SHARE_OF_PHOTOGRAPHS = 0.5
_TRAIT_WEIGHT = 2.0
"""Of the share of the traits' variance that the head leaves unexplained."""


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
    data: PackedDataset,
    photographs: PackedDataset,
    tokenizer: CLIPTokenizer,
    folder: Path,
    settings: StageSettings,
    device: torch.device,
) -> CLIPModel:
    """Train on random pictures and photographs with one of their captions each; equal captions count as positives."""
    clip = build_clip(tokenizer)
    sources = [_Captioned(data, tokenizer), _Captioned(photographs, tokenizer)]
    head = nn.Linear(WIDTH, sources[0].traits.shape[1])
    variance = float(sources[1].traits.var(0).sum())
    counts = (settings.batch_size - round(_SHARE_OF_PHOTOGRAPHS * settings.batch_size),)
    counts = (*counts, settings.batch_size - counts[0])

    def loss(rng: np.random.Generator, progress: float) -> dict[str, Tensor]:
        drawn = [source.draw(rng, count) for source, count in zip(sources, counts, strict=True)]
        images, tokens, traits, single = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        ids = torch.from_numpy(tokens.astype(np.int64)).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            output = clip(input_ids=ids, pixel_values=normalize(images, device))
        image, text = output.image_embeds.float(), output.text_embeds.float()
        logits = clip.logit_scale.exp().clamp(max=100) * image @ text.T
        equal = (ids[:, None] == ids[None]).all(-1).float()
        target = equal / equal.sum(1, keepdim=True)
        contrast = -0.5 * ((target * logits.log_softmax(1)).sum(1) + (target * logits.T.log_softmax(1)).sum(1)).mean()
        alone = torch.from_numpy(single).to(device)
        wanted = torch.from_numpy(traits).to(device)
        predicted = head(image[alone] * WIDTH**0.5)
        unexplained = (predicted - wanted[alone]).pow(2).sum(1).mean() / variance
        hit = (logits.argmax(1) == torch.arange(len(ids), device=device)).float().mean()
        return {"loss": contrast + _TRAIT_WEIGHT * unexplained, "contrast": contrast, "traits": unexplained, "hit": hit}

    train_stage(folder, {"clip": clip, "head": head}, loss, settings, device)
    return clip


class _Captioned:
    """Pictures with their tokenized captions and, where one person is alone, that person's traits."""

    def __init__(self, data: PackedDataset, tokenizer: CLIPTokenizer):
        self.data = data
        self.token_ids = tokenize_captions(data, tokenizer)
        self.traits, self.single = _single_person_traits(data)

    def draw(
        self, rng: np.random.Generator, count: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int16], NDArray[np.float32], NDArray[np.bool_]]:
        """Images, token ids of one caption each, traits of the first person, whether that person is alone."""
        index = rng.integers(0, self.data.train_count, count)
        which = np.where(rng.random(count) < 0.15, 0, rng.integers(1, self.token_ids.shape[1], count))
        return self.data.images[index], self.token_ids[index, which], self.traits[index], self.single[index]


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
