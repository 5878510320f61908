"""The implementation of attention and the memory formats with which models compute (`kernel_choice` chooses them)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

AttentionKind = Literal["sdpa", "eager", "mixed"]
"""sdpa: PyTorch's fused scaled dot product attention; eager: separate matrix products; mixed: eager for small maps."""
MemoryFormat = Literal["contiguous", "channels-last"]


@dataclass(frozen=True)
class Kernels:
    """The UNet's attention, and the memory formats of UNet and autoencoder; the default is that of sampling."""

    attention: AttentionKind = "sdpa"
    unet: MemoryFormat = "channels-last"
    vae: MemoryFormat = "channels-last"


def arrange(model: nn.Module, form: MemoryFormat) -> None:
    """Bring a model's weights into a memory format; its activations follow."""
    import torch

    untyped: Any = model  # its declared overloads lack this one
    untyped.to(memory_format=torch.channels_last if form == "channels-last" else torch.contiguous_format)
