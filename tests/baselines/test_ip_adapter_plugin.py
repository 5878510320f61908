"""The documented plug-in, installed as its users would: IP-Adapter on random weights of a tiny UNet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

TOKENS = 4
"""Image tokens of the plain IP-Adapter."""


@pytest.fixture(scope="module")
def adapter(tiny_backbone, tmp_path_factory) -> Path:
    """Random weights in the published layout for the tiny backbone's UNet."""
    from diffusers import UNet2DConditionModel
    from safetensors.torch import save_file

    unet = UNet2DConditionModel.from_pretrained(tiny_backbone.parent / "pipeline" / "unet")
    features, embedding = unet.config["cross_attention_dim"], 16
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    weights = {
        "image_proj.proj.weight": random(TOKENS * features, embedding),
        "image_proj.proj.bias": random(TOKENS * features),
        "image_proj.norm.weight": torch.ones(features),
        "image_proj.norm.bias": torch.zeros(features),
    }
    # The published files count attention layers, self-attention too: cross-attention has the odd numbers.
    cross = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(cross):
        layer = unet.get_submodule(name.removesuffix(".processor"))
        for part in ("to_k_ip", "to_v_ip"):
            weights[f"ip_adapter.{2 * number + 1}.{part}.weight"] = random(layer.to_k.weight.shape[0], features)
    file = tmp_path_factory.mktemp("adapter") / "ip-adapter.safetensors"
    save_file(weights, file)
    return file


@pytest.fixture
def run(fc_bench, suite, tiny_backbone, adapter, tmp_path, plugin):
    """Runs the plug-in on the tests' suite."""

    def invoke(*arguments: object):
        weights = ("-o", f"ip-adapter.adapter={adapter}")
        encoder = ("-o", f"ip-adapter.image_encoder={tiny_backbone.parent / 'fastcomposer' / 'image_encoder'}")
        return fc_bench("run", suite, "--backbone", tiny_backbone, "-m", "ip-adapter", *weights, *encoder, *arguments)

    return invoke


def test_it_runs_a_suite_of_single_subjects(run, records, tmp_path):
    done = run("--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert "2 subject sets are left out, because it takes at most 1 subject" in done.out
    samples = records(tmp_path / "run" / "samples.jsonl")
    assert [sample["status"] for sample in samples] == ["ok"] * 9
    # Without the photograph all subjects of a noun would have the same image of a prompt and seed.
    images = {Path(tmp_path / "run" / sample["image"]).read_bytes() for sample in samples}
    assert len(images) == 9


def test_its_scale_decides_and_none_is_the_base_model(run, fc_bench, suite, tiny_backbone, tmp_path):
    run("--out", tmp_path / "full", "-o", "ip-adapter.scale=1")
    run("--out", tmp_path / "none", "-o", "ip-adapter.scale=0")
    fc_bench("run", suite, "--backbone", tiny_backbone, "-m", "text-only", "--out", tmp_path / "text")

    def pixels(name: str) -> list[bytes]:
        files = sorted((tmp_path / name / "images").rglob("ann/*.png"))
        assert len(files) == 3
        return sorted(Image.open(file).tobytes() for file in files)

    assert pixels("none") == pixels("text")
    assert pixels("full") != pixels("text")


def test_missing_weights_are_reported_before_anything_runs(fc_bench, suite, tiny_backbone, tmp_path, plugin):
    arguments = ("run", suite, "--backbone", tiny_backbone, "-m", "ip-adapter", "--out", tmp_path / "run")
    done = fc_bench(*arguments)
    assert done.code == 2
    assert 'Option of the method "ip-adapter": adapter' in done.err
    done = fc_bench(*arguments, "-o", "ip-adapter.adapter=nowhere", "-o", "ip-adapter.image_encoder=nowhere")
    assert done.code == 2
    assert 'The option "adapter" names the weights nowhere, which do not exist' in done.err
