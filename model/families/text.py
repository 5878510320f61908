"""A pipeline's text encoders and their tokenizers, in the order in which the family joins the features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class TextEncoders:
    """Text encoders and their tokenizers, pair by pair; a family has one or several."""

    tokenizers: tuple[Any, ...]
    encoders: tuple[Any, ...]

    def tokens(self, prompts: Sequence[str]) -> list[Tensor]:
        """Token ids of the prompts for each encoder [prompts, length], on the CPU."""
        return [padded_tokens(tokenizer, prompts) for tokenizer in self.tokenizers]


def padded_tokens(tokenizer: Any, prompts: Sequence[str]) -> Tensor:
    """Token ids of the prompts [prompts, length], padded or truncated to the tokenizer's length."""
    length = tokenizer.model_max_length
    found = tokenizer(list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return found.input_ids
