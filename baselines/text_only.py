"""The base model without any subject: what identity is by chance, and the best prompt consistency to hope for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from pydantic import BaseModel, ConfigDict

from fc_bench.model.backbone import Backbone, make_scheduler
from fc_bench.model.errors import loading
from fc_bench.protocols import Checkpoints, Customization, Request, Setting, Subject


class TextOnlyOptions(BaseModel):
    """None."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TextOnly:
    """The backbone's Stable Diffusion pipeline with the plain prompt."""

    description: ClassVar[str] = "the base model with the plain prompt; knows nothing of the subject"
    max_subjects: ClassVar[int] = 8
    uses_photographs: ClassVar[bool] = False
    Options: ClassVar[type[BaseModel]] = TextOnlyOptions

    def __init__(self, setting: Setting, options: TextOnlyOptions) -> None:
        import torch
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

        folder = setting.backbone.path("pipeline")
        with loading(f"the pipeline {folder}"):
            pipeline: Any = StableDiffusionPipeline.from_pretrained(
                folder, dtype=getattr(torch, setting.dtype), safety_checker=None, requires_safety_checker=False
            )
        pipeline.scheduler = make_scheduler(setting.sampler.scheduler, pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline.to(setting.device)
        self._sampler = setting.sampler

    @classmethod
    def weights(cls, backbone: Backbone, options: TextOnlyOptions) -> Mapping[str, Path]:
        """The pipeline."""
        return {"pipeline": backbone.path("pipeline")}

    def mention(self, subject: Subject, position: int) -> str:
        """The class noun."""
        return subject.noun

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        """Nothing to do."""
        return Customization(tuple(subjects))

    def generate(self, customization: Customization, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """One batch through the pipeline."""
        sampler = self._sampler
        yield from self._pipeline(
            [request.prompt for request in requests],
            num_inference_steps=sampler.steps,
            guidance_scale=sampler.guidance_scale,
            height=sampler.resolution,
            width=sampler.resolution,
            generator=[request.generator() for request in requests],
        ).images
