"""The pocket tokenizer: CLIP's, with a vocabulary in which every word of the pocket world is one token.

Any other text still tokenizes, byte by byte, as in CLIP.
"""

from __future__ import annotations

from transformers import CLIPTokenizer

from fc_bench.model.pocket_vocabulary import words
from fc_bench.model.word_tokenizer import word_tokenizer

CONTEXT_LENGTH = 64
"""Tokens of a prompt, begin and end included."""


def build_tokenizer() -> CLIPTokenizer:
    """A CLIPTokenizer over the closed vocabulary with byte fallback, `CONTEXT_LENGTH` tokens long."""
    return word_tokenizer(words(), CONTEXT_LENGTH)
