"""Text features of prompts, and checks that prompts and words fit the text encoder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.utils import logging

from fc_bench.baselines.base_pipeline import check_length
from fc_bench.errors import UserError
from fc_bench.model.families.condition import Condition
from fc_bench.model.families.family import Family
from fc_bench.model.families.text import TextEncoders


def encode_once(family: Family, text: TextEncoders, prompts: Sequence[str]) -> Condition:
    """The condition of the prompts, of which equal ones are encoded once; with a gradient if an encoder has one."""
    distinct = list(dict.fromkeys(prompts))
    return family.encode(text, distinct).rows(map(distinct.index, prompts))


class PromptLengths:
    """A check of prompt lengths, which also counts tokens that are not yet in the text encoder."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._longest = int(tokenizer.model_max_length)
        self._lengths: dict[str, int] = {}

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
    """Conditions of prompts from frozen text encoders; each prompt is encoded once."""

    def __init__(self, family: Family, text: TextEncoders) -> None:
        self._family, self._text = family, text
        self._conditions: dict[str, Condition] = {}

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Condition:
        """The condition of the prompts."""
        for prompt in prompts:
            if prompt not in self._conditions:
                self._conditions[prompt] = self._family.encode(self._text, [prompt])
        return Condition.cat([self._conditions[prompt] for prompt in prompts])


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppress transformers' warnings about weights that are filled in later."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def single_token(tokenizers: Sequence[Any], word: str, what: str, remedy: str = "choose another") -> tuple[int, ...]:
    """The id that a word has in each tokenizer.

    Raises UserError, which names the pieces, when the word is not one token.
    """
    ids = []
    for tokenizer in tokenizers:
        pieces = tokenizer.tokenize(word)
        if len(pieces) != 1:
            found = ", ".join(f'"{piece}"' for piece in pieces) or "nothing"
            raise UserError(
                f'{what} "{word}" has to be one token of the text encoder, but it becomes {found}; {remedy}.'
            )
        ids.append(tokenizer.get_vocab()[pieces[0]])
    return tuple(ids)
