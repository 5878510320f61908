"""New tokens: embeddings trained beside the text encoder's frozen table, stored in a file that diffusers loads."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor, nn

from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.tuning.text import Prompts, quiet_transformers
from fc_bench.errors import UserError
from fc_bench.model.errors import loading
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
    """A tokenizer and a text encoder with new tokens, whose embeddings are the only trainable parameters.

    `starts` are the ids of the tokens that initialize them. Raises UserError when the tokenizer already has one of the
    new tokens.
    """

    def __init__(
        self, base: BasePipeline, tokens: Sequence[str], starts: Sequence[int], gradient_checkpointing: bool = False
    ) -> None:
        self.tokens = list(tokens)
        tokenizer, text_encoder = base.fresh_tokenizer(), base.fresh_text_encoder(torch.float32)
        first = len(tokenizer)
        check_new_tokens(tokenizer.get_vocab(), self.tokens)
        tokenizer.add_tokens(self.tokens)
        self._table = _ExtendedTable(text_encoder.get_input_embeddings(), first, starts)
        text_encoder.set_input_embeddings(self._table)
        text_encoder.train()
        if gradient_checkpointing:
            text_encoder.gradient_checkpointing_enable()
        self._prompts = Prompts(tokenizer, text_encoder)

    @property
    def rows(self) -> nn.Parameter:
        """The trained embeddings [tokens, features], in float32."""
        return self._table.rows

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Features of the prompts [prompts, length, features], with a gradient for `rows`."""
        return self._prompts(prompts)


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


def save_tokens(rows: Tensor, token: str, file: Path) -> None:
    """Write a token's embeddings [vectors, features] in the format of diffusers' Textual Inversion example."""
    save_file({token: rows.detach().cpu().contiguous()}, file, metadata={"format": "pt"})


def load_tokens(pipeline: StableDiffusionPipeline, token: str, file: Path) -> None:
    """Add a token from its file to a pipeline, whose tokenizer and text encoder must not be shared.

    diffusers adds random rows to the table and then overwrites them, so the global generator advances. transformers
    would warn about these rows, which is not useful here. Raises ModelInputError when the file cannot be read.
    """
    with quiet_transformers(), loading(f"the token {file}"):
        pipeline.load_textual_inversion(str(file.parent), token=token, weight_name=file.name, use_safetensors=True)
