"""Computes the golden values with PhotoMaker's own code.

python -m tests.golden.photomaker.make CHECKOUT
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import sys
import types
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil

from tests.golden.photomaker_models import (
    FEATURES,
    FOLDER,
    TEXT_FEATURES,
    VISION,
    fuse_module_weights,
    photomaker_weights,
    sdxl_parts,
    weight,
)

PROMPTS = {
    "plain": "a man img in the snow",
    "comma": "a woman img, wearing a red hat",
    "last": "a painting of a man img",
    "split": "a firefighter img on the beach",
}
PHOTOGRAPHS = (1, 2, 3)
SAMPLING: dict[str, dict[str, Any]] = {
    "one": {"prompt": "plain", "photographs": 1, "start_merge_step": 2},
    "one_early": {"prompt": "plain", "photographs": 1, "start_merge_step": 0},
    "several": {"prompt": "comma", "photographs": 3, "start_merge_step": 1},
    "never": {"prompt": "plain", "photographs": 2, "start_merge_step": 6},
}
STEPS, GUIDANCE = 6, 5.0


def load_theirs(checkout: Path) -> tuple[Any, Any]:
    """The modules `photomaker.model` and `photomaker.pipeline`, without the package's imports of insightface."""
    package: Any = types.ModuleType("photomaker")
    package.__path__ = [str(checkout / "photomaker")]
    sys.modules["photomaker"] = package
    model = importlib.import_module("photomaker.model")
    package.PhotoMakerIDEncoder = model.PhotoMakerIDEncoder
    package.PhotoMakerIDEncoder_CLIPInsightfaceExtendtoken = None  # that of version 2
    return model, importlib.import_module("photomaker.pipeline")


def shrink(model: Any) -> None:
    """Give the encoder's constructor, which has the true sizes written in, the sizes of the tiny models."""
    model.VISION_CONFIG_DICT = VISION
    sizes = {1024: VISION["hidden_size"], 1280: TEXT_FEATURES[1]}
    linear, fuse = nn.Linear, model.FuseModule
    layers: Any = types.SimpleNamespace(**vars(nn))
    layers.Linear = lambda inputs, outputs, bias=True: linear(
        sizes.get(inputs, inputs), sizes.get(outputs, outputs), bias=bias
    )
    model.nn = layers
    model.FuseModule = lambda features: fuse(FEATURES if features == 2048 else features)


def pictures() -> list[Image.Image]:
    """Three pictures of different shapes."""
    shapes = ((40, 52, 3), (28, 28, 3), (61, 44, 3))
    return [
        Image.fromarray(np.random.RandomState(i).randint(0, 256, shape, np.uint8)) for i, shape in enumerate(shapes)
    ]


@torch.no_grad()
def main() -> None:
    """Compute all values and write them beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="a checkout of github.com/TencentARC/PhotoMaker")
    model, pipelines = load_theirs(parser.parse_args().checkout)
    tensors: dict[str, Tensor] = {}

    fuse = model.FuseModule(2048)
    fuse.load_state_dict(fuse_module_weights(2048))
    text, subjects = weight("text", (1, 4, 2048)), weight("subjects", (1, 2, 1, 2048))
    mask = torch.tensor([[False, True, True, False]])
    tensors["fuse.2048"] = fuse(text.clone(), subjects, mask)

    shrink(model)
    parts = sdxl_parts()
    shapes = {name: tuple(value.shape) for name, value in model.PhotoMakerIDEncoder().state_dict().items()}
    weights = photomaker_weights(parts["unet"], {n: s for n, s in shapes.items() if "position_ids" not in n})
    pipeline = pipelines.PhotoMakerStableDiffusionXLPipeline(**parts, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    with redirect_stdout(io.StringIO()):  # it prints the weights
        pipeline.load_photomaker_adapter(weights, weight_name="", pm_version="v1")
    # Since version 2 the loader expands the class token twice for every version, where the encoder of version 1 fails.
    pipeline.num_tokens = 1
    side = VISION["image_size"]
    pipeline.id_image_processor = CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )

    for index, picture in enumerate(pictures()):
        tensors[f"picture.{index}"] = torch.from_numpy(np.asarray(picture).copy())
        tensors[f"pixels.{index}"] = pipeline.id_image_processor([picture], return_tensors="pt").pixel_values[0]
    recorded: dict[str, Any] = {}

    def recording(module: nn.Module, name: str, key: str = "") -> Any:
        def keep(_: nn.Module, inputs: Any, keywords: Any, output: Any = None) -> None:
            recorded.setdefault(name, []).append(keywords[key] if key else inputs[0].clone())

        return module.register_forward_pre_hook(keep, with_kwargs=True)

    prompts: dict[str, Any] = {}
    for name, prompt in PROMPTS.items():
        for number in PHOTOGRAPHS:
            recorded.clear()
            hooks = [recording(parts[part], part) for part in ("text_encoder", "text_encoder_2")]
            encoded = pipeline.encode_prompt_with_trigger_word(prompt, num_id_images=number)
            for hook in hooks:
                hook.remove()
            prompts[f"{name}.{number}"] = {
                "prompt": prompt,
                "photographs": number,
                "input_ids": recorded["text_encoder"][0][0].tolist(),
                "input_ids_2": recorded["text_encoder_2"][0][0].tolist(),
                "class_tokens": encoded[4][0].nonzero()[:, 0].tolist(),
            }
            tensors[f"text.{name}.{number}"], tensors[f"pooled.{name}.{number}"] = encoded[0].clone(), encoded[2]
            pixels = torch.stack([tensors[f"pixels.{index}"] for index in range(number)])
            tensors[f"fused.{name}.{number}"] = pipeline.id_encoder(pixels[None], encoded[0], encoded[4])
    vision = pipeline.id_encoder
    pooled = vision.vision_model(torch.stack([tensors[f"pixels.{index}"] for index in range(3)]))[1]
    tensors["subjects"] = torch.cat([vision.visual_projection(pooled), vision.visual_projection_2(pooled)], dim=-1)

    tensors["latents"] = weight("latents", (1, 4, 16, 16)) * 8  # the scale divides by the square root of 4 x 16 x 16
    sampling: dict[str, Any] = {}
    texts: list[str] = []
    encode = pipeline.encode_prompt

    def encode_prompt(*arguments: Any, **keywords: Any) -> Any:
        texts.append(keywords["prompt"])
        return encode(*arguments, **keywords)

    pipeline.encode_prompt = encode_prompt
    for name, case in SAMPLING.items():
        recorded.clear()
        hook = recording(pipeline.unet, "conditions", "encoder_hidden_states")
        tensors[f"sample.{name}"] = pipeline(
            PROMPTS[case["prompt"]],
            input_id_images=pictures()[: case["photographs"]],
            start_merge_step=case["start_merge_step"],
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            latents=tensors["latents"].clone(),
            height=32,
            width=32,
            output_type="latent",
        ).images
        hook.remove()
        first = recorded["conditions"][0]
        sampling[name] = {
            **case,
            "text_only_prompt": texts[-1],
            "text_only_iterations": sum(torch.equal(own, first) for own in recorded["conditions"]),
        }
    settings = {"steps": STEPS, "guidance_scale": GUIDANCE, "shapes": shapes}
    expected = {**settings, "prompts": prompts, "sampling": sampling}
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
    save_file({name: value.contiguous() for name, value in tensors.items()}, FOLDER / "expected.safetensors")


if __name__ == "__main__":
    main()
