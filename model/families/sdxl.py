"""Stable Diffusion XL: the features of two text encoders side by side, a pooled feature, and the pictures' framing.

Podell et al. 2023, arXiv 2307.01952.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.condition import Condition, Framing
from fc_bench.model.families.family import Encoder, Family, Part
from fc_bench.model.families.sd1 import flat

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fc_bench.model.families.text import TextEncoders
    from fc_bench.model.families.text_memory import TextMemory


SECOND = "conditioner.embedders.1.model."
"""Beginning of the names of the second text encoder's weights in a file of the original implementation."""
OTHER_NOISE = (
    "{} was trained with another noise schedule (EDM), as Playground v2.5; choose a model of Stable Diffusion XL"
)


class StableDiffusionXL(Family):
    """Stable Diffusion XL's base model and what is fine-tuned from it; the refiner is another architecture."""

    name: ClassVar[str] = "sdxl"
    half_precision: ClassVar[bool] = True
    normalized: ClassVar[bool] = False
    title: ClassVar[str] = "Stable Diffusion XL"
    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionXLPipeline", "FastComposerXLPipeline")
    parts: ClassVar[tuple[Part, ...]] = (
        Part("unet", "diffusers", "UNet2DConditionModel"),
        Part("vae", "diffusers", "AutoencoderKL"),
        Part("text_encoder", "transformers", "CLIPTextModel"),
        Part("text_encoder_2", "transformers", "CLIPTextModelWithProjection"),
    )
    encoders: ClassVar[tuple[Encoder, ...]] = (
        Encoder("text_encoder", "tokenizer", "clip_l"),
        Encoder("text_encoder_2", "tokenizer_2", "clip_g", padding="!"),
    )

    token_note: ClassVar[str] = (
        "Load clip_l with tokenizer and text_encoder, and clip_g with tokenizer_2 and text_encoder_2. Then set "
        "pipeline.text_encoder_2.text_model.eos_token_id = pipeline.tokenizer_2.eos_token_id: with the eos_token_id 2 "
        "of old configurations, prompts are pooled at the new token instead of their end, and images differ."
    )

    def has_denoiser(self, configuration: Mapping[str, Any]) -> bool:
        """Whether the UNet is conditioned on a pooled feature and the pictures' framing, too."""
        return configuration.get("addition_embed_type") == "text_time"

    def pipeline(self, parts: Mapping[str, Any]) -> Any:
        """A StableDiffusionXLPipeline without watermark, which would depend on an installed package."""
        return self.pipeline_class()(**parts, add_watermarker=False)

    def fit_new_tokens(self, text: TextEncoders) -> None:
        """Let the encoders pool at the end of the prompt.

        With the `eos_token_id` 2 of old configurations they pool at the highest id, which a new token has.
        """
        for tokenizer, encoder in zip(text.tokenizers, text.encoders, strict=True):
            encoder.config.eos_token_id = tokenizer.eos_token_id
            for module in encoder.modules():
                if hasattr(module, "eos_token_id"):
                    module.eos_token_id = tokenizer.eos_token_id

    def read(self, text_encoder: Any, input_ids: Tensor) -> Condition:
        """The input of the last layer, without a norm, and the pooled feature of an encoder with a projection."""
        found = text_encoder(input_ids, output_hidden_states=True)
        return Condition(found.hidden_states[-2], getattr(found, "text_embeds", None))

    def join(self, parts: Sequence[Condition]) -> Condition:
        """The encoders' features side by side, with the pooled feature of the last one."""
        import torch

        return Condition(torch.cat([part.text for part in parts], dim=-1), parts[-1].pooled)

    def encode_tokens(
        self,
        text_encoders: Sequence[Any],
        input_ids: Sequence[Tensor],
        memory: TextMemory | None = None,
        blank: Sequence[bool] = (),
    ) -> Condition:
        """The condition of token ids [prompts, length], given for each encoder; blank rows are zero."""
        kept = [row for row, empty in enumerate(blank) if not empty]
        if not any(blank):
            return super().encode_tokens(text_encoders, input_ids, memory)
        zeros = self._zeros(text_encoders, input_ids[0].shape[1])
        if not kept:
            return zeros.rows([0] * len(blank))
        found = super().encode_tokens(text_encoders, [ids[kept] for ids in input_ids], memory)
        places = (len(kept) if empty else kept.index(row) for row, empty in enumerate(blank))
        return Condition.cat([found, zeros]).rows(places)

    def _zeros(self, text_encoders: Sequence[Any], length: int) -> Condition:
        import torch

        form: dict[str, Any] = {"device": text_encoders[-1].device, "dtype": text_encoders[-1].dtype}
        features = sum(encoder.config.hidden_size for encoder in text_encoders)
        pooled = torch.zeros(1, text_encoders[-1].config.projection_dim, **form)
        return Condition(torch.zeros(1, length, features, **form), pooled)

    def time_ids(self, framings: Sequence[Framing]) -> Tensor:
        """Original size, corner of the crop, and size."""
        import torch

        return torch.tensor([[*one.original, *one.corner, *one.size] for one in framings])

    def check(self, pipeline: Path) -> None:
        """Raise ModelInputError for the pipeline in a folder that only looks like Stable Diffusion XL."""
        super().check(pipeline)
        scheduler = self._configured(pipeline, "scheduler", "_class_name", "scheduler_config.json")
        if str(scheduler).startswith("EDM") or self._configured(pipeline, "vae", "latents_mean") is not None:
            raise ModelInputError(OTHER_NOISE.format(f"The pipeline {pipeline}"))
        if self._configured(pipeline, "", "force_zeros_for_empty_prompt", "model_index.json") is False:
            raise ModelInputError(
                f"The pipeline {pipeline} encodes the empty prompt (force_zeros_for_empty_prompt), as the refiner "
                "does; choose a base model."
            )

    def convert(
        self, state: Mapping[str, Any], configurations: Mapping[str, dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """The weights of UNet, autoencoder and both text encoders."""
        from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_open_clip_checkpoint

        if any(name.startswith("conditioner.embedders.0.model.") for name in state):
            raise ModelInputError("it is the refiner, which has one text encoder; name a base model")
        if "edm_mean" in state:
            raise ModelInputError(OTHER_NOISE.format("it"))
        if not any(name.startswith(SECOND) for name in state):
            raise LookupError(f"no weight {SECOND}*")
        second: Any = SimpleNamespace(config=SimpleNamespace(**configurations["text_encoder_2"]))
        weights = convert_open_clip_checkpoint(second, dict(state), prefix=SECOND)
        first = convert_ldm_clip_checkpoint(dict(state), remove_prefix="conditioner.embedders.0.transformer.")
        return {
            **super().convert(state, configurations),
            "text_encoder": flat(first),
            "text_encoder_2": {name: own for name, own in weights.items() if not name.endswith("position_ids")},
        }

    def call_inputs(self, condition: Condition, negative: Condition) -> dict[str, Any]:
        """The features of prompts and negative prompts; the pipeline knows the framing."""
        return {
            "prompt_embeds": condition.text,
            "negative_prompt_embeds": negative.text,
            "pooled_prompt_embeds": condition.pooled,
            "negative_pooled_prompt_embeds": negative.pooled,
        }

    def denoise(self, unet: Any, noisy: Tensor, timesteps: Any, condition: Condition) -> Tensor:
        """The UNet's prediction."""
        added = {"text_embeds": condition.pooled, "time_ids": condition.time_ids}
        found = unet(noisy, timesteps, encoder_hidden_states=condition.text, added_cond_kwargs=added, return_dict=False)
        return found[0]

    def autoencoder_dtype(self, folder: Path, dtype: torch.dtype) -> torch.dtype:
        """Float32 in place of float16, in which the published autoencoder overflows, unless its file denies that."""
        import torch

        try:
            overflows = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("force_upcast", True)
        except (OSError, ValueError, AttributeError):
            overflows = True  # the loading itself reports what is wrong
        return torch.float32 if dtype is torch.float16 and overflows else dtype
