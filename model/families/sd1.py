"""Stable Diffusion v1.x: one text encoder, whose last hidden states the UNet attends to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.condition import Condition
from fc_bench.model.families.family import Encoder, Family, Part

if TYPE_CHECKING:
    from torch import Tensor


def flat(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of a CLIPTextModel under their current names."""
    kept = {name: weight for name, weight in weights.items() if not name.endswith("position_ids")}
    return {name.removeprefix("text_model."): weight for name, weight in kept.items()}


class StableDiffusion1(Family):
    """Stable Diffusion v1.x and what is fine-tuned from it."""

    name: ClassVar[str] = "sd1"
    title: ClassVar[str] = "Stable Diffusion v1.x"
    pipelines: ClassVar[tuple[str, ...]] = (
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "FastComposerPipeline",
    )
    parts: ClassVar[tuple[Part, ...]] = (
        Part("unet", "diffusers", "UNet2DConditionModel"),
        Part("vae", "diffusers", "AutoencoderKL"),
        Part("text_encoder", "transformers", "CLIPTextModel"),
    )
    encoders: ClassVar[tuple[Encoder, ...]] = (Encoder("text_encoder", "tokenizer", "clip_l"),)
    lacks: ClassVar[Mapping[str, str]] = {"photomaker": "PhotoMaker works on Stable Diffusion XL alone"}

    def has_denoiser(self, configuration: Mapping[str, Any]) -> bool:
        """Whether the UNet is conditioned on the text alone."""
        return configuration.get("addition_embed_type") is None

    def pipeline(self, parts: Mapping[str, Any]) -> Any:
        """A StableDiffusionPipeline without safety checker."""
        absent: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
        return self.pipeline_class()(**parts, **absent, requires_safety_checker=False)

    def read(self, text_encoder: Any, input_ids: Tensor) -> Condition:
        """The last hidden states, after the final norm."""
        return Condition(text_encoder(input_ids).last_hidden_state)

    def join(self, parts: Sequence[Condition]) -> Condition:
        """What the only encoder gives."""
        (condition,) = parts
        return condition

    def convert(
        self, state: Mapping[str, Any], configurations: Mapping[str, dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """The weights of UNet, autoencoder and text encoder."""
        from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint

        if any(name.startswith("conditioner.embedders.") for name in state):
            raise ModelInputError("its text encoders are those of Stable Diffusion XL; choose a file of v1.x")
        return {
            **super().convert(state, configurations),
            "text_encoder": flat(convert_ldm_clip_checkpoint(dict(state))),
        }

    def call_inputs(self, condition: Condition, negative: Condition) -> dict[str, Any]:
        """The features of prompts and negative prompts."""
        return {"prompt_embeds": condition.text, "negative_prompt_embeds": negative.text}

    def denoise(self, unet: Any, noisy: Tensor, timesteps: Any, condition: Condition) -> Tensor:
        """The UNet's prediction."""
        return unet(noisy, timesteps, encoder_hidden_states=condition.text, return_dict=False)[0]
