"""Properties of the pipeline: what its images depend on and what they do not."""

import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from PIL import Image
from safetensors.torch import load_file, save_file

from fc_bench.model.errors import ModelInputError
from fc_bench.model.fastcomposer.pipeline import FastComposerPipeline, load_fastcomposer
from fc_bench.model.fastcomposer.postfuse import PostfuseModule

from ..conftest import GOLDEN

TWO = "a man <|image|> and a woman <|image|> on the beach"
ONE = "a man <|image|> in the snow"
BATCH_TOLERANCE = 1e-5
"""Of pixels in 0..1: matrix products of other sizes sum in another order. Swapping two subjects changes 3e-4."""


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


def images(pipeline: StableDiffusionPipeline, *args: object, **kwargs: object) -> np.ndarray:
    return pipeline(*args, num_inference_steps=10, output_type="np", **kwargs).images


def test_alpha_zero_equals_text_only(pipeline: FastComposerPipeline, faces: list[Image.Image]) -> None:
    with_subjects = images(pipeline, TWO, [faces[:2]], alpha=0, generator=seeds(1))
    text_only = images(pipeline, TWO, generator=seeds(1))
    plain = images(pipeline, "a man and a woman on the beach", generator=seeds(1))
    np.testing.assert_array_equal(with_subjects, text_only)
    np.testing.assert_array_equal(plain, text_only)


def test_subjects_change_the_image_and_each_counts(pipeline: FastComposerPipeline, faces: list[Image.Image]) -> None:
    text_only = images(pipeline, TWO, generator=seeds(1))
    both = images(pipeline, TWO, [[faces[0], faces[1]]], alpha=1, generator=seeds(1))
    swapped = images(pipeline, TWO, [[faces[1], faces[0]]], alpha=1, generator=seeds(1))
    assert np.abs(both - text_only).max() > 100 * BATCH_TOLERANCE
    assert np.abs(both - swapped).max() > 10 * BATCH_TOLERANCE


def test_image_does_not_depend_on_its_batch(pipeline: FastComposerPipeline, faces: list[Image.Image]) -> None:
    prompts = [TWO, ONE, "a painting of a man in the jungle"]
    subjects = [faces[:2], faces[2:3], []]
    together = images(pipeline, prompts, subjects, alpha=0.8, generator=seeds(4, 5, 6))
    for index, prompt in enumerate(prompts):
        alone = images(pipeline, prompt, [subjects[index]], alpha=0.8, generator=seeds(4 + index))
        np.testing.assert_allclose(together[index], alone[0], rtol=0, atol=BATCH_TOLERANCE)


def test_several_images_of_a_prompt_are_those_of_their_generators(
    pipeline: FastComposerPipeline, faces: list[Image.Image]
) -> None:
    pair = images(pipeline, ONE, [faces[:1]], num_images_per_prompt=2, generator=seeds(1, 2))
    second = images(pipeline, ONE, [faces[:1]], generator=seeds(2))
    np.testing.assert_allclose(pair[1], second[0], rtol=0, atol=BATCH_TOLERANCE)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_up_to_four_subjects(count: int, pipeline: FastComposerPipeline, faces: list[Image.Image]) -> None:
    prompt = " and ".join(["a man <|image|>"] * count)
    made = pipeline(prompt, [faces[:count]], num_inference_steps=1, generator=seeds(0), output_type="np").images
    assert made.shape == (1, 32, 32, 3)
    assert np.isfinite(made).all()


@pytest.mark.parametrize(
    ("alpha", "text_only_steps"), [(0.5, 26), (0.6, 21), (0.7, 16), (0.8, 10), (1.0, 1), (0.0, 51)]
)
def test_conditioning_is_delayed_as_published(
    alpha: float, text_only_steps: int, pipeline: FastComposerPipeline, faces: list[Image.Image]
) -> None:
    used: list[torch.Tensor] = []
    hook = pipeline.unet.register_forward_pre_hook(
        lambda _module, _args, kwargs: used.append(kwargs["encoder_hidden_states"].clone()), with_kwargs=True
    )
    try:
        pipeline(ONE, [faces[:1]], alpha=alpha, num_inference_steps=50, generator=seeds(0), output_type="latent")
    finally:
        hook.remove()
    assert len(used) == 51  # PNDM's iterations
    same_as_first = [torch.equal(embeds, used[0]) for embeds in used]
    assert same_as_first == [True] * text_only_steps + [False] * (51 - text_only_steps)
    assert all(torch.equal(embeds[0], used[0][0]) for embeds in used)  # the unconditional branch stays


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    "scheduler",
    [PNDMScheduler, DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler],
)
def test_every_scheduler_samples(
    scheduler: type, prediction: str, pipeline: FastComposerPipeline, faces: list[Image.Image]
) -> None:
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, prediction_type=prediction, clip_sample=False)
    made = pipeline(ONE, [faces[:1]], num_inference_steps=5, generator=seeds(0), output_type="np").images
    assert np.isfinite(made).all()
    assert made.std() > 0


def test_without_guidance(pipeline: FastComposerPipeline, faces: list[Image.Image]) -> None:
    guided = images(pipeline, ONE, [faces[:1]], guidance_scale=3.0, generator=seeds(0))
    unguided = images(pipeline, ONE, [faces[:1]], guidance_scale=1.0, generator=seeds(0))
    assert np.abs(guided - unguided).max() > 0.01


def test_saved_pipeline_makes_the_same_images(
    pipeline: FastComposerPipeline, faces: list[Image.Image], tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path / "saved")
    loaded = load_fastcomposer(GOLDEN / "sd", tmp_path / "saved")
    assert isinstance(loaded, FastComposerPipeline)
    expected = images(pipeline, TWO, [faces[:2]], alpha=1, generator=seeds(1))
    np.testing.assert_array_equal(images(loaded, TWO, [faces[:2]], alpha=1, generator=seeds(1)), expected)
    overlay = tmp_path / "overlay"
    for part in ("unet", "image_encoder", "postfuse_module"):
        getattr(pipeline, part).save_pretrained(overlay / part)
    half = load_fastcomposer(tmp_path / "saved", overlay)
    np.testing.assert_array_equal(images(half, TWO, [faces[:2]], alpha=1, generator=seeds(1)), expected)


def test_stock_pipeline_loads_the_saved_folder_as_text_only(pipeline: FastComposerPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "saved")
    stock = StableDiffusionPipeline.from_pretrained(tmp_path / "saved")
    stock.set_progress_bar_config(disable=True)
    expected = images(stock, "a man in the snow", guidance_scale=5.0, generator=seeds(1))
    np.testing.assert_array_equal(images(pipeline, ONE, generator=seeds(1)), expected)


def test_half_precision(pipeline: FastComposerPipeline, faces: list[Image.Image], tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "saved")
    half = load_fastcomposer(GOLDEN / "sd", tmp_path / "saved", torch_dtype=torch.bfloat16)
    assert {part.dtype for part in (half.unet, half.vae, half.image_encoder, half.postfuse_module)} == {torch.bfloat16}
    made = half(ONE, [faces[:1]], num_inference_steps=2, generator=seeds(0), output_type="np").images
    assert np.isfinite(made).all()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"subject_images": [[]]}, "1 placeholders"),
        ({"subject_images": [[Image.new("RGB", (32, 32))] * 2]}, "2 reference pictures"),
        ({"subject_images": [Image.new("RGB", (32, 32))]}, "list of 1 lists"),
        ({"subject_images": [[], []]}, "list of 1 lists"),
        ({"subject_images": [[Image.new("RGB", (8, 8))]]}, "8 x 8"),
        ({"alpha": 1.5}, "from 0 to 1"),
        ({"generator": [torch.Generator(), torch.Generator()]}, "2 generators"),
        ({"height": 33}, "height is 33"),
        ({"negative_prompt": ["ugly", "blurry"]}, "2 negative prompts"),
        ({"negative_prompt": "a man " * 20}, "shorten it"),
        ({"prompt": []}, "no prompt"),
    ],
)
def test_unusable_request_is_one_sentence(
    arguments: dict[str, object], reason: str, pipeline: FastComposerPipeline
) -> None:
    with pytest.raises(ModelInputError, match=reason) as error:
        pipeline(**{"prompt": ONE, "num_inference_steps": 1, **arguments})
    assert "\n" not in str(error.value)


def test_folder_without_weights_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelInputError, match="has no FastComposer weights"):
        load_fastcomposer(GOLDEN / "sd", tmp_path)


TOKENIZER = ["tokenizer", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"]


@pytest.mark.parametrize("lost", ["unet", "postfuse_module/diffusion_pytorch_model.safetensors", *TOKENIZER])
def test_incomplete_folder_is_one_sentence(lost: str, pipeline: FastComposerPipeline, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    pipeline.save_pretrained(saved)
    shutil.rmtree(saved / lost) if (saved / lost).is_dir() else (saved / lost).unlink()
    with pytest.raises(ModelInputError, match=r"check that its folder is complete|restore") as error:
        load_fastcomposer(GOLDEN / "sd", saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("fault", ["missing", "unexpected"])
@pytest.mark.parametrize("part", ["unet", "postfuse_module", "image_encoder"])
def test_lost_or_foreign_weights_are_one_sentence(
    part: str, fault: str, complete: bool, pipeline: FastComposerPipeline, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    pipeline.save_pretrained(saved)
    base = GOLDEN / "sd"
    if not complete:
        (saved / "model_index.json").unlink()
    file = next((saved / part).glob("*.safetensors"))
    state = load_file(file)
    if fault == "missing":
        del state[sorted(state)[0]]
    else:
        state["nose.weight"] = torch.zeros(1)
    save_file(state, file, metadata={"format": "pt"})
    if part == "image_encoder" and fault == "unexpected":  # the text tower of a whole CLIPModel is
        load_fastcomposer(base, saved)
        return
    with pytest.raises(ModelInputError, match=f"{part}.* 1 weights") as error:
        load_fastcomposer(base, saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["postfuse_module", "image_encoder", "unet"])
def test_parts_of_other_widths_are_one_sentence(part: str, pipeline: FastComposerPipeline, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    for name in ("unet", "image_encoder", "postfuse_module"):
        getattr(pipeline, name).save_pretrained(overlay / name)
    config: Any = deepcopy(pipeline.image_encoder.config)
    config.projection_dim = 24
    others: dict[str, Callable[[], Any]] = {
        "postfuse_module": lambda: PostfuseModule(features=24),
        "image_encoder": lambda: type(pipeline.image_encoder)(config),
        "unet": lambda: type(pipeline.unet).from_config({**pipeline.unet.config, "cross_attention_dim": 24}),
    }
    others[part]().save_pretrained(overlay / part)
    with pytest.raises(ModelInputError, match="are for text of 24 features in place of 16") as error:
        load_fastcomposer(GOLDEN / "sd", overlay)
    assert "\n" not in str(error.value)


def test_stock_pipeline_becomes_fastcomposer(pipeline: FastComposerPipeline, faces: list[Image.Image]) -> None:
    stock = StableDiffusionPipeline.from_pretrained(
        GOLDEN / "sd", unet=pipeline.unet, text_encoder=pipeline.text_encoder, vae=pipeline.vae
    )
    made = FastComposerPipeline.from_pipe(
        stock, image_encoder=pipeline.image_encoder, postfuse_module=pipeline.postfuse_module
    )
    made.set_progress_bar_config(disable=True)
    expected = images(pipeline, ONE, [faces[:1]], generator=seeds(1))
    np.testing.assert_array_equal(images(made, ONE, [faces[:1]], generator=seeds(1)), expected)
