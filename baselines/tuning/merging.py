"""Custom Diffusion's closed-form merge of separately tuned subjects (arXiv 2212.04488, section 3.2).

Of all weights that map the subjects' words to what each subject's own weights make of them, the merged ones change
least what the base model makes of other captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from fc_bench.errors import UserError

CAPTIONS = 240
"""Captions whose words' features stand for what is to stay: more words than any text encoder has features."""
BATCH = 24
"""Captions encoded together."""
ROUNDING = 1e-6
"""Singular values below this share of the largest are rounding in float32."""
WEAKEST = 1e-4
"""Directions with a singular value below this share of the largest stay the base model's.

The last layer norm leaves all features (nearly) on one plane through 0. Across it captions say (next to) nothing, and
the closed form answers with weights a thousand times the base model's, which no other number format survives.
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
_DOINGS = (
    "in the snow", "on a beach", "near the river", "under a blue sky", "at night", "in a crowded market",
    "next to a window", "behind a fence", "on top of a mountain", "inside a kitchen", "in the rain", "by the fire",
    "with flowers around it", "in front of a castle", "on a green field", "among many books", "in outer space",
)  # fmt: skip
_ENDS = (
    "during summer", "seen from above", "covered with dust", "looking very happy", "while people watch", "and a mirror",
    "wearing a black hat", "made of metal", "at sunrise", "with long shadows", "after the party", "holding a ball",
    "full of colors",
)  # fmt: skip


def captions() -> list[str]:
    """Everyday captions; lists of coprime lengths, walked together, so that none repeats."""
    parts = (_STYLES, _THINGS, _DOINGS, _ENDS)
    return [" ".join(part[number % len(part)] for part in parts) for number in range(CAPTIONS)]


@torch.no_grad()
def caption_features(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, texts: Sequence[str]) -> Tensor:
    """Features of all tokens of some texts, begin and end included, padding left out: [tokens, features], float64."""
    found = []
    for start in range(0, len(texts), BATCH):
        tokens = tokenizer(
            list(texts[start : start + BATCH]),
            padding=True,
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        )
        features = text_encoder(tokens.input_ids.to(text_encoder.device))[0]
        found.append(features.double().cpu()[tokens.attention_mask.bool()])
    return torch.cat(found)


def mention_features(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, before: str, mention: str) -> Tensor:
    """Features of a mention's tokens after the words `before` it: [tokens, features], float64."""
    first = len(tokenizer(before).input_ids) - 1
    return caption_features(tokenizer, text_encoder, [f"{before} {mention}"])[first:-1]


def whitening(features: Tensor) -> Tensor:
    """A root of the inverse second moment of regularization features [tokens, features]: [features, directions].

    Raises UserError when they do not span their space (but for the one direction across the layer norm's plane).
    """
    _, sizes, directions = torch.linalg.svd(features, full_matrices=False)
    rank, wanted = int((sizes > ROUNDING * sizes[0]).sum()), features.shape[1]
    if rank < wanted - 1:
        raise UserError(
            f"Tuned weights cannot be merged with this text encoder: the regularization captions span {rank} of its "
            f"{wanted} features; use custom-diffusion.two_subjects=joint."
        )
    strong = sizes > WEAKEST * sizes[0]
    return directions[strong].T / sizes[strong]


def merge(
    own: Mapping[str, Tensor], tuned: Sequence[Mapping[str, Tensor]], words: Sequence[Tensor], root: Tensor
) -> dict[str, Tensor]:
    """Merged weights by name, in the number format of `own`, the base model's.

    `tuned` and `words` (features [tokens, features] of the mention) are one for each subject, `root` comes from
    `whitening`. W = W0 + (V - W0 C^T) (d C^T)^-1 d with d = C (C_reg^T C_reg)^-1, in float64. Raises UserError when
    the subjects' words cannot be told apart.
    """
    targets = torch.cat(list(words))
    whitened = targets @ root
    if int(torch.linalg.matrix_rank(whitened, rtol=ROUNDING)) < len(targets):
        raise UserError(
            "Tuned weights cannot be merged: the text encoder cannot tell the subjects' words apart; "
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
