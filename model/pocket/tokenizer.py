"""The pocket tokenizer: CLIP's, with a vocabulary in which every word of the pocket world is one token.

Any other text still tokenizes, byte by byte, as in CLIP.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from fc_bench.model.pocket.vocabulary import words

CONTEXT_LENGTH = 64
"""Tokens of a prompt, begin and end included."""


def build_tokenizer() -> CLIPTokenizer:
    """A CLIPTokenizer over the closed vocabulary with byte fallback, `CONTEXT_LENGTH` tokens long."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=100_000, min_frequency=1, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(words(), trainer)
    learned = json.loads(learner.to_str())["model"]
    merges: Any = [tuple(pair) for pair in learned["merges"]]  # declared as strings, read as pairs
    tokens = [*alphabet, *(symbol + "</w>" for symbol in alphabet)]
    known = set(tokens)
    for token in sorted(learned["vocab"], key=learned["vocab"].get):
        if token not in known:
            known.add(token)
            tokens.append(token)
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT_LENGTH)
