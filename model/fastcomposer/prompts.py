"""Prompts with subjects, such as `a man <|image|> and a woman <|image|> reading`, parsed into token ids."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from fc_bench.model.errors import ModelInputError

PLACEHOLDER = "<|image|>"
MAX_SUBJECTS = 8
"""Largest number of subjects of a prompt."""
TRAINED_SUBJECTS = 4
"""Most subjects of a training picture (mit-han-lab/fastcomposer, `max_num_objects`)."""


@dataclass(frozen=True)
class ParsedPrompt:
    """A prompt for the text encoder: its placeholders are removed, and the tokens before them are marked."""

    text: str
    """The prompt without placeholders."""
    input_ids: Tensor
    """Token ids padded to the tokenizer's length, [length]."""
    image_tokens: tuple[int, ...]
    """Position of each subject's image token (the last token of its noun phrase), in prompt order."""
    length: int
    """Number of token ids before the padding."""

    def padded_for(self, tokenizer: Any) -> Tensor:
        """The token ids with the padding of another tokenizer of the same vocabulary, [length]."""
        ids = self.input_ids.clone()
        ids[self.length :] = padding_of(tokenizer)
        return ids

    @property
    def image_token_mask(self) -> Tensor:
        """True at image tokens, [length]."""
        mask = torch.zeros_like(self.input_ids, dtype=torch.bool)
        mask[list(self.image_tokens)] = True
        return mask


def check_tokenizer(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> None:
    """Raise ModelInputError for a tokenizer that does not fit the text encoder or is empty because of missing files."""
    config = text_encoder.config
    if len(tokenizer) <= len(tokenizer.all_special_ids) or len(tokenizer) > config.vocab_size:
        raise ModelInputError(
            f"the tokenizer has {len(tokenizer)} tokens, but the text encoder has {config.vocab_size}: restore the "
            "tokenizer folder of the pipeline"
        )
    if tokenizer.model_max_length > config.max_position_embeddings:
        raise ModelInputError(
            f"the tokenizer pads to {tokenizer.model_max_length} tokens, but the text encoder reads at most "
            f"{config.max_position_embeddings}: restore model_max_length in the tokenizer_config.json of the pipeline"
        )


def plain_text(prompt: str) -> str:
    """The prompt without placeholders, for scoring and for text-only generation."""
    text = re.sub(rf"\s*{re.escape(PLACEHOLDER)}(?=\w)", " ", prompt)
    return re.sub(rf"\s*{re.escape(PLACEHOLDER)}", "", text).strip()


def parse_prompt(prompt: str, tokenizer: CLIPTokenizer, truncate: bool = False) -> ParsedPrompt:
    """Token ids and image tokens of a prompt with placeholders after the class nouns.

    Raises ModelInputError for a prompt that is longer than the tokenizer's length, a placeholder that does not follow a
    word, and more than eight subjects. With `truncate`, as in training on captions, a long prompt is truncated instead
    and loses the subjects beyond its end. FastComposer (arXiv 2305.10431), section 4.1.
    """
    pieces = prompt.split(PLACEHOLDER)
    num_subjects = len(pieces) - 1
    if num_subjects > MAX_SUBJECTS:
        raise ModelInputError(
            f"the prompt {prompt!r} has {num_subjects} placeholders {PLACEHOLDER}, but FastComposer supports at most "
            f"{MAX_SUBJECTS} subjects per image: remove {num_subjects - MAX_SUBJECTS}"
        )
    if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
        raise ModelInputError("the tokenizer has no start or end token: use the CLIPTokenizer of the pipeline's folder")
    ids, image_tokens = [tokenizer.bos_token_id], []
    for index, piece in enumerate(pieces):
        piece_ids = tokenizer(piece, add_special_tokens=False).input_ids if piece.strip() else []
        ids.extend(piece_ids)
        if index < num_subjects:
            if not ends_with_word(piece):
                where = f"number {index + 1} follows {piece.strip()[-1:]!r}, which is not a word"
                if not piece_ids:
                    where = "comes first" if index == 0 else f"number {index + 1} follows another placeholder"
                raise ModelInputError(
                    f"in the prompt {prompt!r} a placeholder {PLACEHOLDER} {where}: put it right after the noun of its "
                    f"subject, as in 'a man {PLACEHOLDER} in the snow'"
                )
            image_tokens.append(len(ids) - 1)
    ids.append(tokenizer.eos_token_id)
    length = tokenizer.model_max_length
    if len(ids) > length and not truncate:
        raise ModelInputError(
            f"the prompt {prompt!r} has {len(ids)} tokens, including start and end, but the text encoder reads at most "
            f"{length}: shorten it"
        )
    ids = ids[:length]
    padded = ids + [padding_of(tokenizer)] * (length - len(ids))
    kept = tuple(position for position in image_tokens if position < length)
    return ParsedPrompt(plain_text(prompt), torch.tensor(padded), kept, len(ids))


def padding_of(tokenizer: Any) -> int:
    """The id with which a tokenizer pads prompts."""
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


def ends_with_word(text: str) -> bool:
    """Whether the last character other than spaces is a letter or a digit, so that the last token is a word."""
    return text.rstrip()[-1:].isalnum()


def insert_placeholders(caption: str, ends: Sequence[int]) -> str:
    """The caption with a placeholder at each character position in `ends`, the ascending ends of noun phrases."""
    bounds = [0, *ends, len(caption)]
    return f" {PLACEHOLDER}".join(caption[start:end] for start, end in pairwise(bounds))
