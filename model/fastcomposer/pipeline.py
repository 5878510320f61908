"""FastComposer's pipelines: Stable Diffusion with fused text embeddings and delayed subject conditioning.

FastComposer (arXiv 2305.10431), section 4.3.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput, StableDiffusionSafetyChecker
from diffusers.pipelines.stable_diffusion_xl.pipeline_output import StableDiffusionXLPipelineOutput
from diffusers.schedulers import KarrasDiffusionSchedulers
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from fc_bench.model.errors import ModelInputError, loading
from fc_bench.model.families.condition import Condition, Framing
from fc_bench.model.families.detection import INDEX, family_of
from fc_bench.model.families.family import Family
from fc_bench.model.families.sd1 import StableDiffusion1
from fc_bench.model.families.sdxl import StableDiffusionXL
from fc_bench.model.families.text_memory import TextMemory
from fc_bench.model.fastcomposer.checkpoint import load_components
from fc_bench.model.fastcomposer.overlay import PARTS, check_family
from fc_bench.model.fastcomposer.postfuse import PostfuseModule, check_features
from fc_bench.model.fastcomposer.prefixes import Prefix, ResumableSampling, sees_subjects
from fc_bench.model.fastcomposer.prompts import PLACEHOLDER, ParsedPrompt, check_tokenizer, parse_prompt
from fc_bench.model.fastcomposer.references import (
    embed_references,
    load_image_encoder,
    reference_pixels,
    reference_size,
)
from fc_bench.model.fastcomposer.subject_attention import SubjectAttention
from fc_bench.model.fastcomposer.unet_difference import load_unet
from fc_bench.model.stored_weights import load_whole

Pictures = Sequence[Sequence[Image.Image | Sequence[Image.Image]]]
"""For each prompt, the reference pictures of its placeholders: one each, or several."""


class ComposingPipeline(DiffusionPipeline):
    """What the pipelines of all families share: prompts with up to eight subjects, each given by reference pictures.

    It stands before the family's stock pipeline among the bases of a class.
    """

    family: ClassVar[Family]
    step_inputs: ClassVar[Mapping[str, str]]
    """Tensors that the stock pipeline takes back after each step, and the condition's fields that they are."""
    text_memory: TextMemory | None = None
    """A cache of text embeddings; None encodes every prompt."""
    read_reference: Callable[[Image.Image, int], Tensor] = staticmethod(reference_pixels)
    """The pixels of a reference picture for the image encoder, [3, size, size] in 0..1."""
    vae: Any
    unet: Any
    scheduler: Any
    tokenizer: Any
    image_encoder: Any
    postfuse_module: Any
    image_processor: Any
    vae_scale_factor: int
    prepare_latents: Any

    @property
    def _guided(self) -> bool:
        stock: Any = self
        return stock.do_classifier_free_guidance

    def _check_parts(self) -> None:
        """Raise ModelInputError if the parts do not fit together."""
        text = self.family.text_of(self)
        for tokenizer, encoder in zip(text.tokenizers, text.encoders, strict=True):
            check_tokenizer(tokenizer, encoder)
        check_features(
            postfuse=self.postfuse_module.config["features"],
            text=sum(encoder.config.hidden_size for encoder in text.encoders),
            image=self.image_encoder.config.projection_dim,
            unet=self.unet.config["cross_attention_dim"],
        )

    def _output(self, decoded: Tensor, output_type: str, return_dict: bool) -> Any:
        """The output of the pipeline for decoded images; for latents, if that is the `output_type`."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        subject_images: Pictures | None = None,
        alpha: float = 0.7,
        num_inference_steps: int = 50,
        guidance_scale: float = 5.0,
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        height: int | None = None,
        width: int | None = None,
        eta: float = 0.0,
        guidance_rescale: float = 0.0,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        subject_attention: SubjectAttention | None = None,
        prefix: Prefix | None = None,
    ) -> Any:
        """Images of the prompts, `num_images_per_prompt` for each prompt in turn.

        `subject_images` has, for each prompt, one reference picture per placeholder, in prompt order, or a list of
        several, whose embeddings are fused into as many copies of the image token (PhotoMaker, arXiv 2312.04461,
        section 3.2). None generates from the text alone. Step i (from 0) is conditioned on the text alone while i <=
        (1 - alpha) * num_inference_steps, and on the fused embeddings afterward. At alpha 0 all steps are text-only; at
        alpha 1 only the first one is. Give one `generator` per image, on the CPU, so that an image does not depend on
        its batch or the device. `subject_attention` records the attention of the subjects' tokens and does not change
        the images. With a `prefix` (`text_only_prefix` of the same prompts, generators and sampler), sampling continues
        from there and gives the same images. The other arguments are those of the stock pipeline. Raises
        ModelInputError for prompts, references and settings that do not fit.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        self._check(prompts, subject_images, alpha, num_images_per_prompt, generator, height, width)
        parsed = [parse_prompt(text, self.tokenizer) for text in prompts]
        text = fused = self._framed(self.encode_text(parsed), height, width)
        if subject_images is not None:
            if any(len(_listed(own)) > 1 for row in subject_images for own in row):
                counts = [[len(_listed(own)) for own in row] for row in subject_images]
                parsed = [one.stacked(own, self.tokenizer) for one, own in zip(parsed, counts, strict=True)]
                fused = self._framed(self.encode_text(parsed), height, width)
            fused = self.fuse_subjects(parsed, fused, subject_images)
        negatives = negative_prompt if isinstance(negative_prompt, list) else [negative_prompt or ""] * len(prompts)
        if len(negatives) != len(prompts):
            raise ModelInputError(
                f"{len(negatives)} negative prompts were given for {len(prompts)} prompts: give one per prompt"
            )
        negative = self._framed(self._encode_negative(negatives), height, width)
        text, fused, negative = (x.repeat_interleave(num_images_per_prompt) for x in (text, fused, negative))
        wanted = list(callback_on_step_end_tensor_inputs) if callback_on_step_end is not None else []

        def conditioned(step: int) -> Condition:
            sees = sees_subjects(step, alpha, num_inference_steps)
            if subject_attention is not None:
                subject_attention.conditioned = sees and subject_images is not None
            following = fused if sees else text
            return Condition.cat([negative, following]) if self._guided else following

        def after_step(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            changed: dict[str, Any] = {}
            if callback_on_step_end is not None:
                changed = callback_on_step_end(pipeline, step, timestep, {name: tensors[name] for name in wanted})
            following = conditioned(step + 1)
            return {**{name: getattr(following, field) for name, field in self.step_inputs.items()}, **changed}

        delayed_conditioning: Any = after_step
        tokens = [own.image_tokens for own in parsed for _ in range(num_images_per_prompt)]
        with nullcontext() if subject_attention is None else subject_attention.record(self.unet, tokens):
            if prefix is not None:
                if callback_on_step_end is not None or latents is not None or eta or guidance_rescale:
                    raise ModelInputError(
                        "a prefix cannot be combined with latents, eta, guidance_rescale or a callback: leave out the "
                        "prefix or the others"
                    )
                sampling = self._resumed(prefix, num_inference_steps, guidance_scale, text)
                final = sampling.advance(sampling.iterations, conditioned)
                return self._finished(final, output_type, return_dict)
            stock: Any = super()
            (final, *_) = stock.__call__(
                **self.family.call_inputs(text, negative),  # step 0 is text-only at every alpha
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                generator=generator,
                latents=latents,
                height=height,
                width=width,
                eta=eta,
                guidance_rescale=guidance_rescale,
                output_type="latent",
                return_dict=False,
                callback_on_step_end=delayed_conditioning,
                callback_on_step_end_tensor_inputs=list({*wanted, *self.step_inputs}),
            )
        return self._finished(final, output_type, return_dict)

    @torch.no_grad()
    def text_only_prefix(
        self,
        prompt: Sequence[str],
        iterations: int,
        generator: Sequence[torch.Generator],
        num_inference_steps: int = 50,
        guidance_scale: float = 5.0,
        height: int | None = None,
        width: int | None = None,
        negative_prompt: Sequence[str] | None = None,
        earlier: Prefix | None = None,
    ) -> Prefix:
        """The state after the first, text-only iterations of sampling these prompts as one batch.

        Sampling continues from an `earlier` prefix of the same batch if one is given. The other arguments must equal
        those of the call that uses the prefix. Raises ModelInputError for prompts and settings that do not fit.
        """
        prompts = list(prompt)
        self._check(prompts, None, 0, 1, list(generator), height, width)
        text = self._framed(self.encode_text([parse_prompt(text, self.tokenizer) for text in prompts]), height, width)
        negatives = [""] * len(prompts) if negative_prompt is None else negative_prompt
        negative = self._framed(self._encode_negative(negatives), height, width)
        if earlier is not None:
            sampling = self._resumed(earlier, num_inference_steps, guidance_scale, text)
        else:
            sampling = ResumableSampling(self.family, self, num_inference_steps, guidance_scale)
            shape = (len(prompts), self.unet.config["in_channels"], *self._size(height, width))
            sampling.begin(self.prepare_latents(*shape, text.text.dtype, self._execution_device, list(generator)))
        both = Condition.cat([negative, text]) if self._guided else text
        sampling.advance(iterations, lambda _: both)
        return sampling.prefix()

    def _resumed(self, prefix: Prefix, steps: int, guidance_scale: float, text: Condition) -> ResumableSampling:
        if prefix.steps != steps or len(prefix.latents) != len(text):
            raise ModelInputError(
                f"the prefix has {len(prefix.latents)} images and {prefix.steps} steps, but the call has {len(text)} "
                f"images and {steps} steps: give a prefix of the same batch and sampler"
            )
        sampling = ResumableSampling(self.family, self, steps, guidance_scale)
        sampling.resume(prefix)
        return sampling

    def _finished(self, latents: Tensor, output_type: str, return_dict: bool) -> Any:
        """The output for the final latents; the autoencoder may have a number format of its own."""
        images = latents if output_type == "latent" else self.family.decode(self.vae, latents)
        output = self._output(images, output_type, return_dict)
        self.maybe_free_model_hooks()
        return output

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[ParsedPrompt], blank: Sequence[bool] = ()) -> Condition:
        """The condition of the prompts without their subjects; rows that are `blank` are those of no prompt."""
        text = self.family.text_of(self)
        ids = [torch.stack([own.padded_for(tokenizer) for own in prompts]) for tokenizer in text.tokenizers]
        return self.family.encode_tokens(text.encoders, ids, self.text_memory, blank).to(self.unet.dtype)

    def _encode_negative(self, prompts: Sequence[str]) -> Condition:
        return self.encode_text(
            [parse_prompt(text, self.tokenizer) for text in prompts], [not text for text in prompts]
        )

    def _framed(self, condition: Condition, height: int | None, width: int | None) -> Condition:
        return self.family.framed(condition, [Framing.whole(*self._size(height, width))] * len(condition))

    def _size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """Height and width of the images; the UNet's own without others."""
        side = self.unet.config["sample_size"] * self.vae_scale_factor
        return height or side, width or side

    @torch.no_grad()
    def fuse_subjects(
        self, prompts: Sequence[ParsedPrompt], condition: Condition, subject_images: Pictures
    ) -> Condition:
        """The condition of the prompts with each one's subjects fused at its image tokens, one picture at each."""
        pictures = [picture for row in subject_images for own in row for picture in _listed(own)]
        if not pictures:
            return condition
        device, image_encoder = self._execution_device, self.image_encoder
        size = reference_size(image_encoder)
        pixels = torch.stack([self.read_reference(picture, size) for picture in pictures])
        subject_embeds = embed_references(image_encoder, pixels.to(device))
        mask = torch.stack([prompt.image_token_mask for prompt in prompts]).to(device)
        text = condition.text
        return condition.with_text(self.postfuse_module(text, mask, subject_embeds.to(text.dtype)))

    def _check(
        self,
        prompts: list[str],
        subject_images: Pictures | None,
        alpha: float,
        num_images_per_prompt: int,
        generator: torch.Generator | list[torch.Generator] | None,
        height: int | None,
        width: int | None,
    ) -> None:
        if not prompts:
            raise ModelInputError("no prompt was given: give at least one")
        if not 0 <= alpha <= 1:
            raise ModelInputError(
                f"alpha, the fraction of steps with subject conditioning, is {alpha}: give a number from 0 to 1"
            )
        images = len(prompts) * num_images_per_prompt
        if isinstance(generator, list) and len(generator) != images:
            raise ModelInputError(f"{len(generator)} generators were given for {images} images: give one per image")
        for name, value in (("height", height), ("width", width)):
            if value is not None and (value <= 0 or value % self.vae_scale_factor):
                raise ModelInputError(
                    f"the {name} is {value}: give a positive multiple of {self.vae_scale_factor} pixels"
                )
        if subject_images is None:
            return
        if len(subject_images) != len(prompts) or any(isinstance(row, Image.Image) for row in subject_images):
            raise ModelInputError(
                f"subject_images must be a list of {len(prompts)} lists with the reference pictures of each prompt: "
                "give [[first, second]] for one prompt with two subjects"
            )
        for text, row in zip(prompts, subject_images, strict=True):
            if text.count(PLACEHOLDER) != len(row):
                raise ModelInputError(
                    f"the prompt {text!r} has {text.count(PLACEHOLDER)} placeholders {PLACEHOLDER}, but {len(row)} "
                    "reference pictures were given: give one picture per placeholder"
                )
            if not all(_listed(own) for own in row):
                raise ModelInputError(
                    f"the prompt {text!r} has a subject without a reference picture: give at least one per placeholder"
                )


def _listed(pictures: Image.Image | Sequence[Image.Image]) -> Sequence[Image.Image]:
    """The pictures of one subject."""
    return pictures if isinstance(pictures, Sequence) else [pictures]


class FastComposerPipeline(ComposingPipeline, StableDiffusionPipeline):
    """FastComposer's pipeline on Stable Diffusion v1.x.

    It is saved and loaded like any diffusers pipeline. The stock StableDiffusionPipeline loads its folder as the
    text-only model with the same weights. Raises ModelInputError if its parts do not fit together.
    """

    family: ClassVar[Family] = StableDiffusion1()
    step_inputs: ClassVar[Mapping[str, str]] = {"prompt_embeds": "text"}
    model_cpu_offload_seq = "text_encoder->image_encoder->postfuse_module->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        image_encoder: CLIPVisionModelWithProjection,
        postfuse_module: PostfuseModule,
        safety_checker: StableDiffusionSafetyChecker | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        requires_safety_checker: bool = False,
    ):
        optional: dict[str, Any] = {"safety_checker": safety_checker, "feature_extractor": feature_extractor}
        StableDiffusionPipeline.__init__(
            self,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            image_encoder=image_encoder,
            requires_safety_checker=requires_safety_checker,
            **optional,
        )
        self.register_modules(postfuse_module=postfuse_module)
        self._check_parts()

    def _output(self, decoded: Tensor, output_type: str, return_dict: bool) -> Any:
        images, unsafe = decoded, None
        if output_type != "latent":
            checked, unsafe = self.run_safety_checker(decoded, decoded.device, self.unet.dtype)
            shown = [True] * len(checked) if unsafe is None else [not found for found in unsafe]
            images = self.image_processor.postprocess(checked, output_type=output_type, do_denormalize=shown)
        return StableDiffusionPipelineOutput(images, unsafe) if return_dict else (images, unsafe)  # type: ignore


class FastComposerXLPipeline(ComposingPipeline, StableDiffusionXLPipeline):
    """FastComposer's pipeline on Stable Diffusion XL: subjects are fused into the joined states of both encoders.

    It is saved, loaded and refused like FastComposerPipeline.
    """

    family: ClassVar[Family] = StableDiffusionXL()
    step_inputs: ClassVar[Mapping[str, str]] = {"prompt_embeds": "text", "add_text_embeds": "pooled"}
    model_cpu_offload_seq = "text_encoder->text_encoder_2->image_encoder->postfuse_module->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        text_encoder_2: CLIPTextModelWithProjection,
        tokenizer: CLIPTokenizer,
        tokenizer_2: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        image_encoder: CLIPVisionModelWithProjection,
        postfuse_module: PostfuseModule,
        feature_extractor: CLIPImageProcessor | None = None,
        force_zeros_for_empty_prompt: bool = True,
    ):
        optional: dict[str, Any] = {"feature_extractor": feature_extractor}
        StableDiffusionXLPipeline.__init__(
            self,
            vae=vae,
            text_encoder=text_encoder,
            text_encoder_2=text_encoder_2,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            unet=unet,
            scheduler=scheduler,
            image_encoder=image_encoder,
            force_zeros_for_empty_prompt=force_zeros_for_empty_prompt,
            add_watermarker=False,
            **optional,
        )
        self.register_modules(postfuse_module=postfuse_module)
        self._check_parts()

    def _output(self, decoded: Tensor, output_type: str, return_dict: bool) -> Any:
        images = decoded if output_type == "latent" else self.image_processor.postprocess(decoded, output_type)
        return StableDiffusionXLPipelineOutput(images) if return_dict else (images,)  # type: ignore


PIPELINES = (FastComposerPipeline, FastComposerXLPipeline)


def composing(pipeline: Any, image_encoder: Any, postfuse_module: PostfuseModule) -> Any:
    """The FastComposer pipeline with the parts of a stock pipeline of its family."""
    kind = next(kind for kind in PIPELINES if isinstance(pipeline, kind.family.pipeline_class()))
    parts = {**pipeline.components, "image_encoder": image_encoder, "postfuse_module": postfuse_module}
    return kind(**parts)


def load_fastcomposer(
    base: Path | str,
    checkpoint: Path | str,
    torch_dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    image_encoder: Path | str | None = None,
) -> Any:
    """A FastComposer pipeline from a checkpoint in any supported form.

    `checkpoint` is one of three forms: a saved FastComposerPipeline folder, for which `base` is not read; an overlay
    folder with the trained parts unet/, image_encoder/ and postfuse_module/, whose other parts come from the pipeline
    folder or hub id `base`; or a checkpoint file in the published layout. An overlay's UNet can be a difference to the
    UNet of `base` (see `unet_difference`). `image_encoder` names a CLIP model. For a checkpoint file it gives the
    architecture, if that is not ViT-L/14 (see `checkpoint`). For an overlay with only trained layers it gives the other
    layers (see `references`). Raises ModelInputError for any other form and for weights that do not fit.
    """
    checkpoint = Path(checkpoint)
    with loading(f"the FastComposer weights {checkpoint} (on the pipeline {base})"):
        return _load(base, checkpoint, torch_dtype, image_encoder).to(device)


def _load(base: Path | str, checkpoint: Path, torch_dtype: torch.dtype, image_encoder: Path | str | None) -> Any:
    models: dict[str, Any]
    if (checkpoint / INDEX).is_file():
        if Path(base).is_dir():
            check_family(checkpoint, Path(base))
        kind = _kind(checkpoint)
        models = _trained_parts(checkpoint, torch_dtype)
        models["vae"] = kind.family.load_part("vae", checkpoint, torch_dtype)
        return kind.from_pretrained(checkpoint, dtype=torch_dtype, **models)
    base = Path(base) if Path(base).is_dir() else Path(DiffusionPipeline.download(str(base)))  # type: ignore
    check_family(checkpoint, base)
    kind = _kind(base)
    if checkpoint.is_file() and kind is FastComposerPipeline:
        models = load_components(checkpoint, base, torch_dtype, image_encoder)
    elif all((checkpoint / part).is_dir() for part in PARTS):
        models = _trained_parts(checkpoint, torch_dtype, base, image_encoder)
    else:
        file = ", or a checkpoint file" if kind is FastComposerPipeline else ""
        raise ModelInputError(
            f"{checkpoint} has no FastComposer weights for {kind.family.title}: give a saved pipeline folder, or a "
            f"folder with {', '.join(PARTS)}{file}"
        )
    of_base = {
        part.name: models.get(part.name) or kind.family.load_part(part.name, base, torch_dtype)
        for part in kind.family.parts
    }
    absent: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    optional = absent if kind is FastComposerPipeline else {"add_watermarker": False}
    stock = kind.family.pipeline_class().from_pretrained(base, **of_base, dtype=torch_dtype, **optional)
    return composing(stock, models["image_encoder"], models["postfuse_module"])


def _kind(pipeline: Path) -> Any:
    """The FastComposer pipeline of the family of the pipeline in a folder."""
    return next(kind for kind in PIPELINES if kind.family.name == family_of(pipeline).name)


def _trained_parts(
    folder: Path, dtype: torch.dtype, base: Path | str | None = None, clip: Path | str | None = None
) -> dict[str, Any]:
    return {
        "unet": load_unet(folder / "unet", base, dtype),
        "image_encoder": load_image_encoder(folder / "image_encoder", dtype, starting_from=clip),
        "postfuse_module": load_whole(PostfuseModule, folder / "postfuse_module", dtype),
    }
