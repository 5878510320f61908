"""Prompts are encoded once as long as the text encoder is what it was, and anew as soon as it is not."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPTextModel

from fc_bench.model.families.sd1 import StableDiffusion1
from fc_bench.model.families.text_memory import TextMemory
from fc_bench.model.fastcomposer.pipeline import FastComposerPipeline
from fc_bench.model.fastcomposer.prompts import parse_prompt

READ = StableDiffusion1().read


@pytest.fixture
def encoder(loaded_pipeline: FastComposerPipeline) -> CLIPTextModel:
    """A text encoder of one's own."""
    return deepcopy(loaded_pipeline.text_encoder)


@pytest.fixture
def ids(loaded_pipeline: FastComposerPipeline):
    def make(*prompts: str) -> Tensor:
        return torch.stack([parse_prompt(prompt, loaded_pipeline.tokenizer).input_ids for prompt in prompts])

    return make


def counted(encoder: CLIPTextModel) -> list[int]:
    """Grows by the number of prompts of each call."""
    calls: list[int] = []
    encoder.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    return calls


def test_each_prompt_is_encoded_once_over_batches(encoder, ids):
    memory, calls = TextMemory(), counted(encoder)
    prompts = ["a man", "a woman", "a man", "", ""]
    first = memory(READ, encoder, ids(*prompts)).text
    assert calls == [1, 1, 1]
    again = memory(READ, encoder, ids("", "a woman", "a boy")).text
    assert calls == [1, 1, 1, 1]
    assert torch.equal(again[1], first[1])
    assert torch.equal(first[0], first[2])
    with torch.no_grad():
        together = encoder(ids(*prompts)).last_hidden_state
    torch.testing.assert_close(first, together, rtol=0, atol=1e-5)


def train(encoder: CLIPTextModel) -> None:
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1, fused=True)
    for parameter in encoder.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def overwrite_token(encoder: Any) -> None:
    """As diffusers puts a learnt token in: through .data, of which torch counts no version."""
    encoder.get_input_embeddings().weight.data[5] = 1.0


def replace_layer(encoder: Any) -> None:
    layer = next(module for module in encoder.modules() if isinstance(module, nn.LayerNorm))
    layer.weight = nn.Parameter(layer.weight.detach() * 2)


def load(encoder: CLIPTextModel) -> None:
    encoder.load_state_dict({name: value * 1.5 for name, value in encoder.state_dict().items()})


@pytest.mark.parametrize("change", [train, overwrite_token, replace_layer, load])
def test_nothing_is_remembered_of_a_text_encoder_that_has_changed(change, encoder, ids):
    memory, asked = TextMemory(), ids("a man", "")
    asked[:, 2] = 5  # the token that is overwritten
    before = memory(READ, encoder, asked).text
    change(encoder)
    after = memory(READ, encoder, asked).text
    assert not torch.allclose(before, after)
    with torch.no_grad():
        torch.testing.assert_close(after, encoder(asked).last_hidden_state, rtol=0, atol=1e-5)


def test_a_text_encoder_in_training_or_with_adapters_is_never_remembered(encoder, ids):
    memory, calls = TextMemory(), counted(encoder)
    encoder.train()
    for _ in range(2):
        memory(READ, encoder, ids("a man", "a man"))
    encoder.eval()
    encoder._hf_peft_config_loaded = True
    memory(READ, encoder, ids("a man"))
    assert calls == [2, 2, 1]


def test_text_encoders_are_distinguished_and_released(encoder, ids):
    memory, other = TextMemory(), deepcopy(encoder)
    train(other)
    assert not torch.allclose(memory(READ, encoder, ids("a man")).text, memory(READ, other, ids("a man")).text)
    assert len(memory._kept) == 2
    del other
    assert len(memory._kept) == 1


def test_so_many_are_kept_the_last_ones(encoder, ids):
    memory, calls = TextMemory(most=2), counted(encoder)
    for prompt in ("a man", "a woman", "a man", "a boy", "a man", "a woman"):
        memory(READ, encoder, ids(prompt))
    assert len(calls) == 4  # the woman alone was forgotten, and came again
