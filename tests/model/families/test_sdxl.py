"""Stable Diffusion XL through its family is what diffusers' own pipeline makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.text_only import TextOnly
from fc_bench.baselines.tuning.latents import encode
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.model.backbones.schedulers import make_scheduler
from fc_bench.model.families.condition import Condition, Framing
from fc_bench.model.families.detection import family_of
from fc_bench.model.families.text import TextEncoders
from fc_bench.model.families.text_memory import TextMemory
from fc_bench.model.fastcomposer.prefixes import ResumableSampling
from fc_bench.model.kernels import Kernels
from fc_bench.protocols import Conditions, Request, Sampler, Setting

PROMPTS = ["a man in the snow", "a woman"]
STOCK = Kernels(unet="contiguous", vae="contiguous")
"""The memory formats of a pipeline that diffusers alone loads."""


@pytest.fixture(scope="module")
def folder(tiny_sdxl_backbone: Path) -> Path:
    return tiny_sdxl_backbone.parent / "pipeline"


@pytest.fixture
def stock(folder) -> Any:
    """The pipeline as diffusers alone loads it."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def setting(tiny_sdxl_backbone) -> Any:
    def make(scheduler: Any = "euler", dtype: str = "float32", **more: Any) -> Setting:
        backbone = read_backbone(str(tiny_sdxl_backbone))
        return Setting(backbone, Sampler(scheduler, 4, 3.0, 64), "cpu", dtype, kernels=STOCK, **more)

    return make


def images_of(setting: Setting, requests: list[Request]) -> np.ndarray:
    method = TextOnly(setting, TextOnly.Options())
    customization = method.customize((), 0, Path(), None)
    return np.stack([np.asarray(image) for image in method.generate(customization, requests)])


def asked(prompt: str, seed: int, **conditions: Any) -> Request:
    return Request(prompt, prompt, seed, Conditions(**conditions))


def stock_images(pipeline: Any, requests: list[Request], sampler: Sampler, **inputs: Any) -> np.ndarray:
    pipeline.scheduler = make_scheduler(sampler.scheduler, pipeline.scheduler.config)
    width, height = requests[0].conditions.size or (sampler.resolution, sampler.resolution)
    found = pipeline(
        [request.prompt for request in requests],
        num_inference_steps=sampler.steps,
        guidance_scale=sampler.guidance_scale,
        height=height,
        width=width,
        generator=[request.generator() for request in requests],
        **inputs,
    ).images
    return np.stack([np.asarray(image) for image in found])


def test_prompts_are_encoded_as_by_diffusers(folder, stock):
    family = family_of(folder)
    found = family.encode(family.text_of(stock), PROMPTS)
    text, negative, pooled, negative_pooled = stock.encode_prompt(PROMPTS)
    assert found.text.shape == (2, 77, 16 + 24)
    assert torch.equal(found.text, text)
    assert torch.equal(found.pooled, pooled)  # pyright: ignore[reportArgumentType]
    null = family.encode(family.text_of(stock), [""] * 2, blank=[True] * 2)
    assert torch.equal(null.text, negative)
    assert torch.equal(null.pooled, negative_pooled)  # pyright: ignore[reportArgumentType]


def test_no_prompt_is_zero_and_the_other_rows_are_those_without_it(folder, stock):
    family, text = family_of(folder), family_of(folder).text_of(stock)
    memory = TextMemory()
    for remembered in (None, memory, memory):
        mixed = family.encode(text, ["", "a man", "", "a cat"], remembered, blank=[True, False, True, False])
        torch.testing.assert_close(mixed.rows([1, 3]).text, family.encode(text, ["a man", "a cat"]).text)
        assert not mixed.rows([0, 2]).text.any()
        assert not mixed.rows([0, 2]).pooled.any()  # pyright: ignore[reportOptionalMemberAccess]
    assert family.encode(text, [""]).text.any()  # an empty prompt is another thing


@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "dpm", "euler"])
def test_text_only_images_are_those_of_diffusers(scheduler, setting, stock):
    own = setting(scheduler)
    requests = [asked(prompt, seed) for seed, prompt in enumerate(PROMPTS)]
    expected = stock_images(stock, requests, own.sampler)
    assert np.abs(images_of(own, requests).astype(int) - expected).max() <= 1
    remembering = setting(scheduler, remembers_text=True)
    assert np.abs(images_of(remembering, requests).astype(int) - expected).max() <= 1


def test_negative_prompts_and_sizes_are_those_of_diffusers(setting, stock):
    requests = [asked(prompt, 3, negative_prompt="a dog", size=(96, 64)) for prompt in PROMPTS]
    expected = stock_images(stock, requests, setting().sampler, negative_prompt=["a dog"] * 2)
    assert np.abs(images_of(setting(), requests).astype(int) - expected).max() <= 1
    mixed = [requests[0], asked(PROMPTS[1], 3, size=(96, 64))]
    alone = stock_images(stock, mixed[1:], setting().sampler)
    assert np.abs(images_of(setting(), mixed)[1].astype(int) - alone[0]).max() <= 1


@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "dpm", "euler"])
def test_sampling_that_stops_and_goes_on_is_that_of_diffusers(scheduler, folder, stock):
    family, text = family_of(folder), family_of(folder).text_of(stock)
    stock.scheduler = make_scheduler(scheduler, stock.scheduler.config)
    sampling: dict[str, Any] = {"num_inference_steps": 5, "guidance_scale": 3.0, "height": 64, "width": 96}
    generators = [torch.Generator().manual_seed(number) for number in (1, 2)]
    whole = stock(PROMPTS, generator=generators, output_type="latent", **sampling).images
    with torch.no_grad():
        both = Condition.cat([family.encode(text, [""] * 2, blank=[True] * 2), family.encode(text, PROMPTS)])
        both = family.framed(both, [Framing.whole(64, 96)] * 4)
        first = ResumableSampling(family, stock, 5, 3.0)
        generators = [torch.Generator().manual_seed(number) for number in (1, 2)]
        first.begin(stock.prepare_latents(2, 4, 64, 96, torch.float32, torch.device("cpu"), generators))
        first.advance(2, lambda _: both)
        prefix = first.prefix()
        then = ResumableSampling(family, stock, 5, 3.0)
        then.resume(prefix)
        assert torch.equal(then.advance(then.iterations, lambda _: both), whole)


def test_the_autoencoder_is_never_in_half_precision(setting, folder, tmp_path):
    base = BasePipeline(setting(dtype="float16"))
    assert base.vae.dtype is torch.float32
    assert base.text.encoders[1].dtype is torch.float16
    pictures = torch.rand(1, 3, 64, 64)
    assert torch.equal(
        encode(base.family, base.vae, pictures).mean, base.vae.encode(pictures).latent_dist.mean * 0.13025
    )
    latents = torch.randn(1, 4, 8, 8).half()
    decoded = base.family.decode(base.vae, latents)
    assert torch.equal(decoded, base.vae.decode(latents.float() / 0.13025).sample)
    assert BasePipeline(setting(dtype="bfloat16")).vae.dtype is torch.bfloat16
    config = json.loads((folder / "vae" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "force_upcast": False}))
    assert base.family.autoencoder_dtype(tmp_path, torch.float16) is torch.float16


def test_the_autoencoder_encodes_in_its_own_format_under_autocast(setting):
    base, seen = BasePipeline(setting(dtype="float16")), []
    hook = base.vae.encoder.conv_in.register_forward_hook(lambda *given: seen.append(given[-1].dtype))
    pictures = torch.rand(1, 3, 64, 64)
    plain = encode(base.family, base.vae, pictures).mean
    with torch.autocast("cpu", torch.float16):
        found = encode(base.family, base.vae, pictures).mean
    hook.remove()
    assert seen == [torch.float32] * 2
    assert torch.equal(found, plain)


def test_images_have_no_watermark(setting):
    assert BasePipeline(setting()).pipeline().watermark is None


def test_the_pooled_feature_is_that_of_the_end_also_with_new_tokens(folder):
    family = family_of(folder)
    text: TextEncoders = family.load_text(folder, torch.float32)
    before = family.encode(text, ["a man"]).pooled
    for tokenizer, encoder in zip(text.tokenizers, text.encoders, strict=True):
        encoder.resize_token_embeddings(len(tokenizer) + 1, mean_resizing=False)
        tokenizer.add_tokens(["<ann>"])
    wrong = family.encode(text, ["a <ann> man"]).pooled
    family.fit_new_tokens(text)
    right = family.encode(text, ["a <ann> man"]).pooled
    assert torch.equal(family.encode(text, ["a man"]).pooled, before)  # pyright: ignore[reportArgumentType]
    assert not torch.allclose(right, wrong)  # pyright: ignore[reportArgumentType]
    encoder, (ids,) = text.encoders[1], text.tokens(["a <ann> man"])[1]
    states = encoder.text_model(ids[None]).last_hidden_state[0]
    end = ids.tolist().index(text.tokenizers[1].eos_token_id)
    torch.testing.assert_close(right[0], encoder.text_projection(states[end]))  # pyright: ignore[reportOptionalSubscript]


def test_the_framing_is_original_size_corner_and_size(folder):
    family = family_of(folder)
    found = family.framed(Condition(torch.zeros(1, 2, 3)), [Framing((640, 480), (80, 0), (512, 512))])
    assert found.time_ids.tolist() == [[640, 480, 80, 0, 512, 512]]  # pyright: ignore[reportOptionalMemberAccess]


def test_pictures_of_random_weights_are_no_single_color(setting):
    (image,) = images_of(setting(), [asked("a man", 1)])
    assert Image.fromarray(image).getextrema() != ((0, 0),) * 3
