"""CLIP tokenizers for a given list of words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def word_tokenizer(words: Iterable[str], length: int, size: int | None = None) -> CLIPTokenizer:
    """A CLIPTokenizer with `length` tokens per prompt, in which each of the words is one token.

    As in CLIP, other text is tokenized byte by byte. With `size`, unused tokens fill the vocabulary up to the size of a
    text encoder's vocabulary. Raises ValueError when the words need more than `size` tokens.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=100_000, min_frequency=1, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(words, trainer)
    learned = json.loads(learner.to_str())["model"]
    merges: Any = [tuple(pair) for pair in learned["merges"]]  # declared as strings, read as pairs
    tokens = dict.fromkeys([*alphabet, *(symbol + "</w>" for symbol in alphabet)])
    tokens |= dict.fromkeys(sorted(learned["vocab"], key=learned["vocab"].get))
    fillers = 0 if size is None else size - len(tokens) - 2
    if fillers < 0:
        raise ValueError(f"the words take {len(tokens) + 2} tokens, more than {size}")
    listed = [*tokens, *(f"unused {number}" for number in range(fillers)), BEGIN, END]
    vocabulary = {token: index for index, token in enumerate(listed)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)
