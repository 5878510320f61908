"""Prepared pipelines: folders that libraries can load, made from pipelines in one file or only in half precision.

They are created once, in the user's cache. They can be deleted there, and the next use creates them again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fc_bench.model.backbones.layouts import is_single_file, variant_files
from fc_bench.model.errors import ModelInputError, loading
from fc_bench.model.user_cache import made_once, writing_to_cache

log = logging.getLogger(__name__)
PARTS = ("unet", "vae", "text_encoder", "scheduler", "tokenizer", "image_encoder", "postfuse_module")
"""Parts of an architecture; its folder has a JSON configuration for each."""
KIND = "pipelines"
"""Name of the folder in the cache."""
FORMAT = 1
"""Version of the written files; another version is written again."""


def read_configurations(folder: Path) -> dict[str, dict[str, Any]]:
    """The configuration of each of `PARTS`; raises ModelInputError when one cannot be read."""
    found = {}
    for part in PARTS:
        try:
            found[part] = json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelInputError(
                f"The configuration {folder / part}.json cannot be read ({error}); restore it."
            ) from None
    return found


def prepared_pipeline(
    path: Path, architecture: Mapping[str, Mapping[str, Any]] | None, tokenizer: Callable[[], Path]
) -> Path:
    """A diffusers folder of the pipeline at `path`: the folder itself, or one in the cache that is made from it.

    A single file also needs the `architecture` (see `read_configurations`) and a tokenizer's folder, which it does not
    contain. Raises ModelInputError when the file does not fit the architecture or the cache cannot be written.
    """
    if is_single_file(path):
        if architecture is None:
            raise ModelInputError(
                f"The pipeline {path} is a single file, which does not describe its architecture; add `extends: sd15` "
                "to the backbone's file, or name a folder of configurations (`architecture:`)."
            )
        words = tokenizer()
        inputs = [FORMAT, *_state(path), architecture, str(words)]
        return _prepare(path.stem, inputs, lambda part: _convert(path, architecture, words, part))
    variants = variant_files(path)
    if not variants:
        return path
    inputs = [FORMAT, str(path), *(item for file in variants.values() for item in _state(file))]
    return _prepare(path.name, inputs, lambda part: _link(path, variants, part))


def _state(file: Path) -> tuple[str, int, int]:
    state = file.stat()
    return str(file.resolve()), state.st_size, state.st_mtime_ns


def _prepare(stem: str, inputs: Any, make: Callable[[Path], None]) -> Path:
    with writing_to_cache(KIND, f"The pipeline {stem} cannot be prepared in"):
        return made_once(KIND, stem, inputs, make)


def _convert(file: Path, architecture: Mapping[str, Mapping[str, Any]], tokenizer: Path, output: Path) -> None:
    """Write a single file as a pipeline folder; each model keeps the number format that it has in the file."""
    import diffusers
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import (
        convert_ldm_clip_checkpoint,
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from fc_bench.model.fastcomposer.prompts import check_tokenizer
    from fc_bench.model.stored_weights import load_strictly, read_checkpoint

    log.info("converting %s", file)
    state = {name: weight[...] for name, weight in read_checkpoint(file).items()}
    with loading(f"the tokenizer {tokenizer}"):
        words = CLIPTokenizer.from_pretrained(tokenizer)
    configs = {name: dict(config) for name, config in architecture.items()}
    what = f"the pipeline {file}"
    advice = "name a checkpoint of that architecture with UNet, autoencoder and text encoder"
    try:
        text = {
            key.removeprefix("text_model."): value
            for key, value in convert_ldm_clip_checkpoint(state).items()
            if not key.endswith("position_ids")
        }
        weights = {
            "unet": convert_ldm_unet_checkpoint(dict(state), config=configs["unet"]),
            "vae": convert_ldm_vae_checkpoint(dict(state), configs["vae"]),
            "text_encoder": text,
        }
    except (LookupError, ValueError, AttributeError) as error:
        raise ModelInputError(f"{what} is not a checkpoint of Stable Diffusion v1.x ({error}): {advice}") from None
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        models: dict[str, Any] = {
            "unet": UNet2DConditionModel.from_config(configs["unet"]),
            "vae": AutoencoderKL.from_config(configs["vae"]),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**configs["text_encoder"])),
        }
    for name, model in models.items():
        if not weights[name]:
            raise ModelInputError(f"{what} has no {name.replace('_', ' ')}: {advice}")
        dtype = next(iter(weights[name].values())).dtype
        load_strictly(model, weights[name], dtype, f"{what}, {name}", advice)
    check_tokenizer(words, models["text_encoder"])
    absent: Any = None
    StableDiffusionPipeline(
        vae=models["vae"],
        text_encoder=models["text_encoder"],
        tokenizer=words,
        unet=models["unet"],
        scheduler=getattr(diffusers, configs["scheduler"]["_class_name"]).from_config(configs["scheduler"]),
        safety_checker=absent,
        feature_extractor=absent,
        requires_safety_checker=False,
    ).save_pretrained(output)


def _link(folder: Path, variants: Mapping[str, Path], output: Path) -> None:
    """Link the folder's files into `output`, with the variants under the names that libraries look for first."""
    for file in folder.rglob("*"):
        if file.is_file():
            place = output / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(file.resolve(), place)
    for name, file in variants.items():
        os.symlink(file.resolve(), output / name)
        (output / file.relative_to(folder)).unlink()
