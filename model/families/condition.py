"""What a denoiser is conditioned on beside its time step: named tensors with one row a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """The condition of some pictures; which tensors it has depends on the family.

    All tensors have one row a picture, and operations keep the rows together.
    """

    text: Tensor
    """Features of the prompts' tokens, [rows, length, features]."""
    pooled: Tensor | None = None
    """Features of whole prompts, [rows, features]."""
    time_ids: Tensor | None = None
    """Original size, cropped corner and size of each picture in pixels, [rows, 6], see `Framing`."""

    def __len__(self) -> int:
        return len(self.text)

    @classmethod
    def cat(cls, parts: Sequence[Condition]) -> Condition:
        """The rows of several conditions, one condition after the other."""
        import torch

        found: dict[str, Any] = {}
        for field in fields(cls):
            tensors = [tensor for part in parts if (tensor := getattr(part, field.name)) is not None]
            assert len(tensors) in (0, len(parts))  # conditions of one family
            found[field.name] = torch.cat(tensors) if tensors else None
        return cls(**found)

    def rows(self, indices: Iterable[int]) -> Condition:
        """The rows with these indices, in their order; an index may occur repeatedly."""
        chosen = list(indices)
        return self._each(lambda tensor: tensor[chosen])

    def repeat_interleave(self, times: int) -> Condition:
        """Every row `times` times in turn."""
        return self._each(lambda tensor: tensor.repeat_interleave(times, 0))

    def to(self, target: torch.device | torch.dtype | str, non_blocking: bool = False) -> Condition:
        """The condition on a device or in a number format."""
        return self._each(lambda tensor: tensor.to(target, non_blocking=non_blocking))

    def with_text(self, text: Tensor) -> Condition:
        """The same condition with other features of the tokens."""
        return replace(self, text=text)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Condition:
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return Condition(**{name: None if tensor is None else change(tensor) for name, tensor in own.items()})


@dataclass(frozen=True)
class Framing:
    """Which part of a photograph a picture shows, all in pixels as (height, width) or (top, left)."""

    original: tuple[int, int]
    """Size of the photograph before it was resized."""
    corner: tuple[int, int]
    """Top left corner of the crop in the resized photograph."""
    size: tuple[int, int]
    """Size of the picture."""

    @classmethod
    def whole(cls, height: int, width: int) -> Framing:
        """Of a picture that is neither resized nor cropped, as in sampling."""
        return cls((height, width), (0, 0), (height, width))
