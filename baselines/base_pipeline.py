"""The backbone's pipeline, part by part.

Methods share the frozen parts. A part that a method changes is read from its files again. No method trains a shared
part, so one customization cannot affect the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from fc_bench.errors import UserError
from fc_bench.model.attention import use_attention
from fc_bench.model.backbones.schedulers import make_scheduler
from fc_bench.model.compilation import compiled
from fc_bench.model.errors import loading
from fc_bench.model.kernels import arrange
from fc_bench.model.stored_weights import load_whole
from fc_bench.model.text_memory import TextMemory
from fc_bench.protocols import Request, Sampler, Setting


class BasePipeline:
    """The Stable Diffusion pipeline of a run's backbone, on the run's device and in its number format.

    Its parts raise ModelInputError when their files cannot be loaded.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.device = torch.device(setting.device)
        self.dtype: torch.dtype = getattr(torch, setting.dtype)
        self._folder = setting.backbone.path("pipeline")
        self._text_memory = TextMemory()

    @cached_property
    def vae(self) -> AutoencoderKL:
        """The frozen autoencoder."""
        return self._read(AutoencoderKL, "vae", self.dtype)

    @cached_property
    def unet(self) -> UNet2DConditionModel:
        """The shared, frozen UNet, for methods that train other parts."""
        return self._read(UNet2DConditionModel, "unet", self.dtype)

    @cached_property
    def text_encoder(self) -> CLIPTextModel:
        """The shared, frozen text encoder."""
        return self._read(CLIPTextModel, "text_encoder", self.dtype)

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        """The shared tokenizer. Do not add tokens to it."""
        return self.fresh_tokenizer()

    def fresh_unet(self, dtype: torch.dtype | None = None) -> UNet2DConditionModel:
        """A separate copy of the UNet, in the run's number format unless `dtype` is given."""
        return self._read(UNet2DConditionModel, "unet", dtype or self.dtype)

    def fresh_text_encoder(self, dtype: torch.dtype | None = None) -> CLIPTextModel:
        """A separate copy of the text encoder, in the run's number format unless `dtype` is given."""
        return self._read(CLIPTextModel, "text_encoder", dtype or self.dtype)

    def fresh_tokenizer(self) -> CLIPTokenizer:
        """A separate copy of the tokenizer."""
        return read_tokenizer(self._folder)

    def noise_schedule(self) -> DDPMScheduler:
        """The forward diffusion process for training, with the pipeline's noise schedule and prediction type."""
        untyped: Any = DDPMScheduler.from_config(self._scheduler_config())  # its declared type includes unused options
        return untyped

    def pipeline(
        self,
        unet: UNet2DConditionModel | None = None,
        text_encoder: CLIPTextModel | None = None,
        tokenizer: CLIPTokenizer | None = None,
    ) -> StableDiffusionPipeline:
        """A stock pipeline with the run's sampler; shared parts stand in for those that are not given."""
        absent: Any = None
        pipeline = StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=text_encoder or self.text_encoder,
            tokenizer=tokenizer or self.tokenizer,
            unet=unet or self.unet,
            scheduler=make_scheduler(self.setting.sampler.scheduler, self._scheduler_config()),
            safety_checker=absent,
            feature_extractor=absent,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def placed(self, model: Any) -> Any:
        """The model, frozen and on the run's device; UNets and autoencoders have the run's memory formats."""
        model = model.to(self.device).requires_grad_(False).eval()
        if not isinstance(model, CLIPTextModel):
            kernels = self.setting.kernels
            arrange(model, kernels.vae if isinstance(model, AutoencoderKL) else kernels.unet)
        if isinstance(model, UNet2DConditionModel) and self.setting.kernels.attention != "sdpa":  # the library's
            use_attention(model, self.setting.kernels.attention)
        return model

    def sample(
        self, pipeline: StableDiffusionPipeline, requests: Sequence[Request], **inputs: Any
    ) -> Iterator[Image.Image]:
        """One image per request, sampled in one batch with the run's sampler; each image has its own noise.

        `inputs` are additional arguments of the pipeline. Raises UserError for a prompt that the text encoder would
        truncate.
        """
        negative = {request.conditions.negative_prompt for request in requests} - {""}
        self._check_lengths(pipeline, [*(request.prompt for request in requests), *negative])
        embeddings = self._text_embeddings(pipeline, requests) if self.setting.remembers_text else {}
        with compiled(pipeline.unet, self.setting.compiled):
            images = draw_images(pipeline, self.setting.sampler, requests, **embeddings, **inputs)
        yield from images

    def _text_embeddings(
        self, pipeline: StableDiffusionPipeline, requests: Sequence[Request]
    ) -> dict[str, torch.Tensor]:
        """The pipeline's embeddings of the prompts and of the negative prompts, each computed once."""
        prompts = [request.prompt for request in requests]
        prompts += [request.conditions.negative_prompt for request in requests]
        tokens = pipeline.tokenizer(
            [pipeline.maybe_convert_prompt(prompt, pipeline.tokenizer) for prompt in prompts],
            padding="max_length",
            max_length=pipeline.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        if getattr(pipeline.text_encoder.config, "use_attention_mask", False):
            return {}
        text, null = self._text_memory(pipeline.text_encoder, tokens.input_ids).chunk(2)
        return {"prompt_embeds": text, "negative_prompt_embeds": null}

    def _check_lengths(self, pipeline: StableDiffusionPipeline, prompts: Sequence[str]) -> None:
        longest = int(pipeline.tokenizer.model_max_length)
        for prompt in prompts:
            length = len(pipeline.tokenizer(pipeline.maybe_convert_prompt(prompt, pipeline.tokenizer))["input_ids"])
            check_length(prompt, length, longest)

    def _scheduler_config(self) -> Any:
        with loading(f"the scheduler {self._folder / 'scheduler'}"):
            return DDPMScheduler.load_config(self._folder, subfolder="scheduler")

    def _read(self, kind: Any, part: str, dtype: torch.dtype) -> Any:
        return self.placed(load_whole(kind, self._folder / part, dtype, f"the {part}"))


def read_tokenizer(pipeline: Path) -> CLIPTokenizer:
    """The tokenizer in a pipeline's folder; raises ModelInputError when it cannot be read."""
    with loading(f"the tokenizer {pipeline / 'tokenizer'}"):
        return CLIPTokenizer.from_pretrained(pipeline / "tokenizer")


def draw_images(pipeline: Any, sampler: Sampler, requests: Sequence[Request], **inputs: Any) -> Sequence[Image.Image]:
    """The requests' images from one batch of a pipeline, each with its own noise.

    `inputs` are additional arguments of the pipeline. Prompt embeddings among them replace the prompts.
    """
    prompts = None if "prompt_embeds" in inputs else [request.prompt for request in requests]
    if prompts is not None and any(request.conditions.negative_prompt for request in requests):
        inputs["negative_prompt"] = [request.conditions.negative_prompt for request in requests]
    width, height = image_size(sampler, requests)
    return pipeline(
        prompts,
        **inputs,
        num_inference_steps=sampler.steps,
        guidance_scale=sampler.guidance_scale,
        height=height,
        width=width,
        generator=[request.generator() for request in requests],
    ).images


def image_size(sampler: Sampler, requests: Sequence[Request]) -> tuple[int, int]:
    """Width and height in pixels of the images of a batch."""
    return requests[0].conditions.size or (sampler.resolution, sampler.resolution)


def check_length(prompt: str, length: int, longest: int) -> None:
    """Raise UserError for a prompt with more tokens than the text encoder reads."""
    if length > longest:
        raise UserError(
            f'The prompt "{prompt}" has {length} tokens, but the text encoder reads at most {longest}; shorten it.'
        )
