"""FastComposer's training forward pass: UNet, post-fuse module and image encoder with their losses.

FastComposer (arXiv 2305.10431), sections 4.1 and 4.2. The frozen VAE and text encoder are not part of the module. Their
outputs are in the batch, either computed in the same step or read from a cache.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import CLIPVisionModelWithProjection

from fc_bench.model.attention import use_attention
from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.condition import Condition
from fc_bench.model.families.diffusion import Diffusion
from fc_bench.model.families.family import Family
from fc_bench.model.fastcomposer.localization import (
    Average,
    capture_attention,
    cross_attention_layers,
    localization_loss,
    usual_average,
)
from fc_bench.model.fastcomposer.postfuse import PostfuseModule
from fc_bench.model.fastcomposer.references import embed_hidden_states, lower_hidden_states
from fc_bench.model.kernels import AttentionKind

MaskNormalization = Literal["pixels", "area"]


@dataclass(frozen=True)
class TrainingBatch:
    """One training batch with all its random draws; the losses are a function of it."""

    latents: Tensor
    """Scaled latents, [batch, channels, height, width]."""
    noise: Tensor
    """Standard normal noise, with the shape of `latents`."""
    timesteps: Tensor
    """Diffusion timesteps, [batch]."""
    condition: Condition
    """The condition of the captions, before any subject is fused into it."""
    image_tokens: Tensor
    """Position of each subject's image token, ascending; 0 without a subject, [batch, subjects]."""
    subject_mask: Tensor
    """True where there is a subject, [batch, subjects]."""
    references: Tensor
    """One reference per present subject, in the order of `subject_mask`: pixels [n, 3, height, width] (uint8, or float
    in 0..1), or hidden states below the trained vision layers [n, tokens, width]."""
    latent_masks: Tensor
    """Subjects' masks in 0..1 at the latents' size (bilinear), [batch, subjects, height, width]."""
    attention_masks: dict[int, Tensor]
    """Subjects' masks at the attention maps' sizes, see `localization.attention_masks`."""
    masked: Tensor
    """True for samples whose denoising loss counts only the subjects' masks, [batch]."""

    def to(self, device: torch.device) -> "TrainingBatch":
        """The batch on a device."""
        moved = {
            field.name: {key: value.to(device, non_blocking=True) for key, value in content.items()}
            if isinstance(content := getattr(self, field.name), dict)
            else content.to(device, non_blocking=True)
            for field in fields(self)
        }
        return replace(self, **moved)


class Losses(NamedTuple):
    """The losses of a batch, scalars; total = denoising + weight x localization."""

    total: Tensor
    denoising: Tensor
    localization: Tensor


class FastComposer(nn.Module):
    """The trained parts and their forward pass.

    See `localization` for `localization_groups`, `localization_normalize` and `localization_average` (None:
    `usual_average` of the layers). A `localization_weight` of 0 captures no attention. With the `mask_normalization`
    "pixels", as in the paper, a masked denoising loss is the mean over all pixels. With "area", it is also divided by
    the mean mask area of the batch's masked samples, which keeps its scale; samples without a subject are then not
    masked.
    """

    def __init__(
        self,
        family: Family,
        unet: UNet2DConditionModel,
        image_encoder: CLIPVisionModelWithProjection,
        postfuse_module: PostfuseModule,
        diffusion: Diffusion,
        localization_weight: float = 1e-3,
        localization_groups: int | Sequence[str] = 5,
        localization_normalize: bool = False,
        localization_average: Average | None = None,
        mask_normalization: MaskNormalization = "pixels",
        attention: AttentionKind = "sdpa",
    ):
        super().__init__()
        self.family = family
        self.unet = unet
        self.image_encoder = image_encoder
        self.postfuse_module = postfuse_module
        self.diffusion = diffusion
        self.localization_weight = localization_weight
        self.localization_normalize = localization_normalize
        self.mask_normalization = mask_normalization
        self.sum_over_processes: Callable[[Tensor], Tensor] = lambda totals: totals
        """A function that sums totals over data-parallel processes."""
        self.vision_layers = len(image_encoder.vision_model.encoder.layers)
        image_encoder.set_attn_implementation("sdpa" if attention == "sdpa" else "eager")  # its maps are small
        use_attention(unet, attention)
        self.localization_layers = cross_attention_layers(unet, localization_groups) if localization_weight else []
        self.localization_average: Average = localization_average or usual_average(self.localization_layers)
        self.capture = capture_attention(unet, self.localization_layers) if localization_weight else None

    def train_parts(self, vision_layers: int | Literal["all"] = 2) -> dict[str, list[nn.Parameter]]:
        """Freeze all other parameters and return the trained ones of the UNet, post-fuse module and image encoder.

        `vision_layers` is the number of trained last layers of the image encoder; "all" trains all of it. Its
        projection is trained where it serves several text encoders. A UNet with adapters trains these alone. Raises
        ModelInputError if the image encoder has fewer layers.
        """
        total = len(self.image_encoder.vision_model.encoder.layers)
        if vision_layers != "all" and vision_layers > total:
            raise ModelInputError(
                f"{vision_layers} vision layers cannot be trained, because the image encoder has only {total}: lower "
                "vision_layers"
            )
        self.image_encoder.requires_grad_(vision_layers == "all")
        if vision_layers != "all":
            for layer in self.image_encoder.vision_model.encoder.layers[total - vision_layers :]:
                layer.requires_grad_(True)
            self.image_encoder.visual_projection.requires_grad_(len(self.family.encoders) > 1)
        self.vision_layers = total if vision_layers == "all" else vision_layers
        adapted = bool(getattr(self.unet, "peft_config", None))
        for name, parameter in self.unet.named_parameters():
            parameter.requires_grad_(not adapted or ".lora_" in name)
        self.postfuse_module.requires_grad_(True)
        parts = {"unet": self.unet, "postfuse_module": self.postfuse_module, "image_encoder": self.image_encoder}
        return {name: [p for p in part.parameters() if p.requires_grad] for name, part in parts.items()}

    def forward(self, batch: TrainingBatch) -> Losses:
        """The losses of one batch."""
        if self.capture is not None:
            self.capture.start(batch.image_tokens)
        noisy = self.diffusion.noised(batch.latents, batch.noise, batch.timesteps)
        prediction = self.family.denoise(self.unet, noisy, batch.timesteps, self.fused(batch))
        target = self.diffusion.target(batch.latents, batch.noise, batch.timesteps)
        denoising = self._denoising_loss(prediction.float(), target.float(), batch)
        if self.capture is None:
            return Losses(denoising, denoising.detach(), torch.zeros_like(denoising))
        maps, self.capture.maps = self.capture.maps, {}
        localization = localization_loss(
            maps, batch.attention_masks, batch.subject_mask, self.localization_normalize, self.localization_average
        )
        total = denoising + self.localization_weight * localization
        return Losses(total, denoising.detach(), localization.detach())

    def forget_attention(self) -> None:
        """Release the attention that gradient checkpointing captured again during the backward pass."""
        if self.capture is not None:
            self.capture.maps = {}

    def fused(self, batch: TrainingBatch) -> Condition:
        """The condition of the captions with the subjects' references fused into it."""
        text, subject_embeds = batch.condition.text, self._subject_embeds(batch.references)
        mask = torch.zeros(text.shape[:2], dtype=torch.bool, device=text.device)
        sample, subject = batch.subject_mask.nonzero(as_tuple=True)
        mask[sample, batch.image_tokens[sample, subject]] = True
        if len(sample):
            return batch.condition.with_text(self.postfuse_module(text, mask, subject_embeds))
        # Without a subject in the batch, data-parallel training still needs every parameter in the graph.
        mask[0, 0] = True
        unused = self.postfuse_module(text, mask, subject_embeds)
        return batch.condition.with_text(text + 0 * unused.sum())

    def _subject_embeds(self, references: Tensor) -> Tensor:
        upper = self.vision_layers
        if references.ndim == 4:
            pixels = references.float() / 255 if references.dtype == torch.uint8 else references
            if not len(pixels):
                pixels = pixels.new_zeros(1, *pixels.shape[1:])
            references = lower_hidden_states(self.image_encoder, pixels, upper)
        elif not len(references):
            references = references.new_zeros(1, *references.shape[1:])
        return embed_hidden_states(self.image_encoder, references.to(self.image_encoder.dtype), upper)

    def _denoising_loss(self, prediction: Tensor, target: Tensor, batch: TrainingBatch) -> Tensor:
        union = batch.latent_masks.float().sum(1, keepdim=True).clamp(max=1)
        masked = batch.masked
        if self.mask_normalization == "area":
            masked = masked & (union.sum((1, 2, 3)) > 0)
        weight = torch.where(masked[:, None, None, None], union, 1.0)
        error = ((prediction - target) * weight).square().mean((1, 2, 3))
        if self.mask_normalization == "area":
            totals = torch.stack([union[masked].sum(), masked.sum() * union[0].numel()])
            covered, pixels = self.sum_over_processes(totals)
            area = torch.where(pixels > 0, covered / pixels.clamp(min=1), 1.0)
            error = torch.where(masked, error / area, error)
        return error.mean()


def resize_latent_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Subjects' masks [batch, subjects, height, width] at the latents' size, by bilinear resizing, not antialiased."""
    return interpolate(masks, size, mode="bilinear", align_corners=False)
