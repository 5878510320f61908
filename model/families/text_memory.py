"""A cache of text features, because every batch has the null prompt and most prompts occur repeatedly."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fc_bench.model.families.condition import Condition

MOST = 512
"""Number of prompts kept per text encoder; they take 116 MiB for Stable Diffusion v1.5 in float32."""
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class TextMemory:
    """Features of prompts, each computed once while its text encoder does not change.

    Each prompt is encoded alone, so its features do not depend on a batch. A text encoder counts as changed if its
    tensors are other objects, have been written to, or have another sum of bits. A text encoder in training mode, or
    with adapters, is never cached. Cost measurements must not use this cache, because a user's next prompt has to be
    encoded. In a run, the first images with a prompt bear the cost of encoding it.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()

    @torch.no_grad()
    def __call__(self, read: Callable[[Any, Tensor], Condition], text_encoder: Any, input_ids: Tensor) -> Condition:
        """What `read` (`Family.read`) gives for token ids [prompts, length], on the text encoder's device."""
        if text_encoder.training or getattr(text_encoder, "_hf_peft_config_loaded", False):
            return read(text_encoder, input_ids)
        kept, state = self._kept.get(text_encoder), _State.of(text_encoder)
        if kept is None or not kept.state.holds(state):
            kept = self._kept[text_encoder] = _Kept(state)
        found = []
        for row in input_ids:
            ids = tuple(row.tolist())
            if ids not in kept.features:
                kept.features[ids] = read(text_encoder, row[None])
            kept.features.move_to_end(ids)
            found.append(kept.features[ids])
        while len(kept.features) > self._most:
            kept.features.popitem(last=False)
        return Condition.cat(found)


@dataclass(frozen=True)
class _State:
    """A model's tensors, with their versions and the sums of their bits."""

    tensors: list[Tensor]
    versions: list[int]
    sums: list[int]

    @classmethod
    def of(cls, model: nn.Module) -> "_State":
        tensors = [*model.parameters(), *model.buffers()]
        sums = [each.detach().flatten().view(_INTEGERS[each.element_size()]).sum(dtype=torch.int64) for each in tensors]
        return cls(tensors, [each._version for each in tensors], torch.stack(sums).tolist() if sums else [])

    def holds(self, now: "_State") -> bool:
        same = len(self.tensors) == len(now.tensors) and self.versions == now.versions and self.sums == now.sums
        return same and all(one is other for one, other in zip(self.tensors, now.tensors, strict=True))


@dataclass
class _Kept:
    state: _State
    features: OrderedDict[tuple[int, ...], Condition] = field(default_factory=OrderedDict)
