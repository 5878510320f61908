"""FastComposer on Stable Diffusion XL: what holds on Stable Diffusion v1.5 holds there, too."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionXLPipeline,
)
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.condition import Framing
from fc_bench.model.families.diffusion import Diffusion
from fc_bench.model.fastcomposer.forward import FastComposer, TrainingBatch, resize_latent_masks
from fc_bench.model.fastcomposer.localization import attention_masks, map_sizes
from fc_bench.model.fastcomposer.pipeline import FastComposerXLPipeline, composing, load_fastcomposer
from fc_bench.model.fastcomposer.postfuse import PostfuseModule
from fc_bench.model.fastcomposer.prefixes import text_only_iterations
from fc_bench.model.fastcomposer.prompts import parse_prompt
from fc_bench.model.fastcomposer.references import reference_pixels
from fc_bench.model.fastcomposer.subject_attention import SubjectAttention

from ...golden.photomaker_models import FEATURES, VISION, filled, sdxl_parts

ONE = "a man <|image|> in the snow"
TWO = "a man <|image|> and a woman <|image|> on the beach"
STEPS = 5


def image_encoder(features: int = FEATURES) -> CLIPVisionModelWithProjection:
    return filled(CLIPVisionModelWithProjection(CLIPVisionConfig(**{**VISION, "projection_dim": features})), "vision")


def stock() -> StableDiffusionXLPipeline:
    pipeline = StableDiffusionXLPipeline(**sdxl_parts(), add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipeline() -> FastComposerXLPipeline:
    made = composing(stock(), image_encoder(), filled(PostfuseModule(features=FEATURES), "postfuse"))
    made.set_progress_bar_config(disable=True)
    return made


def pictures(*seeds: int) -> list[Image.Image]:
    return [Image.fromarray(np.random.RandomState(s).randint(0, 256, (40, 40, 3), np.uint8)) for s in seeds]


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


def images(pipeline: Any, *arguments: Any, **changes: Any) -> np.ndarray:
    size = {"height": 32, "width": 32}
    settings = {"num_inference_steps": STEPS, "guidance_scale": 3.0, "output_type": "np", **size}
    return pipeline(*arguments, **{**settings, **changes}).images


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal up to the rounding that the place of weights in memory decides."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_without_subjects_it_is_the_stock_pipeline(pipeline: FastComposerXLPipeline) -> None:
    plain = ["a man in the snow", "a woman on the beach"]
    for negative in (None, ["a red hat", ""]):
        expected = [
            images(stock(), text, negative_prompt=negative[i] or None if negative else None, generator=seeds(i))[0]
            for i, text in enumerate(plain)
        ]
        ours = images(pipeline, plain, negative_prompt=negative, generator=seeds(0, 1))
        close(ours, np.stack(expected))


def test_each_subject_arrives_at_its_own_noun(pipeline: FastComposerXLPipeline) -> None:
    first, second = pictures(0, 1)
    own = images(pipeline, TWO, [[first, second]], alpha=1.0, generator=seeds(3))
    swapped = images(pipeline, TWO, [[second, first]], alpha=1.0, generator=seeds(3))
    text = images(pipeline, TWO, generator=seeds(3))
    assert np.abs(own - swapped).max() > 1e-3
    assert np.abs(own - text).max() > 1e-3
    assert np.array_equal(text, images(pipeline, TWO, [[first, second]], alpha=0.0, generator=seeds(3)))


@pytest.mark.parametrize("scheduler", [EulerDiscreteScheduler, DPMSolverMultistepScheduler, PNDMScheduler])
def test_sampling_continues_from_a_prefix_to_the_same_images(
    scheduler: Any, pipeline: FastComposerXLPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    own: Any = scheduler.from_config(pipeline.scheduler.config)
    monkeypatch.setattr(pipeline, "scheduler", own)
    prompts, references = [ONE, "a woman <|image|> in the snow"], [pictures(0), pictures(1)]
    options: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": 3.0, "height": 32, "width": 48}
    negative = ["", "a red hat"]
    whole = images(pipeline, prompts, references, negative_prompt=negative, generator=seeds(1, 2), **options)
    count = text_only_iterations(0.7, STEPS, len(own.timesteps))
    for split in ([count], [1, count]):
        prefix = None
        for iterations in split:
            prefix = pipeline.text_only_prefix(
                ["a man in the snow", "a woman in the snow"],
                iterations,
                seeds(1, 2),
                negative_prompt=negative,
                earlier=prefix,
                **options,
            )
        continued = images(
            pipeline, prompts, references, negative_prompt=negative, generator=seeds(1, 2), prefix=prefix, **options
        )
        assert np.array_equal(whole, continued)


def test_watched_attention_changes_no_image_and_has_a_map_of_each_subject(pipeline: FastComposerXLPipeline) -> None:
    attention = SubjectAttention()
    watched = images(pipeline, TWO, [pictures(0, 1)], generator=seeds(1), subject_attention=attention)
    assert np.array_equal(watched, images(pipeline, TWO, [pictures(0, 1)], generator=seeds(1)))
    (maps,) = attention.maps()
    assert maps is not None
    assert maps.shape == (2, 8, 8)
    np.testing.assert_allclose(maps.sum((1, 2)), 1, rtol=1e-5)
    assert np.abs(maps[0] - maps[1]).max() > 1e-4


def test_only_the_fused_entries_of_the_condition_change(pipeline: FastComposerXLPipeline) -> None:
    parsed = parse_prompt(TWO, pipeline.tokenizer)
    text = pipeline.encode_text([parsed])
    fused = pipeline.fuse_subjects([parsed], text, [pictures(0, 1)])
    changed = (fused.text != text.text).any(2)[0].nonzero()[:, 0]
    assert changed.tolist() == list(parsed.image_tokens)
    assert fused.pooled is text.pooled


def test_saved_pipeline_gives_the_same_images_and_the_stock_one_its_text_only_row(
    pipeline: FastComposerXLPipeline, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path / "saved")
    expected = images(pipeline, ONE, [pictures(0)], generator=seeds(1))
    again = load_fastcomposer(tmp_path / "saved", tmp_path / "saved")
    assert isinstance(again, FastComposerXLPipeline)
    again.set_progress_bar_config(disable=True)
    close(images(again, ONE, [pictures(0)], generator=seeds(1)), expected)
    text = StableDiffusionXLPipeline.from_pretrained(tmp_path / "saved", add_watermarker=False)
    text.set_progress_bar_config(disable=True)
    plain = images(text, "a man in the snow", generator=seeds(1))
    close(plain, images(pipeline, ONE, generator=seeds(1)))


def test_trained_parts_over_a_base_are_read(pipeline: FastComposerXLPipeline, tmp_path: Path) -> None:
    stock().save_pretrained(tmp_path / "base")
    for part in ("unet", "image_encoder", "postfuse_module"):
        getattr(pipeline, part).save_pretrained(tmp_path / "trained" / part)
    loaded = load_fastcomposer(tmp_path / "base", tmp_path / "trained")
    loaded.set_progress_bar_config(disable=True)
    expected = images(pipeline, ONE, [pictures(0)], generator=seeds(1))
    close(images(loaded, ONE, [pictures(0)], generator=seeds(1)), expected)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelInputError, match=r"are a file, as published for Stable Diffusion v1\.x alone"):
        load_fastcomposer(tmp_path / "base", tmp_path / "pytorch_model.bin")


def test_autoencoder_may_have_a_number_format_of_its_own() -> None:
    parts = {
        name: part.bfloat16() if hasattr(part, "bfloat16") and name != "vae" else part
        for name, part in sdxl_parts().items()
    }
    made = composing(
        StableDiffusionXLPipeline(**parts, add_watermarker=False),
        image_encoder().bfloat16(),
        filled(PostfuseModule(features=FEATURES), "postfuse").bfloat16(),
    )
    made.set_progress_bar_config(disable=True)
    drawn = images(made, ONE, [pictures(0)], generator=seeds(1))
    assert np.isfinite(drawn).all()
    assert drawn.std() > 0


def test_a_saved_autoencoder_stays_in_float32_beside_models_in_float16(pipeline: Any, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "saved")
    loaded = load_fastcomposer(tmp_path / "saved", tmp_path / "saved", torch.float16)
    assert (loaded.unet.dtype, loaded.vae.dtype) == (torch.float16, torch.float32)


@pytest.mark.parametrize(("encoder", "fuse"), [(24, FEATURES), (FEATURES, 24), (24, 24)])
def test_parts_that_do_not_fit_are_refused(encoder: int, fuse: int) -> None:
    with pytest.raises(ModelInputError, match=f"{FEATURES} in the text, {encoder} in the image encoder"):
        composing(stock(), image_encoder(encoder), PostfuseModule(features=fuse))


@pytest.mark.parametrize(
    ("prompt", "references", "reason"),
    [
        ("a man <|image|> wearing a red hat in the city", [[pictures(0) * 20]], r"has \d+ tokens with one image token"),
        (ONE, [[[]]], "a subject without a reference picture"),
        (ONE, [[pictures(0), pictures(1)]], "1 placeholders"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(
    prompt: str, references: Any, reason: str, pipeline: FastComposerXLPipeline
) -> None:
    with pytest.raises(ModelInputError, match=reason) as error:
        pipeline(prompt, references)
    assert "\n" not in str(error.value)


def test_training_supervises_every_layer_and_each_group_counts_equally(pipeline: FastComposerXLPipeline) -> None:
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    unet: Any = deepcopy(pipeline.unet)
    model = FastComposer(
        pipeline.family,
        unet,
        deepcopy(pipeline.image_encoder),
        deepcopy(pipeline.postfuse_module),
        Diffusion(DDPMScheduler.from_config(pipeline.scheduler.config)),
        localization_weight=1.0,
    )
    parsed = parse_prompt(TWO, pipeline.tokenizer)
    condition = pipeline.family.framed(pipeline.encode_text([parsed]), [Framing.whole(32, 32)])
    masks = torch.zeros(1, 2, 32, 32)
    masks[:, 0, :, :16], masks[:, 1, :, 16:] = 1, 1
    batch = TrainingBatch(
        latents=latents,
        noise=latents.flip(3),
        timesteps=torch.tensor([500]),
        condition=condition,
        image_tokens=torch.tensor([parsed.image_tokens]),
        subject_mask=torch.ones(1, 2, dtype=torch.bool),
        references=torch.stack([reference_pixels(picture, VISION["image_size"]) for picture in pictures(0, 1)]),
        latent_masks=resize_latent_masks(masks, (16, 16)),
        attention_masks=attention_masks(masks, map_sizes(unet, model.localization_layers, (16, 16))),
        masked=torch.tensor([False]),
    )
    model.train_parts(1)
    losses = model(batch)
    losses.total.backward()
    assert len(model.localization_layers) == 2 + 3 + 3 + 2 * 3 + 2 * 2  # blocks times layers, from the first down block
    assert model.localization_average == "groups"
    assert torch.isfinite(losses.total)
    for part in (model.postfuse_module, model.image_encoder.vision_model.encoder.layers[-1], unet.mid_block):
        assert any(value.grad is not None and value.grad.abs().sum() > 0 for value in part.parameters())
