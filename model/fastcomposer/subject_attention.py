"""Attention maps of the subjects' tokens, recorded during sampling without changing the image.

FastComposer (arXiv 2305.10431), section 4.2, shows such maps; localization (`localization.py`) trains them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from fc_bench.model.fastcomposer.localization import level_of, map_sizes

LEVELS = (1, 2)
"""Levels of the recorded cross-attention: a half and a quarter of the latents' side, where localization is trained.

In Stable Diffusion v1.5 at 512 pixels these are 32 x 32 and 16 x 16. The full side is not supervised, and it would cost
as much as both of these.
"""


class SubjectAttention:
    """The cross-attention of the subjects' tokens in one call of a pipeline, averaged while it runs.

    The average goes over heads, layers and the denoising steps that are conditioned on the subjects. The layers are
    each block's last one at `LEVELS`, or everywhere if the UNet has none there. With classifier-free guidance, only the
    conditional half counts. The layers' outputs still come from their own processors.
    """

    def __init__(self) -> None:
        self.conditioned = False
        """Whether the following steps are conditioned on the subjects; the pipeline sets it."""
        self._tokens: Sequence[Sequence[int]] = ()
        self._sums: dict[int, Tensor] = {}
        self._sizes: set[tuple[int, int]] = set()

    @contextmanager
    def record(self, unet: UNet2DConditionModel, image_tokens: Sequence[Sequence[int]]) -> Iterator[None]:
        """Record a UNet's attention inside the block.

        `image_tokens` are the positions of each image's subject tokens, in batch order.
        """
        layers = recorded_layers(unet)

        def note_size(_: Any, inputs: tuple[Tensor, ...]) -> None:
            height, width = inputs[0].shape[-2:]
            self._sizes = map_sizes(unet, layers, (height, width))

        self.conditioned, self._tokens, self._sums = False, image_tokens, {}
        own: dict[str, Any] = dict(unet.attn_processors)
        hook = unet.register_forward_pre_hook(note_size)
        recorders: dict[str, Any] = {name: _Recorder(own[name], self) if name in layers else own[name] for name in own}
        unet.set_attn_processor(recorders)
        try:
            yield
        finally:
            unet.set_attn_processor(own)
            hook.remove()

    def add(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor) -> None:
        """Add the attention of one layer; the conditional images are the last ones in its batch."""
        most = max(map(len, self._tokens), default=0)
        if not self.conditioned or not most:
            return
        count = len(self._tokens)
        query = attn.to_q(hidden_states[-count:]).float().unflatten(2, (attn.heads, -1)).transpose(1, 2)
        key = attn.to_k(encoder_hidden_states[-count:]).float().unflatten(2, (attn.heads, -1)).permute(0, 2, 3, 1)
        padded = torch.tensor([[*own, *[0] * (most - len(own))] for own in self._tokens], device=query.device)
        pixels, total = query.shape[2], query.new_zeros(count, most, query.shape[2])
        for image in range(count):  # one image at a time to save memory
            probabilities = (query[image] @ key[image] * attn.scale).softmax(dim=-1)
            total[image] = probabilities[..., padded[image]].mean(0).T
        self._sums[pixels] = self._sums[pixels] + total if pixels in self._sums else total

    def maps(self) -> list[NDArray[np.float32] | None]:
        """The maps of each image, float32 [subjects, height, width] at the finest size; each map sums to 1.

        None for an image without subjects, and for all images if no step was conditioned on subjects.
        """
        if not self._sums:
            return [None] * len(self._tokens)
        finest = max(self._sizes)
        sizes = {height * width: (height, width) for height, width in self._sizes}
        total = sum(
            interpolate(added.unflatten(2, sizes[pixels]), finest, mode="bilinear", align_corners=False)
            for pixels, added in self._sums.items()
        )
        assert isinstance(total, Tensor)
        total = (total / total.sum((2, 3), keepdim=True)).cpu().numpy()
        return [total[index, : len(own)].copy() if own else None for index, own in enumerate(self._tokens)]


class _Recorder:
    """An attention processor that calls the layer's own processor and records its probabilities."""

    def __init__(self, own: Any, attention: SubjectAttention):
        self._own = own
        self._attention = attention

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        **further: Any,
    ) -> Tensor:
        self._attention.add(attn, hidden_states, encoder_hidden_states)
        return self._own(attn, hidden_states, encoder_hidden_states, attention_mask, **further)


def recorded_layers(unet: UNet2DConditionModel) -> list[str]:
    """Names of each block's last cross-attention layer at `LEVELS`; of all blocks if there are none."""
    last = {name.partition(".transformer_blocks.")[0]: name for name in unet.attn_processors if ".attn2." in name}
    layers = list(last.values())
    return [name for name in layers if level_of(unet, name) in LEVELS] or layers
