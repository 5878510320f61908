"""Our modules compute what PhotoMaker v1's own code computed: every value recorded in `photomaker/`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from fc_bench.model.fastcomposer.photomaker import (
    PhotoMaker,
    alpha_of,
    photomaker_shapes,
    read_photomaker,
    with_photomaker,
)
from fc_bench.model.fastcomposer.pipeline import FastComposerXLPipeline
from fc_bench.model.fastcomposer.postfuse import PostfuseModule
from fc_bench.model.fastcomposer.prompts import PLACEHOLDER, parse_prompt
from fc_bench.model.fastcomposer.references import cropped_pixels, embed_references, normalize

from .photomaker_models import (
    FEATURES,
    FOLDER,
    LORA_RANK,
    TEXT_FEATURES,
    VISION,
    fuse_module_weights,
    id_encoder_shapes,
    photomaker_weights,
    sdxl_parts,
    weight,
)

EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())
PROMPTS: dict[str, Any] = EXPECTED["prompts"]


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny `photomaker-v1.bin`."""
    path = tmp_path_factory.mktemp("photomaker") / "photomaker-v1.bin"
    torch.save(photomaker_weights(sdxl_parts()["unet"], EXPECTED["shapes"]), path)
    return path


@pytest.fixture(scope="module")
def photomaker(file: Path) -> PhotoMaker:
    return read_photomaker(file)


@pytest.fixture(scope="module")
def pipeline(file: Path) -> FastComposerXLPipeline:
    from diffusers import StableDiffusionXLPipeline

    pipeline = with_photomaker(StableDiffusionXLPipeline(**sdxl_parts(), add_watermarker=False), file)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ours(prompt: str) -> str:
    """A prompt with our placeholder for their trigger word."""
    return prompt.replace(" img", f" {PLACEHOLDER}")


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def photograph(tensors: dict[str, Tensor], index: int) -> Image.Image:
    return Image.fromarray(tensors[f"picture.{index}"].numpy())


@torch.no_grad()
def test_postfuse_module_of_the_true_size_is_their_fuse_module(tensors: dict[str, Tensor]) -> None:
    ours = PostfuseModule(features=2048)
    ours.load_state_dict(fuse_module_weights(2048), strict=True)
    mask = torch.tensor([[False, True, True, False]])
    close(ours(weight("text", (1, 4, 2048)), mask, weight("subjects", (1, 2, 1, 2048))[0, :, 0]), tensors["fuse.2048"])


@pytest.mark.parametrize("index", [0, 1, 2])
def test_photograph_preprocessing(index: int, tensors: dict[str, Tensor]) -> None:
    pixels = normalize(cropped_pixels(photograph(tensors, index), 28)[None])[0]
    close(pixels, tensors[f"pixels.{index}"])


@torch.no_grad()
def test_both_projections_are_rows_of_one(tensors: dict[str, Tensor], photomaker: PhotoMaker) -> None:
    pixels = torch.stack([cropped_pixels(photograph(tensors, index), 28) for index in range(3)])
    subjects = embed_references(photomaker.image_encoder, pixels)
    assert subjects.shape == (3, FEATURES) == (3, photomaker.image_encoder.config.projection_dim)
    close(subjects, tensors["subjects"])


@torch.no_grad()
@pytest.mark.parametrize("case", PROMPTS)
def test_stacked_embeddings_of_one_and_several_photographs(
    case: str, tensors: dict[str, Tensor], photomaker: PhotoMaker
) -> None:
    mask = torch.zeros(1, tensors[f"text.{case}"].shape[1], dtype=torch.bool)
    mask[0, PROMPTS[case]["class_tokens"]] = True
    subjects = tensors["subjects"][: PROMPTS[case]["photographs"]]
    close(photomaker.postfuse_module(tensors[f"text.{case}"], mask, subjects), tensors[f"fused.{case}"])
    assert (tensors[f"fused.{case}"] - tensors[f"text.{case}"]).abs().amax(2)[mask].min() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("case", PROMPTS)
def test_prompt_with_a_class_token_for_each_photograph(
    case: str, tensors: dict[str, Tensor], pipeline: FastComposerXLPipeline
) -> None:
    expected = PROMPTS[case]
    parsed = parse_prompt(ours(expected["prompt"]), pipeline.tokenizer)
    stacked = parsed.stacked([expected["photographs"]], pipeline.tokenizer)
    assert stacked.padded_for(pipeline.tokenizer).tolist() == expected["input_ids"]
    assert stacked.padded_for(pipeline.tokenizer_2).tolist() == expected["input_ids_2"]
    assert list(stacked.image_tokens) == expected["class_tokens"]
    condition = pipeline.encode_text([stacked])
    assert condition.pooled is not None
    close(condition.text, tensors[f"text.{case}"])
    close(condition.pooled, tensors[f"pooled.{case}"])
    pictures = [photograph(tensors, index) for index in range(expected["photographs"])]
    close(pipeline.fuse_subjects([stacked], condition, [[pictures]]).text, tensors[f"fused.{case}"])


@pytest.mark.parametrize("case", EXPECTED["sampling"])
def test_sampling_with_the_lora_and_the_delayed_switch(
    case: str, tensors: dict[str, Tensor], pipeline: FastComposerXLPipeline
) -> None:
    settings = EXPECTED["sampling"][case]
    prompt = PROMPTS[f"{settings['prompt']}.1"]["prompt"]
    pictures = [photograph(tensors, index) for index in range(settings["photographs"])]
    latents = pipeline(
        ours(prompt),
        [[pictures]],
        alpha=alpha_of(settings["start_merge_step"], EXPECTED["steps"]),
        num_inference_steps=EXPECTED["steps"],
        guidance_scale=EXPECTED["guidance_scale"],
        latents=tensors["latents"].clone(),
        height=32,
        width=32,
        output_type="latent",
    ).images
    expected = tensors[f"sample.{case}"]
    close(latents, expected, tolerance=1e-4 * expected.abs().max().item())


def test_random_weights_have_the_published_names_and_shapes() -> None:
    unet = sdxl_parts()["unet"]
    vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**{**VISION, "projection_dim": FEATURES}))
    published = photomaker_weights(unet, id_encoder_shapes(*TEXT_FEATURES))
    shapes = photomaker_shapes(vision, PostfuseModule(features=FEATURES), unet, TEXT_FEATURES, LORA_RANK)
    assert shapes == {f"{part}.{name}": tuple(own.shape) for part in published for name, own in published[part].items()}
