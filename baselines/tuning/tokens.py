"""New tokens: embeddings learnt beside the text encoder's frozen table, kept in a file, loaded by diffusers."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor, nn

from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.tuning.text import encode_prompts, quiet_transformers
from fc_bench.errors import UserError
from fc_bench.model.errors import loading
from fc_bench.protocols import Subject


def token_of(subject: Subject) -> str:
    """`<id>`: in brackets, because an added token also matches inside words; lower case, as prompts are read."""
    return f"<{subject.id.lower()}>"


def vectors_of(token: str, count: int) -> list[str]:
    """The tokens of several vectors, diffusers' `<id>`, `<id>_1`, ...; in a prompt they stand one after the other."""
    return [token, *(f"{token}_{number}" for number in range(1, count))]


def check_new_tokens(known: Container[str], tokens: Sequence[str]) -> None:
    """Raise UserError when the text encoder knows one of the tokens already, or two subjects would have the same."""
    for place, token in enumerate(tokens):
        if token in tokens[:place]:
            raise UserError(
                f"Two subjects of a set would have the token {token}, whose ids differ in capitals alone; give one of "
                "them another id in the suite."
            )
        if token in known:
            raise UserError(
                f"The text encoder already knows the token {token}; give the subject another id in the suite."
            )


class NewTokens:
    """A tokenizer and a text encoder of one's own that know new tokens; the tokens' embeddings alone can be trained.

    Each starts as the embedding of another token. Raises UserError when the tokenizer knows one of them already.
    """

    def __init__(
        self, base: BasePipeline, tokens: Sequence[str], starts: Sequence[int], gradient_checkpointing: bool = False
    ) -> None:
        self.tokens = list(tokens)
        self._tokenizer = base.fresh_tokenizer()
        self._text_encoder = base.fresh_text_encoder(torch.float32)
        first = len(self._tokenizer)
        check_new_tokens(self._tokenizer.get_vocab(), self.tokens)
        self._tokenizer.add_tokens(self.tokens)
        self._table = _ExtendedTable(self._text_encoder.get_input_embeddings(), first, starts)
        self._text_encoder.set_input_embeddings(self._table)
        self._text_encoder.train()
        if gradient_checkpointing:
            self._text_encoder.gradient_checkpointing_enable()

    @property
    def rows(self) -> nn.Parameter:
        """The trained embeddings [tokens, features], in float32."""
        return self._table.rows

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """[prompts, length, features] with a gradient for the rows."""
        return encode_prompts(self._tokenizer, self._text_encoder, prompts)


class _ExtendedTable(nn.Module):
    """Token embeddings: the frozen table's below `first`, trained ones from there on.

    The table is no parameter of the training at all, so neither an update nor weight decay can reach it, and the
    optimizer keeps state for the new rows alone.
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
    """Write a token's embeddings [vectors, features] as diffusers' Textual Inversion example does."""
    save_file({token: rows.detach().cpu().contiguous()}, file, metadata={"format": "pt"})


def load_tokens(pipeline: StableDiffusionPipeline, token: str, file: Path) -> None:
    """Teach a pipeline, whose tokenizer and text encoder have to be one's own, a token from its file.

    diffusers enlarges the table with random rows before it fills them in: the global generator moves on, and
    transformers' remark about such rows is not for the reader of a run. Raises ModelInputError when the file cannot be
    read.
    """
    with quiet_transformers(), loading(f"the token {file}"):
        pipeline.load_textual_inversion(str(file.parent), token=token, weight_name=file.name, use_safetensors=True)
