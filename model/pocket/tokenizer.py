"""The pocket tokenizer: CLIP's, with a vocabulary in which every word of the pocket world is one token.

As in CLIP, other text is tokenized byte by byte.
"""

from __future__ import annotations

from transformers import CLIPTokenizer

from fc_bench.model.pocket_vocabulary import words
from fc_bench.model.word_tokenizer import word_tokenizer

CONTEXT_LENGTH = 64
"""Number of tokens in a prompt, including start and end."""


def build_tokenizer() -> CLIPTokenizer:
    """A CLIPTokenizer over the closed vocabulary with byte fallback, `CONTEXT_LENGTH` tokens long."""
    return word_tokenizer(words(), CONTEXT_LENGTH)
