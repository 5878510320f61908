"""A model is compiled while it samples, once, and is itself otherwise."""

from __future__ import annotations

import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from fc_bench.model.compilation import compiled


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs).tanh()


def test_a_model_is_compiled_for_as_long_as_requested_and_only_once():
    model, inputs, counter = Model(), torch.randn(2, 3), CompileCounter()
    expected = model(inputs)
    with compiled(model, counter):
        torch.testing.assert_close(model(inputs), expected)
    assert counter.frame_count == 1
    model(inputs)
    with compiled(model, counter), compiled(model, counter):
        model(inputs)
    assert counter.frame_count == 1
    assert model._compiled_call_impl is None


def test_nothing_is_compiled_unless_requested():
    model = Model()
    with compiled(model, None):
        assert model._compiled_call_impl is None
