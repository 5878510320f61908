"""Models are loaded weight by weight: the same weights as with the libraries, and never twice in memory."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from fc_bench.model.errors import ModelInputError
from fc_bench.model.stored_weights import RENEWAL, load_whole

from .conftest import GOLDEN

PARTS: dict[str, tuple[type[Any], Path]] = {
    "unet": (UNet2DConditionModel, GOLDEN / "sd" / "unet"),
    "vae": (AutoencoderKL, GOLDEN / "sd" / "vae"),
    "text encoder": (CLIPTextModel, GOLDEN / "sd" / "text_encoder"),
    "image encoder in a CLIPModel": (CLIPVisionModelWithProjection, GOLDEN / "clip"),
}
SLACK = 40 * 2**20
"""Memory that a load may need beside its weights."""
LOADING = """
import importlib, re, sys
from pathlib import Path
import torch
from fc_bench.model.stored_weights import load_whole

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

library, kind, folder, dtype, other = sys.argv[1:]
kind = getattr(importlib.import_module(library), kind)
load_whole(kind, Path(other))  # what libraries import and allocate once
before = peak()
model = load_whole(kind, Path(folder), getattr(torch, dtype))
for value in model.parameters():
    value.detach().sum()  # what is only mapped is read at its use
print(peak() - before)
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("part", PARTS)
def test_weights_and_buffers_are_those_of_the_library(part: str, dtype: torch.dtype) -> None:
    kind, folder = PARTS[part]
    ours, theirs = load_whole(kind, folder, dtype), kind.from_pretrained(folder, dtype=dtype)
    assert (ours.dtype, ours.training) == (theirs.dtype, theirs.training)
    for of in ("named_parameters", "named_buffers"):
        own, other = dict(getattr(ours, of)()), dict(getattr(theirs, of)())
        assert own.keys() == other.keys()
        for name, value in own.items():
            assert value.dtype == other[name].dtype
            assert value.requires_grad == other[name].requires_grad
            assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("size", ["1GB", "50KB"])
@pytest.mark.parametrize("part", ["unet", "text encoder"])
def test_shards_and_pickled_files_are_read(part: str, size: str, safe: bool, tmp_path: Path) -> None:
    kind, folder = PARTS[part]
    whole = load_whole(kind, folder)
    if safe:
        whole.save_pretrained(tmp_path, max_shard_size=size)
    else:
        shutil.copy(folder / "config.json", tmp_path)
        names = sorted(whole.state_dict())
        stem = "pytorch_model" if part == "text encoder" else "diffusion_pytorch_model"
        parts = [names] if size == "1GB" else [names[::2], names[1::2]]
        files = [f"{stem}.bin"] if size == "1GB" else [f"{stem}-{number}.bin" for number in range(2)]
        for own, file in zip(parts, files, strict=True):
            torch.save({name: whole.state_dict()[name] for name in own}, tmp_path / file)
        if len(files) > 1:
            index = {name: file for own, file in zip(parts, files, strict=True) for name in own}
            (tmp_path / f"{stem}.bin.index.json").write_text(json.dumps({"weight_map": index}))
    weights = sorted(tmp_path.glob("*.safetensors" if safe else "*.bin"))
    assert (len(weights) > 1) == (size != "1GB")
    loaded = load_whole(kind, tmp_path)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_published_names_of_an_autoencoder_are_read(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "sd" / "vae", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    now = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    published = {}
    for name, value in load_file(file).items():
        old = next((name.replace(new, then) for new, then in now.items() if new in name), name)
        published[old] = value[:, :, None, None].contiguous() if old != name and value.ndim == 2 else value
    assert any(".query." in name for name in published)
    save_file(published, file)
    loaded, before = load_whole(AutoencoderKL, tmp_path), load_whole(AutoencoderKL, GOLDEN / "sd" / "vae")
    for name, value in before.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_weight_or_file_is_one_sentence(part: str, tmp_path: Path) -> None:
    kind, folder = PARTS[part]
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    file = next(tmp_path.glob("*.safetensors"))
    weights = load_file(file)
    lost = next(name for name in sorted(weights) if "norm" in name and ("vision" in name or part[:5] != "image"))
    save_file({name: value for name, value in weights.items() if name != lost}, file)
    with pytest.raises(
        ModelInputError, match=r"^the part .*: 1 weights are missing, for example .*: mend it$"
    ) as error:
        load_whole(kind, tmp_path, what="the part", advice="mend it")
    assert "\n" not in str(error.value)
    file.unlink()
    with pytest.raises(ModelInputError, match="cannot be loaded"):
        load_whole(kind, tmp_path)


def growth(library: str, kind: str, folder: Path, dtype: str, other: Path) -> int:
    """Bytes by which a process grows at most while it loads the model in `folder`."""
    command = [sys.executable, "-c", LOADING, library, kind, str(folder), dtype, str(other)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="Linux reports the peak")
@pytest.mark.parametrize("part", ["unet", "image encoder"])
def test_a_model_is_cast_while_it_is_read(part: str, tmp_path: Path) -> None:
    if part == "unet":
        library, other = "diffusers", PARTS["unet"][1]
        model: Any = UNet2DConditionModel(block_out_channels=(96, 192, 384, 384), cross_attention_dim=256)
    else:
        library, other = "transformers", GOLDEN / "clip"
        model = CLIPVisionModelWithProjection(CLIPVisionConfig(hidden_size=768, num_hidden_layers=8))
    weights = [value.nbytes for value in model.state_dict().values()]
    assert sum(weights) > 160 * 2**20
    model.save_pretrained(tmp_path)
    kind = type(model).__name__
    single, half = (growth(library, kind, tmp_path, dtype, other) for dtype in ("float32", "bfloat16"))
    assert single < 1.1 * sum(weights) + max(weights) + SLACK
    assert half < 0.55 * sum(weights) + max(weights) + RENEWAL + SLACK
    assert half < single
