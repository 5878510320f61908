"""FastComposer (arXiv 2305.10431) generates subjects from one photograph each, without tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from fc_bench.baselines.pipeline_method import MethodOptions
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.model.backbones.layouts import holds_trained_layers
from fc_bench.model.backbones.schedulers import make_scheduler
from fc_bench.model.kernels import arrange
from fc_bench.protocols import AskedSet, Checkpoints, Customization, Request, Sampler, Setting, Subject
from fc_bench.suites.photographs import read_photograph


class FastComposerOptions(MethodOptions):
    """Options of FastComposer."""

    alpha: float = Field(default=0.7, ge=0, le=1)
    """Share of the sampling steps with subject conditioning (section 4.3 of the paper)."""
    checkpoint: str | None = None
    """Name of the checkpoint variant; None: the backbone's default."""


class FastComposer:
    """The backbone's FastComposer checkpoint with delayed subject conditioning."""

    description: ClassVar[str] = "fuses subject embeddings into the prompt, delayed conditioning; one photograph each"
    max_subjects: ClassVar[int] = 8
    conditions: ClassVar[frozenset[str]] = frozenset({"negative_prompt", "size"})
    uses_photographs: ClassVar[bool] = True
    Options: ClassVar[type[BaseModel]] = FastComposerOptions

    def __init__(self, setting: Setting, options: Any) -> None:
        from fc_bench.model.attention import use_attention
        from fc_bench.model.families.text_memory import TextMemory

        pipeline = self._load(setting, options)
        pipeline.scheduler = make_scheduler(setting.sampler.scheduler, pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)
        if setting.kernels.attention != "sdpa":  # the library's
            use_attention(pipeline.unet, setting.kernels.attention)
        arrange(pipeline.unet, setting.kernels.unet)
        arrange(pipeline.vae, setting.kernels.vae)
        if setting.remembers_text:
            pipeline.text_memory = TextMemory()
        self._pipeline = pipeline
        self._compiled = setting.compiled
        self._sampler = setting.sampler
        self._alpha = self.alpha(options, setting.sampler)

    @classmethod
    def _load(cls, setting: Setting, options: Any) -> Any:
        import torch

        from fc_bench.model.fastcomposer.pipeline import load_fastcomposer

        parts = cls.weights(setting.backbone, options)
        return load_fastcomposer(
            parts["pipeline"],
            parts["checkpoint"],
            torch_dtype=getattr(torch, setting.dtype),
            device=setting.device,
            image_encoder=parts.get("image_encoder"),
        )

    @classmethod
    def alpha(cls, options: Any, sampler: Sampler) -> float:
        """Share of the sampling steps with subject conditioning."""
        return options.alpha

    @classmethod
    def complete_options(cls, backbone: Backbone, options: Any) -> Any:
        """The options with the checkpoint's name filled in, so that naming the default gives the same method."""
        variant = backbone.variant(options.checkpoint).removeprefix("fastcomposer/")
        return options.model_copy(update={"checkpoint": variant})

    @classmethod
    def remark(cls, options: Any, subjects: int) -> str | None:
        """A remark for more subjects than training shows together."""
        from fc_bench.model.fastcomposer.prompts import TRAINED_SUBJECTS

        more = f"generates {subjects} subjects, but was trained with at most {TRAINED_SUBJECTS} in a picture"
        return more if subjects > TRAINED_SUBJECTS else None

    @classmethod
    def weights(cls, backbone: Backbone, options: Any) -> Mapping[str, Path]:
        """The pipeline and the chosen checkpoint, and CLIP if the checkpoint holds only the trained layers."""
        checkpoint = backbone.path(backbone.variant(options.checkpoint))
        parts = {"pipeline": backbone.path("pipeline"), "checkpoint": checkpoint}
        if holds_trained_layers(checkpoint):
            parts["image_encoder"] = backbone.path("clip")
        return parts

    @classmethod
    def text_only_iterations(cls, options: Any, sampler: Sampler) -> int:
        """Number of sampling iterations before subject conditioning starts."""
        from fc_bench.model.fastcomposer.prefixes import text_only_iterations

        return text_only_iterations(cls.alpha(options, sampler), sampler.steps, sampler.iterations)

    @classmethod
    def check(cls, setting: Setting, options: Any, asked: Sequence[AskedSet]) -> None:
        """Raise ModelInputError for a checkpoint of another family, and for a prompt that is too long, or whose noun
        cannot carry the placeholder.
        """
        from fc_bench.model.families.detection import family_of
        from fc_bench.model.fastcomposer.overlay import check_family
        from fc_bench.model.fastcomposer.prompts import parse_prompt

        backbone = setting.backbone
        pipeline = backbone.path("pipeline")
        if backbone.fastcomposer is not None:  # a validation comes before the first checkpoint
            checkpoint = backbone.found_path(backbone.variant(options.checkpoint))
            if checkpoint is not None:
                check_family(checkpoint, pipeline)
        tokenizer, *_ = family_of(pipeline).load_tokenizers(pipeline)
        mentions = [[mention(subject) for subject in one.subjects] for one in asked]
        prompts = [prompt for one, own in zip(asked, mentions, strict=True) for prompt in one.prompts(own)]
        for prompt in dict.fromkeys(prompts):
            parse_prompt(prompt, tokenizer)

    def mention(self, subject: Subject, position: int) -> str:
        """The class noun followed by the placeholder."""
        return mention(subject)

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        """Read the reference photographs; nothing is trained and no artefact is written."""
        return Customization(tuple(subjects), state=[read_photograph(subject.photographs[0]) for subject in subjects])

    def prefix(self, requests: Sequence[Request], iterations: int, earlier: Any = None) -> Any:
        """The batch's first iterations, conditioned on the plain prompts."""
        from fc_bench.baselines.base_pipeline import image_size
        from fc_bench.model.compilation import compiled

        width, height = image_size(self._sampler, requests)
        with compiled(self._pipeline.unet, self._compiled):
            return self._pipeline.text_only_prefix(
                [request.plain_prompt for request in requests],
                iterations,
                [request.generator() for request in requests],
                num_inference_steps=self._sampler.steps,
                guidance_scale=self._sampler.guidance_scale,
                negative_prompt=[request.conditions.negative_prompt for request in requests],
                height=height,
                width=width,
                earlier=earlier,
            )

    def generate(
        self, customization: Customization, requests: Sequence[Request], prefix: Any = None
    ) -> Iterator[Image.Image]:
        """The images of one batch."""
        yield from self._draw(customization, requests, prefix=prefix)

    def generate_with_attention(
        self, customization: Customization, requests: Sequence[Request], prefix: Any = None
    ) -> Iterator[tuple[Image.Image, np.ndarray | None]]:
        """The same images, with the cross-attention of the subjects' image tokens in the conditioned steps."""
        from fc_bench.model.fastcomposer.subject_attention import SubjectAttention

        attention = SubjectAttention()
        images = self._draw(customization, requests, subject_attention=attention, prefix=prefix)
        yield from zip(images, attention.maps(), strict=True)

    def _draw(self, customization: Customization, requests: Sequence[Request], **inputs: Any) -> Sequence[Image.Image]:
        from fc_bench.baselines.base_pipeline import draw_images
        from fc_bench.model.compilation import compiled

        references = [customization.state for _ in requests]
        inputs |= {
            "prompt": [request.prompt for request in requests],
            "negative_prompt": [request.conditions.negative_prompt for request in requests],
            "subject_images": references,
            "alpha": self._alpha,
        }
        with compiled(self._pipeline.unet, self._compiled):
            return draw_images(self._pipeline, self._sampler, requests, **inputs)


def mention(subject: Subject) -> str:
    """The class noun followed by the placeholder."""
    from fc_bench.model.fastcomposer.prompts import PLACEHOLDER

    return f"{subject.noun} {PLACEHOLDER}"
