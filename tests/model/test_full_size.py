"""Stable Diffusion v1.5 and FastComposer at their true size, random weights in the forms in which they are published.

About 17 GB of disk for as long as it takes, 9 GiB of memory and some minutes of two processor cores.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from .original_layout import place_upsamplers, single_file_state, write_single_file

pytestmark = pytest.mark.slow


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is gone when the test is, the cache in it."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("FC_BENCH_CACHE", f"{folder}/cache")
        yield Path(folder)


def image(pipeline: Path, checkpoint: Path) -> np.ndarray:
    """Pixels of an image of one subject after three steps at 512 x 512, in bfloat16."""
    from PIL import Image

    from fc_bench.model.fastcomposer.pipeline import load_fastcomposer

    loaded = load_fastcomposer(pipeline, checkpoint, torch.bfloat16)
    loaded.set_progress_bar_config(disable=True)
    result: Any = loaded(
        "a photo of a man <|image|>",
        [[Image.new("RGB", (300, 400), "red")]],
        num_inference_steps=2,
        guidance_scale=1.0,
        height=512,
        width=512,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    )
    return result.images[0]


def test_every_published_form_loads_and_generates_the_same_image(room: Path) -> None:
    from diffusers import StableDiffusionPipeline

    from fc_bench.model.backbones.backbone import read_backbone
    from fc_bench.model.backbones.random_weights import with_random_weights
    from fc_bench.model.fastcomposer.postfuse import PostfuseModule
    from fc_bench.model.fastcomposer.references import load_image_encoder
    from fc_bench.model.stored_weights import load_whole

    random = read_backbone(str(with_random_weights(read_backbone("sd15"), "float16")))
    folder, overlay = random.path("pipeline"), random.path("fastcomposer/published")
    base: Any = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float16)

    # One file in half precision, as v1-5-pruned-emaonly-fp16.safetensors; the tokenizer comes from a CLIP folder.
    state = place_upsamplers(single_file_state(base.unet, base.vae, base.text_encoder))
    single = write_single_file(state, room / "v1-5-fp16.safetensors", torch.float16)
    del state
    clip = room / "clip"
    shutil.copytree(folder / "tokenizer", clip)
    (clip / "config.json").write_text("{}")
    (clip / "model.safetensors").write_bytes(b"")

    # The published checkpoint: one .bin in single precision.
    parts = {
        "unet": base.unet,
        "vae": base.vae,
        "text_encoder": base.text_encoder,
        "image_encoder": load_image_encoder(overlay / "image_encoder", torch.float16),
        "postfuse_module": load_whole(PostfuseModule, overlay / "postfuse_module", torch.float16),
    }
    published = room / "pytorch_model.bin"
    whole = {f"{name}.{key}": x.float() for name, part in parts.items() for key, x in part.state_dict().items()}
    assert sum(value.numel() for value in whole.values()) == pytest.approx(1.373e9, rel=1e-3)
    torch.save(whole, published)
    del whole, parts

    # A folder in single precision, in shards.
    sharded = room / "sharded"
    deepcopy(base).to(dtype=torch.float32).save_pretrained(sharded, max_shard_size="1GB")
    assert len(list((sharded / "unet").glob("*-of-*.safetensors"))) > 2
    del base

    def backbone(pipeline: Path) -> Any:
        variants = {"published": str(published), "overlay": str(overlay)}
        own = {"name": "own", "extends": "sd15", "pipeline": str(pipeline), "clip": str(clip)}
        file = room / "own.yaml"
        file.write_text(yaml.safe_dump({**own, "fastcomposer": {"default": "published", "variants": variants}}))
        return read_backbone(str(file))

    from_file = backbone(single)
    converted = from_file.path("pipeline")
    assert json.loads((converted / "model_index.json").read_text())["_class_name"] == "StableDiffusionPipeline"
    first = image(converted, from_file.path("fastcomposer/published"))
    assert np.isfinite(first).all()
    assert first.std() > 0
    from_shards = backbone(sharded)
    second = image(from_shards.path("pipeline"), from_shards.path("fastcomposer/overlay"))
    np.testing.assert_array_equal(first, second)
