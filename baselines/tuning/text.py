"""Prompts as the text encoder's features, and what a method may say in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging

from fc_bench.baselines.base_pipeline import check_length
from fc_bench.errors import UserError


def encode_prompts(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, prompts: Sequence[str]) -> Tensor:
    """[prompts, length, features], padded to the tokenizer's full length; equal prompts are encoded once.

    Carries a gradient where the text encoder does.
    """
    distinct = list(dict.fromkeys(prompts))
    tokens = tokenizer(
        distinct, padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
    )
    features = text_encoder(tokens.input_ids.to(text_encoder.device))[0]
    return features[[distinct.index(prompt) for prompt in prompts]]


class PromptLengths:
    """How many tokens prompts take, also with tokens that the text encoder is yet to be taught."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self._tokenizer = tokenizer
        self._longest = int(tokenizer.model_max_length)
        self._taken: dict[str, int] = {}
        self.vocabulary = frozenset(tokenizer.get_vocab())

    def check(self, prompt: str, new_tokens: Mapping[str, int] | None = None) -> None:
        """Raise UserError when the prompt would be cut off; a new token stands for so many."""
        counts = new_tokens or {}
        parts = re.split("|".join(map(re.escape, counts)), prompt) if counts else [prompt]
        taught = sum(prompt.count(token) * count for token, count in counts.items())
        check_length(prompt, sum(map(self._length, parts)) + taught + 2, self._longest)

    def _length(self, text: str) -> int:
        if text not in self._taken:
            self._taken[text] = len(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if text.strip() else 0
        return self._taken[text]


class FrozenPrompts:
    """Features of prompts under a text encoder that does not change, each computed once."""

    def __init__(self, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._features: dict[str, Tensor] = {}

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """[prompts, length, features]"""
        for prompt in prompts:
            if prompt not in self._features:
                with torch.no_grad():
                    self._features[prompt] = encode_prompts(self._tokenizer, self._text_encoder, [prompt])[0]
        return torch.stack([self._features[prompt] for prompt in prompts])


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' remarks about weights that something else is about to fill in."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def single_token(tokenizer: CLIPTokenizer, word: str, what: str, remedy: str = "choose another") -> int:
    """The id of a word that has to be one token; raises UserError, naming the pieces, when it is none or several."""
    pieces = tokenizer.tokenize(word)
    if len(pieces) != 1:
        shown = ", ".join(f'"{piece}"' for piece in pieces) or "nothing"
        raise UserError(f'{what} "{word}" has to be one token of the text encoder but becomes {shown}; {remedy}.')
    return tokenizer.get_vocab()[pieces[0]]
