"""Cross-attention localization, a loss that restricts the attention to a subject's token to that subject's region.

FastComposer (arXiv 2305.10431), section 4.2. It supervises the cross-attention maps of the middle five of the seven
attention groups in Stable Diffusion v1.5's UNet.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn.functional import interpolate

from fc_bench.model.errors import ModelInputError

Average = Literal["layers", "groups"]
"""What counts equally in the loss: each layer, as in the paper, or each group, whose layers share its weight."""


class AttentionCapture:
    """The image tokens' cross-attention in the supervised layers of the UNet's last forward pass.

    `image_tokens` [batch, subjects] is set before the pass. The pass stores `maps` [batch, heads, pixels, subjects] by
    layer; gradient checkpointing stores them again when it recomputes the pass.
    """

    def __init__(self) -> None:
        self.image_tokens: Tensor | None = None
        self.maps: dict[str, Tensor] = {}

    def start(self, image_tokens: Tensor) -> None:
        """Clear the maps and capture these tokens in the next pass."""
        self.image_tokens = image_tokens
        self.maps = {}


class CaptureProcessor:
    """An attention processor for plain cross-attention that stores the image tokens' columns."""

    def __init__(self, capture: AttentionCapture, layer: str):
        self.capture = capture
        self.layer = layer

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        **_: object,
    ) -> Tensor:
        """The layer's output, as from plain cross-attention; stores the image tokens' columns in `capture`."""
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        value = attn.head_to_batch_dim(attn.to_v(encoder_hidden_states))
        probabilities = attn.get_attention_scores(query, key, attention_mask)
        if self.capture.image_tokens is not None:
            batch, subjects = self.capture.image_tokens.shape
            by_head = probabilities.unflatten(0, (batch, -1))
            columns = self.capture.image_tokens[:, None, None].expand(*by_head.shape[:3], subjects)
            self.capture.maps[self.layer] = by_head.gather(3, columns)
        output = attn.batch_to_head_dim(torch.bmm(probabilities, value))
        return attn.to_out[1](attn.to_out[0](output))


def cross_attention_layers(unet: UNet2DConditionModel, groups: int | Sequence[str] = 5) -> list[str]:
    """Names of the supervised cross-attention layers, as in `unet.attn_processors`.

    `groups` is the number of middle groups among those with cross-attention, or a list of group names. The paper's 5
    groups are down_blocks.1, down_blocks.2, mid_block, up_blocks.1 and up_blocks.2 of Stable Diffusion v1.5. Raises
    ModelInputError for a number or name that the UNet does not have.
    """
    layers = [name for name in unet.attn_processors if ".attn2." in name]
    present = sorted({_group(name) for name in layers}, key=_order)
    if isinstance(groups, int):
        if not 1 <= groups <= len(present) or (len(present) - groups) % 2:
            raise ModelInputError(
                f"the middle {groups} groups cannot be supervised in a UNet whose {len(present)} cross-attention "
                f"groups are {', '.join(present)}: name the groups instead"
            )
        margin = (len(present) - groups) // 2
        chosen = present[margin : margin + groups]
    else:
        chosen = list(groups)
        unknown = [group for group in chosen if group not in present]
        if unknown or not chosen:
            raise ModelInputError(
                f"the UNet has no cross-attention group {', '.join(unknown) or '(none was named)'}: choose from "
                f"{', '.join(present)}"
            )
    return [name for name in layers if _group(name) in chosen]


def capture_attention(unet: UNet2DConditionModel, layers: Sequence[str]) -> AttentionCapture:
    """Install capture processors on these layers; all other layers keep their processors."""
    capture = AttentionCapture()
    processors: dict[str, Any] = dict(unet.attn_processors)
    processors.update({layer: CaptureProcessor(capture, layer) for layer in layers})
    unet.set_attn_processor(processors)
    return capture


def map_sizes(unet: UNet2DConditionModel, layers: Sequence[str], latent_size: tuple[int, int]) -> set[tuple[int, int]]:
    """Heights and widths of these layers' attention maps, for latents of size `latent_size` (height, width)."""
    levels = [latent_size]
    for _ in unet.config["block_out_channels"][1:]:
        height, width = levels[-1]
        levels.append(((height + 1) // 2, (width + 1) // 2))
    return {levels[level_of(unet, name)] for name in layers}


def level_of(unet: UNet2DConditionModel, layer: str) -> int:
    """How many times the latents' side is halved before an attention layer."""
    deepest = len(unet.config["block_out_channels"]) - 1
    kind, _, index = _group(layer).partition(".")
    if kind == "mid_block":
        return deepest
    return int(index) if kind == "down_blocks" else deepest - int(index)


def attention_masks(masks: Tensor, sizes: set[tuple[int, int]]) -> dict[int, Tensor]:
    """Subjects' masks [batch, subjects, height, width] at the maps' sizes, by antialiased bilinear resizing.

    The result maps each number of pixels to masks [batch, subjects, pixels].
    """
    return {
        height * width: interpolate(
            masks, (height, width), mode="bilinear", antialias=True, align_corners=False
        ).flatten(2)
        for height, width in sizes
    }


def usual_average(layers: Sequence[str]) -> Average:
    """The average for these layers: the paper's, except where blocks have several layers each.

    In Stable Diffusion XL the mean over layers would weigh the maps of a quarter of the latents' side six times as much
    as those of a half, because 60 of its 70 layers have them.
    """
    return "groups" if any(".transformer_blocks.1." in name for name in layers) else "layers"


def localization_loss(
    maps: Mapping[str, Tensor],
    masks: Mapping[int, Tensor],
    subject_mask: Tensor,
    normalize: bool = False,
    average: Average = "layers",
) -> Tensor:
    """Mean attention outside the subject's mask minus mean attention inside it, a scalar.

    `maps` are [batch, heads, pixels, subjects] by layer, `masks` [batch, subjects, pixels] by number of pixels, and
    `subject_mask` [batch, subjects] is true where there is a subject. The mean goes over the present subjects, heads,
    batch and layers; the `average` "groups" is the mean of the groups' means. `normalize` divides each map by its
    maximum first. Raises ModelInputError without maps. Equations 5 and 6 of FastComposer.
    """
    if not maps:
        raise ModelInputError("no attention was captured: run the UNet after AttentionCapture.start")
    present = subject_mask[:, None].float()
    losses: dict[str, list[Tensor]] = {}
    for layer, attention in maps.items():
        attention = attention.float()
        if normalize:
            attention = attention / (attention.amax(dim=2, keepdim=True) + 1e-5)
        inside = masks[attention.shape[2]].float().transpose(1, 2)[:, None]
        outside = 1 - inside
        per_subject = (attention * outside).sum(2) / (outside.sum(2) + 1e-5)
        per_subject = per_subject - (attention * inside).sum(2) / (inside.sum(2) + 1e-5)
        loss = ((per_subject * present).sum(2) / (present.sum(2) + 1e-5)).mean()
        losses.setdefault(_group(layer) if average == "groups" else "all", []).append(loss)
    return torch.stack([torch.stack(own).mean() for own in losses.values()]).mean()


def _group(layer: str) -> str:
    match = re.match(r"(mid_block|(?:down|up)_blocks\.\d+)", layer)
    if match is None:
        raise ModelInputError(
            f"the attention layer {layer} is not in a block of a UNet2DConditionModel: use such a UNet"
        )
    return match.group(1)


def _order(group: str) -> tuple[int, int]:
    kind, _, index = group.partition(".")
    return ("down_blocks", "mid_block", "up_blocks").index(kind), int(index or 0)
