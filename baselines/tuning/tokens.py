"""New tokens: embeddings trained beside the text encoder's frozen table, stored in a file that diffusers loads."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.tuning.text import encode_once, quiet_transformers
from fc_bench.errors import UserError
from fc_bench.model.errors import ModelInputError, loading
from fc_bench.model.families.condition import Condition
from fc_bench.model.families.family import Family
from fc_bench.protocols import Subject


def token_of(subject: Subject) -> str:
    """The subject's token `<id>`.

    It has brackets because an added token also matches inside words. It is lower case because prompts are lowercased.
    """
    return f"<{subject.id.lower()}>"


def vectors_of(token: str, count: int) -> list[str]:
    """The tokens of several vectors in diffusers' naming: `<id>`, `<id>_1`, ...; a prompt has them in this order."""
    return [token, *(f"{token}_{number}" for number in range(1, count))]


def check_new_tokens(known: Container[str], tokens: Sequence[str]) -> None:
    """Raise UserError when a token is in the text encoder's vocabulary already or belongs to two subjects."""
    for place, token in enumerate(tokens):
        if token in tokens[:place]:
            raise UserError(
                f"Two subjects of a set would have the same token {token}, because their ids differ only in capitals; "
                "give one of them another id in the suite."
            )
        if token in known:
            raise UserError(
                f"The text encoder already has the token {token}; give the subject another id in the suite."
            )


class NewTokens:
    """Tokenizers and text encoders with new tokens, whose embeddings are the only trainable parameters.

    `starts` are, for each token, the ids of the tokens that initialize it in the encoders. Raises UserError when a
    tokenizer already has one of the new tokens.
    """

    def __init__(
        self,
        base: BasePipeline,
        tokens: Sequence[str],
        starts: Sequence[Sequence[int]],
        gradient_checkpointing: bool = False,
    ) -> None:
        self.tokens = list(tokens)
        self._family, self._text = base.family, base.fresh_text(torch.float32)
        self._tables = []
        for number, (tokenizer, encoder) in enumerate(zip(self._text.tokenizers, self._text.encoders, strict=True)):
            first = len(tokenizer)
            check_new_tokens(tokenizer.get_vocab(), self.tokens)
            tokenizer.add_tokens(self.tokens)
            table = _ExtendedTable(encoder.get_input_embeddings(), first, [ids[number] for ids in starts])
            encoder.set_input_embeddings(table)
            encoder.train()
            if gradient_checkpointing:
                encoder.gradient_checkpointing_enable()
            self._tables.append(table)
        self._family.fit_new_tokens(self._text)

    @property
    def rows(self) -> list[nn.Parameter]:
        """The trained embeddings in each text encoder [tokens, features], in float32."""
        return [table.rows for table in self._tables]

    def encode(self, prompts: Sequence[str]) -> Condition:
        """The condition of the prompts, with a gradient for `rows`."""
        return encode_once(self._family, self._text, prompts)


class _ExtendedTable(nn.Module):
    """Token embeddings: the frozen table for ids below `first`, trained rows from there on.

    The table is not a parameter of the training, so updates and weight decay cannot change it. The optimizer keeps
    state only for the new rows.
    """

    def __init__(self, table: nn.Module, first: int, starts: Sequence[int]) -> None:
        super().__init__()
        assert isinstance(table, nn.Embedding)
        self._table = table
        self._first = first
        self.rows = nn.Parameter(table.weight[list(starts)].detach().clone())

    def forward(self, ids: Tensor) -> Tensor:
        new = (ids >= self._first).unsqueeze(-1)
        known = self._table(ids.clamp(max=self._first - 1))
        return torch.where(new, self.rows[(ids - self._first).clamp(min=0)], known)


def save_tokens(family: Family, rows: Sequence[Tensor], token: str, file: Path) -> None:
    """Write a token's embeddings in each text encoder [vectors, features], under the keys of the diffusers examples.

    The file's metadata say what a stock pipeline needs beside it.
    """
    keys = family.token_keys(token)
    stored = {key: own.detach().cpu().contiguous() for key, own in zip(keys, rows, strict=True)}
    # Metadata of several entries are written in random order, so the same artefact would have different bytes.
    metadata = {"note": family.token_note} if family.token_note else {"format": "pt"}
    save_file(stored, file, metadata=metadata)


def load_tokens(family: Family, pipeline: Any, token: str, file: Path) -> None:
    """Add a token from its file to a pipeline, whose tokenizers and text encoders must not be shared.

    diffusers adds random rows to the table and then overwrites them, so the global generator advances. transformers
    would warn about these rows, which is not useful here. Raises ModelInputError when the file cannot be read or
    belongs to another family.
    """
    text, keys = family.text_of(pipeline), family.token_keys(token)
    with quiet_transformers(), loading(f"the token {file}"):
        stored = load_file(file)
        keys = list(stored) if len(keys) == len(stored) == 1 else keys  # the token may have had another name
        if stored.keys() != set(keys):
            raise ModelInputError(
                f"The token {file} has the embeddings {', '.join(sorted(stored))} instead of {', '.join(keys)}: it "
                f"does not belong to {family.title}; customize again."
            )
        for key, tokenizer, encoder in zip(keys, text.tokenizers, text.encoders, strict=True):
            own = {"tokenizer": tokenizer, "text_encoder": encoder}
            pipeline.load_textual_inversion({token: stored[key]}, token=token, **own)
    family.fit_new_tokens(text)
