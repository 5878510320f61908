"""DreamBooth (arXiv 2208.12242): the whole UNet, and if asked the text encoder, learns a rare token for the subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from pydantic import BaseModel, Field
from transformers import CLIPTextModel

from fc_bench.baselines.tuning.base_pipeline import BasePipeline
from fc_bench.baselines.tuning.concepts import ClassPictures, Examples, encoded, photographs_of
from fc_bench.baselines.tuning.loop import Batch, Draws
from fc_bench.baselines.tuning.method import TunedMethod, TuningOptions
from fc_bench.baselines.tuning.text import FrozenPrompts, encode_prompts, single_token
from fc_bench.model.errors import loading
from fc_bench.protocols import Checkpoints, Customization, Setting, Subject


class PriorOptions(TuningOptions):
    """Of methods with a rare token and prior preservation."""

    rare_tokens: tuple[str, str] = ("sks", "ohwx")
    """What names the first and the second subject of a set, before the class noun."""
    class_images: int = Field(default=200, ge=0)
    """Class images of each class noun for prior preservation, 0 for none."""
    prior_weight: float = Field(default=1.0, ge=0)


class DreamBoothOptions(PriorOptions):
    """`train_text_encoder`: as recommended for faces."""

    steps: int = Field(default=800, ge=1)
    learning_rate: float = Field(default=2e-6, gt=0)
    train_text_encoder: bool = True


class DreamBooth(TunedMethod):
    """Joint training for several subjects: one model, a rare token each."""

    description: ClassVar[str] = "the whole UNet (and text encoder) tuned to a rare token, with prior preservation"
    Options: ClassVar[type[BaseModel]] = DreamBoothOptions

    def __init__(self, setting: Setting, options: DreamBoothOptions) -> None:
        super().__init__(setting, options)
        for token in options.rare_tokens:
            single_token(self.base.tokenizer, token, "The rare token")
        self._class_pictures = ClassPictures(self.base, options.class_images)

    @classmethod
    def remark(cls, options: DreamBoothOptions, subjects: int) -> str | None:
        """Two subjects are no part of the published comparison."""
        if subjects == 1:
            return None
        return "joint training, a rare token for each subject: an extension, DreamBooth has no published way for two"

    def mention(self, subject: Subject, position: int) -> str:
        """`sks man`"""
        return f"{self.options.rare_tokens[position]} {subject.noun}"

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        """Train a UNet of its own on all subjects' photographs; write `unet/` and, if trained, `text_encoder/`."""
        before = self._class_pictures.seconds
        examples = named_examples(self.base, self, subjects, self._class_pictures, self.options.photographs)
        training = _WholeModel(self.base, self.options, examples)
        tuned = self.tune(training, seed, checkpoints, self.options.prior_weight)
        training.save(artefact_folder, self.base)
        del training
        return self.finished(subjects, artefact_folder, [tuned], self._class_pictures.seconds - before)

    def load(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> StableDiffusionPipeline:
        """The tuned UNet, and text encoder, beside the base model's other parts."""
        (artefact,) = artefacts
        base, encoder = self.base, None
        with loading(f"the artefact {artefact}"):
            unet = UNet2DConditionModel.from_pretrained(artefact / "unet", dtype=base.dtype)
            if (artefact / "text_encoder").exists():
                encoder = CLIPTextModel.from_pretrained(artefact / "text_encoder", dtype=base.dtype)
        return base.pipeline(base.placed(unet), base.placed(encoder) if encoder is not None else None)


def named_examples(
    base: BasePipeline,
    method: TunedMethod,
    subjects: Sequence[Subject],
    class_pictures: ClassPictures,
    photographs: int,
    positions: Sequence[int] | None = None,
) -> Examples:
    """Photographs under "a photo of a sks man", class images under "a photo of a man" (the diffusers example's)."""
    side = base.setting.sampler.resolution
    prompts = [
        f"a photo of a {method.mention(subject, position)}"
        for subject, position in zip(subjects, positions or range(len(subjects)), strict=True)
    ]
    parts = [
        (photographs_of(subject, photographs, side), prompt) for subject, prompt in zip(subjects, prompts, strict=True)
    ]
    class_prompts = [f"a photo of a {subject.noun}" for subject in subjects]
    return Examples(encoded(base, parts), class_pictures.of(class_prompts))


class _WholeModel:
    """The training of UNet and, if asked, text encoder."""

    def __init__(self, base: BasePipeline, options: DreamBoothOptions, examples: Examples) -> None:
        self.unet = base.fresh_unet(torch.float32).requires_grad_(True)
        self._text_encoder = base.fresh_text_encoder(torch.float32) if options.train_text_encoder else None
        if self._text_encoder is not None:
            self._text_encoder.requires_grad_(True).train()
            if options.gradient_checkpointing:
                self._text_encoder.gradient_checkpointing_enable()
        self._tokenizer = base.tokenizer
        self._frozen = FrozenPrompts(base.tokenizer, base.text_encoder) if self._text_encoder is None else None
        self._options = options
        self._examples = examples

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All weights of UNet and text encoder, at one learning rate."""
        common: Mapping[str, Any] = {"lr": self._options.learning_rate, "weight_decay": self._options.weight_decay}
        models = [self.unet, *([self._text_encoder] if self._text_encoder is not None else [])]
        return [{"params": list(model.parameters()), **common} for model in models]

    def batch(self, step: int, draws: Draws) -> Batch:
        """Photographs and class images with their prompts."""
        latents, prompts, photographs = self._examples.batch(step, self._options.batch_size, draws)
        if self._frozen is not None:
            return Batch(latents, self._frozen(prompts), photographs)
        assert self._text_encoder is not None
        return Batch(latents, encode_prompts(self._tokenizer, self._text_encoder, prompts), photographs)

    def after_backward(self) -> None:
        """Nothing to do."""

    def after_update(self) -> None:
        """Nothing to do."""

    def save(self, folder: Path, base: BasePipeline) -> None:
        """Write what was trained, in the number format it is sampled in."""
        self.unet.to(base.dtype).save_pretrained(folder / "unet")
        if self._text_encoder is not None:
            self._text_encoder.to(base.dtype).save_pretrained(folder / "text_encoder")
