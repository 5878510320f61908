"""Text features of prompts, and checks that prompts and words fit the text encoder."""

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


class Prompts:
    """Features of prompts from a text encoder, with a gradient if the text encoder has one."""

    def __init__(self, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._ids: dict[str, Tensor] = {}

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Features of the prompts [prompts, length, features], padded to the tokenizer's full length.

        Equal prompts are encoded once, and each is tokenized only once.
        """
        distinct = list(dict.fromkeys(prompts))
        ids = torch.stack([self._tokens(prompt) for prompt in distinct])
        features = self._text_encoder(ids.to(self._text_encoder.device))[0]
        return features[[distinct.index(prompt) for prompt in prompts]]

    def _tokens(self, prompt: str) -> Tensor:
        if prompt not in self._ids:
            length = self._tokenizer.model_max_length
            tokens = self._tokenizer(
                prompt, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
            )
            self._ids[prompt] = tokens.input_ids[0]
        return self._ids[prompt]


class PromptLengths:
    """A check of prompt lengths, which also counts tokens that are not yet in the text encoder."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self._tokenizer = tokenizer
        self._longest = int(tokenizer.model_max_length)
        self._lengths: dict[str, int] = {}
        self.vocabulary = frozenset(tokenizer.get_vocab())

    def check(self, prompt: str, new_tokens: Mapping[str, int] | None = None) -> None:
        """Raise UserError when the prompt would be truncated; `new_tokens` maps each new token to its length."""
        counts = new_tokens or {}
        parts = re.split("|".join(map(re.escape, counts)), prompt) if counts else [prompt]
        added = sum(prompt.count(token) * count for token, count in counts.items())
        check_length(prompt, sum(map(self._length, parts)) + added + 2, self._longest)

    def _length(self, text: str) -> int:
        if text not in self._lengths:
            ids = self._tokenizer(text, add_special_tokens=False)["input_ids"] if text.strip() else []
            self._lengths[text] = len(ids)
        return self._lengths[text]


class FrozenPrompts:
    """Features of prompts from a frozen text encoder; each prompt is encoded once."""

    def __init__(self, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> None:
        self._encode = Prompts(tokenizer, text_encoder)
        self._features: dict[str, Tensor] = {}

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Features of the prompts [prompts, length, features]."""
        for prompt in prompts:
            if prompt not in self._features:
                with torch.no_grad():
                    self._features[prompt] = self._encode([prompt])[0]
        return torch.stack([self._features[prompt] for prompt in prompts])


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppress transformers' warnings about weights that are filled in later."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def single_token(tokenizer: CLIPTokenizer, word: str, what: str, remedy: str = "choose another") -> int:
    """The id of a word that must be one token; raises UserError, which names the pieces, when it is not."""
    pieces = tokenizer.tokenize(word)
    if len(pieces) != 1:
        found = ", ".join(f'"{piece}"' for piece in pieces) or "nothing"
        raise UserError(f'{what} "{word}" has to be one token of the text encoder, but it becomes {found}; {remedy}.')
    return tokenizer.get_vocab()[pieces[0]]
