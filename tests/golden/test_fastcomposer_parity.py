"""FastComposer computes what its authors' implementation computed: every value recorded in `fastcomposer/`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, PNDMScheduler
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from fc_bench.model.families.condition import Condition
from fc_bench.model.families.diffusion import Diffusion
from fc_bench.model.fastcomposer.checkpoint import split_components
from fc_bench.model.fastcomposer.forward import FastComposer, TrainingBatch, resize_latent_masks
from fc_bench.model.fastcomposer.localization import (
    attention_masks,
    cross_attention_layers,
    localization_loss,
    map_sizes,
)
from fc_bench.model.fastcomposer.pipeline import FastComposerPipeline, load_fastcomposer
from fc_bench.model.fastcomposer.prompts import PLACEHOLDER, parse_prompt, plain_text
from fc_bench.model.fastcomposer.references import embed_references, reference_pixels
from fc_bench.model.stored_weights import read_checkpoint

FOLDER = Path(__file__).parent / "fastcomposer"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())
CASES: dict[str, Any] = EXPECTED["cases"]
SAMPLING_TOLERANCE = 1e-4
"""Relative to the latents' scale. Subjects change the tiny random model's images little: that they arrive where they
belong is what the test with swapped subjects shows."""
TRAINED = ("unet.", "postfuse_module.", "image_encoder.")


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


@pytest.fixture(scope="module")
def pipeline() -> FastComposerPipeline:
    pipeline = load_fastcomposer(FOLDER / "sd", FOLDER / "pytorch_model.bin", image_encoder=FOLDER / "clip")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def reference(tensors: dict[str, Tensor], index: int) -> Image.Image:
    return Image.fromarray(tensors[f"ref.{index}.uint8_hwc"].numpy())


def test_every_expected_case_is_covered() -> None:
    covered = {f"train.{case}" for case in TRAINING} | {"loc"} | {f"sample.{s}.{case}" for s, case in SAMPLING}
    assert set(CASES) == covered


@pytest.mark.parametrize("case", ["one", "two", "three", "none", "long", "split"])
def test_tokenization(case: str, tensors: dict[str, Tensor], pipeline: FastComposerPipeline) -> None:
    parsed = parse_prompt(EXPECTED["captions"][case], pipeline.tokenizer, truncate=True)
    assert parsed.input_ids.tolist() == tensors[f"tok.{case}.input_ids"][0].tolist()
    assert parsed.image_token_mask.tolist() == tensors[f"tok.{case}.image_token_mask"][0].bool().tolist()


@pytest.mark.parametrize("index", [0, 1, 2])
def test_reference_preprocessing(index: int, tensors: dict[str, Tensor]) -> None:
    close(reference_pixels(reference(tensors, index), 32), tensors[f"ref.{index}.pixel_values"])


@torch.no_grad()
def test_image_encoder(tensors: dict[str, Tensor], pipeline: FastComposerPipeline) -> None:
    same_size = torch.stack([tensors[f"ref.{index}.pixel_values"] for index in range(3)])
    close(embed_references(pipeline.image_encoder, same_size), tensors["image_encoder.same_size"][0, :, 0])
    larger = tensors["image_encoder.big_in"][0]
    close(embed_references(pipeline.image_encoder, larger), tensors["image_encoder.big_out"][0, :, 0])


@pytest.mark.parametrize("case", ["one", "two", "three", "none"])
def test_text_and_fused_embeddings(case: str, tensors: dict[str, Tensor], pipeline: FastComposerPipeline) -> None:
    parsed = parse_prompt(EXPECTED["captions"][case], pipeline.tokenizer)
    text = pipeline.encode_text([parsed])
    close(text.text, tensors[f"text.{case}"])
    pictures = [reference(tensors, index) for index in range(len(parsed.image_tokens))]
    close(pipeline.fuse_subjects([parsed], text, [pictures]).text, tensors[f"fused.{case}"])


TRAINING = ["plain", "masked", "strong_localization", "all_layers", "middle_three"]


@pytest.mark.parametrize("case", TRAINING)
def test_training_losses_and_gradients(case: str, tensors: dict[str, Tensor]) -> None:
    expected = CASES[f"train.{case}"]
    pipeline = load_fastcomposer(FOLDER / "sd", FOLDER / "pytorch_model.bin", image_encoder=FOLDER / "clip")
    model = FastComposer(
        pipeline.family,
        pipeline.unet,
        pipeline.image_encoder,
        pipeline.postfuse_module,
        Diffusion(DDPMScheduler.from_config(pipeline.scheduler.config)),
        localization_weight=expected["localization_weight"],
        localization_groups=expected["localization_layers"],
    )
    model.train_parts("all")
    masks: list[Tensor] = []
    model.postfuse_module.register_forward_pre_hook(lambda _module, arguments: masks.append(arguments[1]))
    losses = model(training_batch(tensors, pipeline, expected["mask_loss"]))
    losses.total.backward()
    assert losses.denoising.item() == pytest.approx(expected["denoise_loss"], abs=1e-5)
    assert losses.localization.item() == pytest.approx(expected["localization_loss"], rel=1e-4)
    assert losses.total.item() == pytest.approx(expected["loss"], abs=1e-5)
    compared = 0
    for module, norm in expected["grad_norm"].items():
        if module.startswith(TRAINED):
            gradients = [p.grad for p in model.get_submodule(module).parameters() if p.grad is not None]
            actual = torch.stack([gradient.norm() for gradient in gradients]).norm()
            assert actual.item() == pytest.approx(norm, rel=1e-4), module
            compared += 1
    assert compared == 12
    assert torch.equal(masks[0], tensors["train.batch.image_token_mask"].bool())


def test_published_layout_is_the_models(pipeline: FastComposerPipeline) -> None:
    published = split_components({name: torch.zeros(shape) for name, shape in EXPECTED["state_dict_keys"].items()})
    for component, weights in published.items():
        ours = getattr(pipeline, component).state_dict()
        assert {name: value.shape for name, value in weights.items()} == {n: v.shape for n, v in ours.items()}
    stored = read_checkpoint(FOLDER / "pytorch_model.bin")
    assert {name: list(value.shape) for name, value in stored.items()} == EXPECTED["state_dict_keys"]


def training_batch(tensors: dict[str, Tensor], pipeline: FastComposerPipeline, masked: bool) -> TrainingBatch:
    """The recorded training batch, encoded by the frozen models."""
    batch = {
        key.removeprefix("train.batch."): value for key, value in tensors.items() if key.startswith("train.batch.")
    }
    subject_mask = torch.arange(4)[None] < batch["num_objects"][:, None]
    assert torch.equal(subject_mask, batch["image_token_idx_mask"].bool())
    with torch.no_grad():
        posterior = pipeline.vae.encode(batch["pixel_values"]).latent_dist
        text = pipeline.text_encoder(batch["input_ids"]).last_hidden_state
    latents = (posterior.mean + posterior.std * tensors["train.vae_eps"]) * pipeline.vae.config.scaling_factor
    layers = cross_attention_layers(pipeline.unet, 7)
    return TrainingBatch(
        latents=latents,
        noise=tensors["train.noise"],
        timesteps=tensors["train.timesteps"],
        condition=Condition(text),
        image_tokens=batch["image_token_idx"],
        subject_mask=subject_mask,
        references=batch["object_pixel_values"][subject_mask],
        latent_masks=resize_latent_masks(batch["object_segmaps"], (16, 16)),
        attention_masks=attention_masks(batch["object_segmaps"], map_sizes(pipeline.unet, layers, (16, 16))),
        masked=torch.full((len(latents),), masked),
    )


@pytest.mark.parametrize("normalize", [False, True])
def test_localization_loss(normalize: bool, tensors: dict[str, Tensor]) -> None:
    tokens, present = tensors["loc.token_idx"], tensors["loc.token_mask"].bool()
    attention = tensors["loc.attn"].unflatten(0, (len(tokens), -1))
    columns = attention.gather(3, tokens[:, None, None].expand(*attention.shape[:3], tokens.shape[1]))
    masks = attention_masks(tensors["loc.segmaps"], {(8, 8)})
    loss = localization_loss([columns], masks, present, normalize)
    assert loss.item() == pytest.approx(CASES["loc"][str(normalize)], rel=1e-4)


SCHEDULERS = {
    "pndm": lambda config: PNDMScheduler.from_config(config),
    "ddim": lambda config: DDIMScheduler.from_config(config, clip_sample=False),
    "euler": lambda config: EulerDiscreteScheduler.from_config(config),
}
SAMPLING = [(scheduler, case) for scheduler in SCHEDULERS for case in ("one", "two", "two_full")]


def sample(
    name: str, pictures: list[Image.Image], tensors: dict[str, Tensor], pipeline: FastComposerPipeline
) -> tuple[Tensor, np.ndarray]:
    """Latents and images of a recorded case with these references."""
    settings = CASES[name]
    pipeline.scheduler = SCHEDULERS[name.split(".")[1]](pipeline.scheduler.config)
    prompt = settings["prompt"].replace(" img", f" {PLACEHOLDER}")
    assert plain_text(prompt) == settings["prompt"].replace(" img", "")
    steps: list[Tensor] = []

    def keep(_pipeline: Any, _step: int, _timestep: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
        steps.append(state["latents"])
        return {}

    images = pipeline(
        prompt,
        [pictures],
        alpha=settings["alpha"],
        guidance_scale=settings["guidance_scale"],
        num_inference_steps=settings["num_inference_steps"],
        num_images_per_prompt=settings["num_images_per_prompt"],
        latents=tensors["sample.latents"],
        output_type="np",
        callback_on_step_end=keep,
    ).images
    return steps[-1], images


@pytest.mark.parametrize(("scheduler", "case"), SAMPLING)
def test_sampling(scheduler: str, case: str, tensors: dict[str, Tensor], pipeline: FastComposerPipeline) -> None:
    name = f"sample.{scheduler}.{case}"
    pictures = [reference(tensors, index) for index in range(CASES[name]["num_references"])]
    latents, images = sample(name, pictures, tensors, pipeline)
    expected = tensors[f"{name}.latents"]
    close(latents, expected, tolerance=SAMPLING_TOLERANCE * expected.abs().max().item())
    np.testing.assert_allclose(images, tensors[f"{name}.images"].numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("scheduler", "case"), [(s, case) for s, case in SAMPLING if case != "one"])
def test_sampling_tells_swapped_subjects_apart(
    scheduler: str, case: str, tensors: dict[str, Tensor], pipeline: FastComposerPipeline
) -> None:
    name = f"sample.{scheduler}.{case}"
    first, second = reference(tensors, 0), reference(tensors, 1)
    expected = tensors[f"{name}.latents"]
    ours = (sample(name, [first, second], tensors, pipeline)[0] - expected).abs().max()
    swapped = (sample(name, [second, first], tensors, pipeline)[0] - expected).abs().max()
    assert swapped > (100 if case == "two_full" else 5) * ours  # the others see their subjects in few steps
