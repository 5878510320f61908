"""The backbone's pipeline, part by part.

Methods share the frozen parts. A part that a method changes is read from its files again. No method trains a shared
part, so one customization cannot affect the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fc_bench.errors import UserError
from fc_bench.model.attention import use_attention
from fc_bench.model.backbones.schedulers import make_scheduler
from fc_bench.model.compilation import compiled
from fc_bench.model.errors import loading
from fc_bench.model.families.condition import Condition
from fc_bench.model.families.detection import family_of
from fc_bench.model.families.diffusion import Diffusion
from fc_bench.model.families.text import TextEncoders
from fc_bench.model.families.text_memory import TextMemory
from fc_bench.model.kernels import arrange
from fc_bench.protocols import Request, Sampler, Setting

CIRCUMSTANCES = frozenset({"architectures", "dtype", "torch_dtype", "transformers_version"})
"""Entries of a configuration that say how a model was saved. So do those that begin with an underscore."""


class BasePipeline:
    """The pipeline of a run's backbone, on the run's device and in its number format.

    Its `family` knows what depends on the architecture. Its parts raise ModelInputError when their files cannot be
    loaded.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.device = torch.device(setting.device)
        self.dtype: torch.dtype = getattr(torch, setting.dtype)
        self.folder = setting.backbone.path("pipeline")
        self.family = family_of(self.folder)
        self._text_memory = TextMemory() if setting.remembers_text else None

    @cached_property
    def vae(self) -> Any:
        """The frozen autoencoder."""
        return self.fresh("vae")

    @cached_property
    def unet(self) -> Any:
        """The shared, frozen denoiser, for methods that train other parts."""
        return self.fresh("unet")

    @cached_property
    def text(self) -> TextEncoders:
        """The shared, frozen text encoders with their tokenizers. Do not add tokens to these."""
        return self.fresh_text()

    def fresh_unet(self, dtype: torch.dtype | None = None) -> Any:
        """A separate copy of the denoiser, in the run's number format unless `dtype` is given."""
        return self.fresh("unet", dtype)

    def fresh_text(self, dtype: torch.dtype | None = None) -> TextEncoders:
        """Separate copies of the text encoders and tokenizers, in the run's number format unless `dtype` is given."""
        encoders = tuple(self.fresh(encoder.part, dtype) for encoder in self.family.encoders)
        return TextEncoders(self.family.load_tokenizers(self.folder), encoders)

    def fresh(self, part: str, dtype: torch.dtype | None = None) -> Any:
        """A separate copy of a model, frozen, in the run's number format unless `dtype` is given."""
        return self.placed(self.family.load_part(part, self.folder, dtype or self.dtype), part)

    def stored(self, part: str, folder: Path) -> Any:
        """A model that a method has stored in a folder, in place of the pipeline's `part`.

        Raises UserError when it has another architecture.
        """
        _check_architecture(folder, self.folder / part)
        return self.placed(self.family.part(part).load_class().from_pretrained(folder, dtype=self.dtype), part)

    def diffusion(self) -> Diffusion:
        """The forward diffusion process for training, with the pipeline's noise schedule and prediction type."""
        return self.family.diffusion(self.folder)

    def pipeline(self, unet: Any = None, text: TextEncoders | None = None) -> Any:
        """A stock pipeline with the run's sampler; shared parts stand in for those that are not given."""
        text = text or self.text
        names = self.family.encoders
        pipeline = self.family.pipeline(
            {
                "vae": self.vae,
                "unet": unet or self.unet,
                **{name.part: model for name, model in zip(names, text.encoders, strict=True)},
                **{name.tokenizer: tokenizer for name, tokenizer in zip(names, text.tokenizers, strict=True)},
                "scheduler": make_scheduler(self.setting.sampler.scheduler, self._scheduler_config()),
            }
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def placed(self, model: Any, part: str = "") -> Any:
        """The model, frozen and on the run's device, with the run's kernels for its role in the pipeline, if any."""
        model = model.to(self.device).requires_grad_(False).eval()
        kernels = self.setting.kernels
        arrange(model, kernels.vae if part == "vae" else kernels.unet)
        if part == "unet" and kernels.attention != "sdpa":  # the library's
            use_attention(model, kernels.attention)
        return model

    def sample(self, pipeline: Any, requests: Sequence[Request], **inputs: Any) -> Iterator[Image.Image]:
        """One image per request, sampled in one batch with the run's sampler; each image has its own noise.

        `inputs` are additional arguments of the pipeline. Raises UserError for a prompt that a text encoder would
        truncate.
        """
        text = self.family.text_of(pipeline)
        prompts = [request.prompt for request in requests]
        negative = [request.conditions.negative_prompt for request in requests]
        spelled = {prompt: _spelled(pipeline, text, prompt) for prompt in (*prompts, *negative)}
        conditions = self._conditions(text, [spelled[prompt] for prompt in prompts], [spelled[n] for n in negative])
        inputs |= {**self.family.call_inputs(*conditions), "output_type": "latent"}
        with compiled(pipeline.unet, self.setting.compiled):
            latents: Any = draw_images(pipeline, self.setting.sampler, requests, **inputs)
        with torch.no_grad():
            decoded: Any = self.family.decode(pipeline.vae, latents)
        yield from pipeline.image_processor.postprocess(decoded, "pil", [True] * len(decoded))

    @torch.no_grad()
    def _conditions(
        self, text: TextEncoders, prompts: Sequence[str], negative: Sequence[str]
    ) -> tuple[Condition, Condition]:
        """The conditions of the prompts and of the negative prompts, of which an empty one is no prompt."""
        blank = [not prompt for prompt in negative]
        if self._text_memory is None:
            return self.family.encode(text, prompts), self.family.encode(text, negative, blank=blank)
        count = len(prompts)  # one question, because the memory looks at all weights
        both = self.family.encode(text, [*prompts, *negative], self._text_memory, [False] * count + blank)
        return both.rows(range(count)), both.rows(range(count, 2 * count))

    def _scheduler_config(self) -> Any:
        from diffusers import DDPMScheduler

        with loading(f"the scheduler {self.folder / 'scheduler'}"):
            return DDPMScheduler.load_config(self.folder, subfolder="scheduler")


def _check_architecture(stored: Path, own: Path) -> None:
    """Raise UserError when the configuration of a stored model contradicts that of the pipeline's own part."""
    found, wanted = (json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in (stored, own))
    for key in sorted(found.keys() & wanted.keys() - CIRCUMSTANCES):
        if not key.startswith("_") and found[key] != wanted[key]:
            raise UserError(
                f"The model {stored} has the {key} {found[key]}, but {own} has {wanted[key]}: it belongs to another "
                "architecture; customize again."
            )


def _spelled(pipeline: Any, text: TextEncoders, prompt: str) -> str:
    """The prompt with every vector of learned tokens; raises UserError when a text encoder would truncate it."""
    spelled: str = pipeline.maybe_convert_prompt(prompt, text.tokenizers[0])
    for tokenizer in text.tokenizers:
        check_length(prompt, len(tokenizer(spelled)["input_ids"]), int(tokenizer.model_max_length))
    return spelled


def draw_images(pipeline: Any, sampler: Sampler, requests: Sequence[Request], **inputs: Any) -> Sequence[Image.Image]:
    """The requests' images from one batch of a pipeline, each with its own noise.

    `inputs` are the other arguments of the pipeline: prompts or what stands for them, and what a method adds.
    """
    width, height = image_size(sampler, requests)
    return pipeline(
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
