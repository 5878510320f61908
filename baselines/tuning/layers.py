"""Layers of a UNet in a form that trains faster, with the same weights and, to rounding, the same results.

In float32 alone: with fewer bits, the sum of a weight and its adapter would lose the adapter's first steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0, CustomDiffusionAttnProcessor2_0
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.nn import functional


@contextmanager
def training_layers(unet: Any, precision: torch.dtype) -> Iterator[None]:
    """The transformers of a UNet in their faster form inside the block, if its `precision` is float32."""
    if precision is not torch.float32:
        yield
        return
    forms = [(module, form) for module in unet.modules() if (form := _form(module)) is not None]
    for module, form in forms:
        vars(module)["forward"] = form
    try:
        yield
    finally:
        for module, _ in forms:
            del vars(module)["forward"]


def _form(module: Any) -> Callable[..., Any] | None:
    """The faster form of a module's forward pass; None where it has none, or an extra that the form does not have."""
    if isinstance(module, Transformer2DModel):
        plain = module.is_input_continuous and not module.gradient_checkpointing
        return partial(_transform, module) if plain else None
    if isinstance(module, Attention):
        processor: Any = module.processor
        extras = (module.spatial_norm, module.group_norm, module.norm_q, module.norm_k, module.norm_cross)
        plain = not any(extras) and not module.residual_connection and module.rescale_output_factor == 1
        square = module.inner_dim == module.inner_kv_dim and module.added_kv_proj_dim is None
        custom = isinstance(processor, CustomDiffusionAttnProcessor2_0)
        known = processor.train_kv and not processor.train_q_out if custom else isinstance(processor, AttnProcessor2_0)
        return _FusedAttention(module, processor if custom else None) if plain and square and known else None
    return None


def _transform(
    transformer: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **unused: Any
) -> tuple[Tensor]:
    """A transformer on a map whose projections are linear layers on its pixels, without copies between forms.

    In Stable Diffusion v1.x they are 1 x 1 convolutions.
    """
    batch, _, height, width = hidden_states.shape
    rows = transformer.norm(hidden_states).permute(0, 2, 3, 1).flatten(1, 2)
    rows = functional.linear(rows, transformer.proj_in.weight.flatten(1), transformer.proj_in.bias)
    for block in transformer.transformer_blocks:
        rows = block(rows, encoder_hidden_states=encoder_hidden_states)
    rows = functional.linear(rows, transformer.proj_out.weight.flatten(1), transformer.proj_out.bias)
    return (rows.view(batch, height, width, -1).permute(0, 3, 1, 2) + hidden_states,)


class _FusedAttention:
    """Attention whose projections of the same input are one matrix product.

    With Custom Diffusion's processor, keys and values have its weights and the first token gets no gradient.
    """

    def __init__(self, layer: Any, custom: CustomDiffusionAttnProcessor2_0 | None) -> None:
        self._heads = layer.heads
        self._cross = layer.is_cross_attention
        self._detach_first = custom is not None
        pair = [layer.to_k, layer.to_v]
        if custom is not None:
            pair = [custom.to_k_custom_diffusion, custom.to_v_custom_diffusion]
        self._query = _projection([layer.to_q]) if self._cross else None
        self._joint = _projection(pair if self._cross else [layer.to_q, *pair])
        self._output = _projection([layer.to_out[0]])
        self._dropout = layer.to_out[1]

    def __call__(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Tensor:
        assert attention_mask is None  # training passes none
        batch, length, _ = hidden_states.shape
        joint = self._joint(hidden_states if encoder_hidden_states is None else encoder_hidden_states)
        if self._detach_first:
            joint = torch.cat([joint[:, :1].detach(), joint[:, 1:]], dim=1)
        parts = list(joint.view(batch, joint.shape[1], 2 if self._cross else 3, self._heads, -1).unbind(2))
        if self._query is not None:
            parts.insert(0, self._query(hidden_states).view(batch, length, self._heads, -1))
        query, key, value = (part.transpose(1, 2) for part in parts)
        found = functional.scaled_dot_product_attention(query, key, value)
        return self._dropout(self._output(found.transpose(1, 2).reshape(batch, length, -1)))


def _projection(layers: Sequence[Any]) -> Callable[[Tensor], Tensor]:
    """The outputs of linear layers with the same input, one behind the other, from one matrix product."""
    adapted = isinstance(layers[0], LoraLayer)
    if len(layers) == 1 and not adapted:
        return layers[0]
    bases = [layer.base_layer if adapted else layer for layer in layers]
    weights = [base.weight for base in bases]
    biases = [base.bias for base in bases if base.bias is not None]

    if any(weight.requires_grad for weight in weights):
        return lambda inputs: functional.linear(inputs, torch.cat(weights), torch.cat(biases) if biases else None)
    weight, bias = torch.cat(weights), torch.cat(biases) if biases else None
    if not adapted:
        return lambda inputs: functional.linear(inputs, weight, bias)
    adapters = [
        (layer.lora_A[name].weight, layer.lora_B[name].weight) for layer in layers for name in layer.active_adapters
    ]
    scales = [layer.scaling[name] for layer in layers for name in layer.active_adapters]

    def low_rank(inputs: Tensor) -> Tensor:
        down = torch.cat([down for down, _ in adapters])
        up = torch.block_diag(*(up * scale for (_, up), scale in zip(adapters, scales, strict=True)))
        untyped: Any = _LowRank.apply(inputs, weight, bias, down, up)
        return untyped

    return low_rank


class _LowRank(torch.autograd.Function):
    """A linear layer plus a low-rank adapter as one product, without a gradient for the layer's own weight.

    Inputs [..., inputs], weight [outputs, inputs], bias [outputs] or None, down [rank, inputs], up [outputs, rank].
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor) -> Tensor:
        total = torch.addmm(weight, up, down)
        ctx.save_for_backward(inputs, total, down, up)
        return functional.linear(inputs, total, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, total, down, up = ctx.saved_tensors
        outer, inner = gradients[0].flatten(0, -2), inputs.flatten(0, -2)
        own = (outer @ total).view_as(inputs) if ctx.needs_input_grad[0] else None
        return own, None, None, (outer @ up).t() @ inner, outer.t() @ (inner @ down.t())
