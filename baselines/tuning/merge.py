"""Custom Diffusion's closed-form merge of separately tuned subjects (arXiv 2212.04488, section 3.2).

The merged weights map each subject's words to the same outputs as that subject's own weights. Among all such weights
they change the base model's outputs for other captions the least.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fc_bench.errors import UserError
from fc_bench.model.families.family import Family
from fc_bench.model.families.text import TextEncoders

CAPTIONS, FEATURES = 240, 768
"""Number of regularization captions for features of this number, as in Stable Diffusion v1.x; more features take more
captions in proportion. Captions have about fifteen words, nearly five for each feature."""
BATCH = 24
"""Number of captions that are encoded together."""
ROUNDING = 1e-6
"""Singular values below this share of the largest one are float32 rounding errors."""
WEAKEST = 1e-4
"""Directions whose singular value is below this share of the largest one keep the base model's weights.

After the last layer norm, (nearly) all features lie in one plane through 0. Captions have (almost) no variance across
that plane. There the closed form would give weights a thousand times those of the base model, which overflow in
smaller number formats.
"""

_STYLES = (
    "a photo of", "an oil painting of", "a pencil sketch of", "a watercolor of", "a black and white picture of",
    "a close view of", "an old postcard showing", "a poster with", "a blurry snapshot of", "a bright illustration of",
    "a mosaic of",
)  # fmt: skip
_THINGS = (
    "a man", "a woman", "two children", "a brown dog", "a sleepy cat", "a red bus", "a wooden chair", "an apple tree",
    "a tall building", "a white horse", "three birds", "a bowl of soup", "a guitar", "an airplane", "a stone bridge",
    "a young doctor", "a football team", "a slice of cake", "a laptop computer", "a small boat", "a yellow umbrella",
    "an old king", "a glass bottle",
)  # fmt: skip
_SETTINGS = (
    "in the snow", "on a beach", "near the river", "under a blue sky", "at night", "in a crowded market",
    "next to a window", "behind a fence", "on top of a mountain", "inside a kitchen", "in the rain", "by the fire",
    "with flowers around it", "in front of a castle", "on a green field", "among many books", "in outer space",
)  # fmt: skip
_ENDS = (
    "during summer", "seen from above", "covered with dust", "looking very happy", "while people watch", "and a mirror",
    "wearing a black hat", "made of metal", "at sunrise", "with long shadows", "after the party", "holding a ball",
    "full of colors",
)  # fmt: skip


def captions(features: int) -> list[str]:
    """The regularization captions for so many features; no two are equal, as the word lists have coprime lengths."""
    parts = (_STYLES, _THINGS, _SETTINGS, _ENDS)
    count = max(CAPTIONS, math.ceil(CAPTIONS * features / FEATURES))
    return [" ".join(part[number % len(part)] for part in parts) for number in range(count)]


@torch.no_grad()
def caption_features(family: Family, text: TextEncoders, captions: Sequence[str]) -> Tensor:
    """Features of the captions' tokens with start and end but without padding, float64 [tokens, features]."""
    found = []
    for start in range(0, len(captions), BATCH):
        tokens = [
            tokenizer(
                list(captions[start : start + BATCH]),
                padding=True,
                truncation=True,
                max_length=tokenizer.model_max_length,
                return_tensors="pt",
            )
            for tokenizer in text.tokenizers
        ]
        features = family.encode_tokens(text.encoders, [own.input_ids for own in tokens]).text
        found.append(features.double().cpu()[tokens[0].attention_mask.bool()])
    return torch.cat(found)


def mention_features(family: Family, text: TextEncoders, before: str, mention: str) -> Tensor:
    """Features of a mention's tokens in the text `before` + mention, float64 [tokens, features]."""
    first = len(text.tokenizers[0](before).input_ids) - 1
    return caption_features(family, text, [f"{before} {mention}"])[first:-1]


def whitening(features: Tensor) -> Tensor:
    """A root of the inverse second moment of regularization features [tokens, features], [features, directions].

    Raises UserError when the features do not span their space, apart from the direction across the layer norm's plane.
    """
    _, sizes, directions = torch.linalg.svd(features, full_matrices=False)
    rank, wanted = int((sizes > ROUNDING * sizes[0]).sum()), features.shape[1]
    if rank < wanted - 1:
        raise UserError(
            f"Tuned weights cannot be merged with this text encoder: the regularization captions span only {rank} of "
            f"its {wanted} features; use custom-diffusion.two_subjects=joint."
        )
    strong = sizes > WEAKEST * sizes[0]
    return directions[strong].T / sizes[strong]


def merge(
    own: Mapping[str, Tensor], tuned: Sequence[Mapping[str, Tensor]], words: Sequence[Tensor], root: Tensor
) -> dict[str, Tensor]:
    """Merged weights by name, in the number format of `own`, the base model's weights.

    `tuned` has the weights of each subject, `words` the features [tokens, features] of each mention, and `root` comes
    from `whitening`. W = W0 + (V - W0 C^T) (d C^T)^-1 d with d = C (C_reg^T C_reg)^-1, in float64. Raises UserError
    when the features of the subjects' words are linearly dependent.
    """
    targets = torch.cat(list(words))
    whitened = targets @ root
    if int(torch.linalg.matrix_rank(whitened, rtol=ROUNDING)) < len(targets):
        raise UserError(
            "Tuned weights cannot be merged: the text encoder does not distinguish the subjects' words; "
            "use custom-diffusion.two_subjects=joint."
        )
    lift = torch.linalg.pinv(whitened).T @ root.T
    merged = {}
    for name, weight in own.items():
        before = weight.detach().double().cpu()
        outputs = [part[name].double() @ features.T for part, features in zip(tuned, words, strict=True)]
        change = (torch.cat(outputs, dim=1) - before @ targets.T) @ lift
        merged[name] = (before + change).to(weight.dtype)
    return merged
