"""Random weights have the true architecture, are ordinary files, and are made once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
import torch
import yaml

from fc_bench.model.backbones import random_weights
from fc_bench.model.backbones.backbone import read_backbone, required_files
from fc_bench.model.backbones.random_weights import (
    adapter_shapes,
    build_models,
    read_architecture,
    with_random_weights,
)
from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.family import Family, Part
from fc_bench.model.families.sd1 import StableDiffusion1
from fc_bench.model.families.sdxl import StableDiffusionXL
from fc_bench.model.ip_adapter import encoder_features, read_adapter, unet_outline

TINY: dict[str, dict[str, Any]] = {
    "unet": {
        "sample_size": 8,
        "block_out_channels": [8, 16],
        "layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    },
    "vae": {
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [8, 8, 8, 8],
        "norm_num_groups": 4,
        "sample_size": 64,
    },
    "text_encoder": {
        "vocab_size": 2000,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    "scheduler": {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "steps_offset": 1},
    "tokenizer": {"vocab_size": 2000, "model_max_length": 77, "words": ["sks", "ohwx"]},
    "image_encoder": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "projection_dim": 16,
    },
    "postfuse_module": {"features": 16},
    "ip_adapter": {"hidden_size": 64, "num_hidden_layers": 1, "num_tokens": 4},
    "ip_adapter_encoder": {
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "projection_dim": 16,
    },
}


@pytest.fixture
def tiny_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A backbone that has an architecture and no weights; the cache is the test's own."""
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "shapes"
    folder.mkdir()
    for name, content in TINY.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    data = {
        "name": "shapes",
        "description": "no weights",
        "pipeline": "nowhere",
        "fastcomposer": {"default": "one", "variants": {"one": "nowhere", "two": "hub:nobody/nothing/file.bin"}},
        "ip_adapter": {"default": "plus", "image_encoder": "nowhere", "variants": {"base": "a", "plus": "b"}},
        "clip": "clip",
        "faces": {"name": "faces", "pack": "faces"},
        "resolution": 64,
        "sampler": {"scheduler": "pndm", "steps": 3, "guidance_scale": 2.0},
        "architecture": "shapes",
    }
    file = tmp_path / "shapes.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


VIT_H = 632_076_800
"""Parameters of OpenCLIP's ViT-H/14 with its projection."""


def adapter_sizes(family: Family, backbone: str) -> dict[str, int]:
    shapes = adapter_shapes(family, read_architecture(read_backbone(backbone)))
    return {name: sum(map(math.prod, own.values())) for name, own in shapes.items()}


def test_stable_diffusion_s_architecture_has_the_published_sizes():
    from accelerate import init_empty_weights

    with init_empty_weights():
        models = dict(build_models(StableDiffusion1(), read_architecture(read_backbone("sd15"))))
    sizes = {name: sum(parameter.numel() for parameter in model.parameters()) for name, model in models.items()}
    assert sizes == {
        "unet": 859_520_964,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "image_encoder": 303_966_208,
        "postfuse_module": 2_958_336,
        "ip_adapter_encoder": VIT_H,
    }
    sizes |= adapter_sizes(StableDiffusion1(), "sd15")
    assert sizes[random_weights.ADAPTER] == 49_087_488
    card = (Path(random_weights.__file__).parent / "sd15" / "README.md").read_text()
    assert all(f"{size:,} |" in card for size in sizes.values())


def test_stable_diffusion_xl_s_architecture_has_the_published_sizes():
    from accelerate import init_empty_weights

    with init_empty_weights():
        models = dict(build_models(StableDiffusionXL(), read_architecture(read_backbone("sdxl"))))
    sizes = {name: sum(parameter.numel() for parameter in model.parameters()) for name, model in models.items()}
    assert sizes == {
        "unet": 2_567_463_684,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
        "image_encoder": 303_966_208 + 1024 * 1280,
        "postfuse_module": 20_996_096,
        "ip_adapter_encoder": VIT_H,
    }
    sizes |= adapter_sizes(StableDiffusionXL(), "sdxl")
    assert sizes[random_weights.ADAPTER] == 423_748_864
    lora = sizes[random_weights.PHOTOMAKER] - sizes["image_encoder"] - sizes["postfuse_module"]
    assert lora == 92_897_280
    card = (Path(random_weights.__file__).parent / "sdxl" / "README.md").read_text()
    assert all(f"{size:,} |" in card for size in sizes.values())
    pipeline = sum(sizes[part.name] for part in StableDiffusionXL.parts)
    half = f"the pipeline is {2 * pipeline / 1e9:.1f} GB in half precision"
    assert half in read_backbone("sdxl").description


def test_its_vocabulary_has_the_text_encoder_s_size_and_the_methods_words():
    from fc_bench.model.word_tokenizer import word_tokenizer

    told = read_architecture(read_backbone("sd15"))["tokenizer"]
    tokenizer = word_tokenizer(told["words"], told["model_max_length"], told["vocab_size"])
    assert (len(tokenizer), tokenizer.model_max_length) == (49_408, 77)
    for word in ("sks", "ohwx", "olis", "man"):
        assert len(tokenizer.tokenize(word)) == 1
    assert tokenizer("anything at all")["input_ids"][-1] == 49_407
    with pytest.raises(ValueError, match="more than 100"):
        word_tokenizer(told["words"], 77, 100)


def test_weights_are_made_once_for_each_number_format(tiny_architecture, monkeypatch):
    backbone = read_backbone(str(tiny_architecture))
    first = with_random_weights(backbone, "bfloat16")
    assert with_random_weights(backbone, "float32").parent != first.parent
    monkeypatch.setattr(random_weights, "_write_models", None)
    assert with_random_weights(backbone, "bfloat16") == first
    renamed = backbone.model_copy(update={"methods": {"dreambooth": {"steps": 3}}})
    assert with_random_weights(renamed, "bfloat16").parent == first.parent


def test_one_model_is_in_memory_at_a_time(tiny_architecture, monkeypatch):
    build, earlier = Part.build, []

    def build_alone(part, configuration):
        assert not any(model() is not None and not is_empty(model()) for model in earlier)
        earlier.append(ref(model := build(part, configuration)))
        return model

    monkeypatch.setattr(Part, "build", build_alone)
    with_random_weights(read_backbone(str(tiny_architecture)), "float32")
    assert len(earlier) == 3 * len(StableDiffusion1.parts) + 4  # also without weights, for the index and the shapes


def is_empty(model: Any) -> bool:
    return all(parameter.is_meta for parameter in model.parameters())


def test_they_are_a_backbone_like_any_other(tiny_architecture):
    made = read_backbone(str(with_random_weights(read_backbone(str(tiny_architecture)), "bfloat16")))
    assert made.name == "shapes"
    for component in ("pipeline", "fastcomposer/one", "fastcomposer/two"):
        assert all(file.present for file in required_files(component, made.path(component)))
    assert made.declared_path("clip") == tiny_architecture.parent / "clip"
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (made.path("pipeline") / weights).samefile(made.path("fastcomposer/one") / weights)


def test_a_backbone_without_a_checkpoint_of_fastcomposer_gets_one(tiny_architecture):
    data = yaml.safe_load(tiny_architecture.read_text())
    del data["fastcomposer"]
    tiny_architecture.write_text(yaml.safe_dump(data))
    made = read_backbone(str(with_random_weights(read_backbone(str(tiny_architecture)), "bfloat16")))
    checkpoint = made.variant(None)
    assert all(file.present for file in required_files(checkpoint, made.path(checkpoint)))


def test_its_ip_adapters_are_loaded_by_the_method(tiny_architecture):
    made = read_backbone(str(with_random_weights(read_backbone(str(tiny_architecture)), "float32")))
    assert made.ip_adapter is not None
    assert made.ip_adapter.default == "plus"
    assert made.path("ip_adapter/base") == made.path("ip_adapter/plus")
    adapter = read_adapter(made.path("ip_adapter/plus"))
    adapter.check_fits(unet_outline(made.path("pipeline")))
    assert adapter.features == encoder_features(made.path("ip_adapter_encoder"), adapter.kind)


def test_images_of_random_weights_are_numbers(tiny_architecture):
    from fc_bench.model.fastcomposer.pipeline import load_fastcomposer

    made = read_backbone(str(with_random_weights(read_backbone(str(tiny_architecture)), "bfloat16")))
    pipeline = load_fastcomposer(made.path("pipeline"), made.path("fastcomposer/one"), torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    images: Any = pipeline("a photo of a man", num_inference_steps=3, height=64, width=64, output_type="pt").images
    assert torch.isfinite(images).all()
    assert images.std() > 0


def test_without_an_architecture_or_with_a_damaged_one_it_says_so(tiny_architecture, tiny_backbone):
    with pytest.raises(ModelInputError, match='"tiny" declares no architecture'):
        with_random_weights(read_backbone(str(tiny_backbone)), "float32")
    (tiny_architecture.parent / "shapes" / "vae.json").write_text("{")
    with pytest.raises(ModelInputError, match=r"vae\.json cannot be read"):
        with_random_weights(read_backbone(str(tiny_architecture)), "float32")


def test_a_failure_on_the_way_leaves_nothing_that_looks_whole(tiny_architecture, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(random_weights, "_write_models", full)
        with pytest.raises(ModelInputError, match="No space left on device"):
            with_random_weights(read_backbone(str(tiny_architecture)), "float32")
    assert with_random_weights(read_backbone(str(tiny_architecture)), "float32").is_file()
