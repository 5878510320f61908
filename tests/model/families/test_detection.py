"""A pipeline's family is told by its files, and what only looks like one is refused in one sentence."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import fc_bench.baselines
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.model.backbones.layouts import HubReference, hub_names
from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.detection import FAMILIES, family_of, family_of_architecture
from fc_bench.model.families.sdxl import StableDiffusionXL


def changed(folder: Path, file: str, **fields: Any) -> None:
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **fields}))


@pytest.fixture
def copy(tiny_sdxl_backbone: Path, tmp_path: Path) -> Path:
    """A pipeline's configurations alone."""
    source = tiny_sdxl_backbone.parent / "pipeline"
    shutil.copytree(source, tmp_path / "pipeline", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "pipeline"


def test_the_family_is_that_of_the_pipeline(tiny_backbone, tiny_sdxl_backbone):
    assert family_of(tiny_backbone.parent / "pipeline").name == "sd1"
    assert family_of(tiny_sdxl_backbone.parent / "pipeline").name == "sdxl"


@pytest.mark.parametrize(
    ("file", "fields", "problem"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionXLImg2ImgPipeline"}, "is of no supported family"),
        ("model_index.json", {"force_zeros_for_empty_prompt": False}, "encodes the empty prompt"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "EDMEulerScheduler"},
            "another noise schedule",
        ),
        ("vae/config.json", {"latents_mean": [0, 0, 0, 0]}, "another noise schedule"),
        ("unet/config.json", {"in_channels": 9}, "reads 9 channels in place of the 4"),
    ],
)
def test_look_alikes_are_refused(copy, file, fields, problem):
    changed(copy, file, **fields)
    with pytest.raises(ModelInputError, match=problem) as refused:
        family_of(copy)
    assert "\n" not in str(refused.value)


def test_a_pipeline_without_its_index_is_refused(copy):
    (copy / "model_index.json").unlink()
    with pytest.raises(ModelInputError, match=r"no model_index\.json that names its class"):
        family_of(copy)


def test_an_architecture_has_the_family_of_its_models():
    for name, family in (("sd15", "sd1"), ("sdxl", "sdxl")):
        folder = read_backbone(name).architecture_folder()
        assert folder is not None
        assert family_of_architecture(folder).name == family


def test_the_download_of_an_xl_pipeline_is_its_half_precision_and_its_parts_alone():
    from huggingface_hub.utils import filter_repo_objects

    names = hub_names("pipeline", "a/b", StableDiffusionXL())
    other = ["vae_1_0/diffusion_pytorch_model.fp16.safetensors", "sd_xl_base_1.0.safetensors", "unet/model.onnx"]
    (take, leave), *_ = HubReference.read("owner/name").forms("pipeline", StableDiffusionXL())
    whole = [name.replace(".fp16", "") for name in names if name.endswith("fp16.safetensors")]
    taken = set(filter_repo_objects([*names, *other, *whole], allow_patterns=take, ignore_patterns=leave))
    assert taken == set(names)
    assert sum(name.endswith(".fp16.safetensors") for name in names) == 4
    assert "--include 'unet/*.fp16.safetensors'" in str(read_backbone("sdxl").fetch_command("pipeline"))


def test_no_method_names_a_class_of_one_architecture():
    named = re.compile(r"\b(StableDiffusion\w*|UNet2DConditionModel|CLIPText\w+|CLIPTokenizer|AutoencoderKL)\b")
    folder = Path(fc_bench.baselines.__file__).parent
    files = sorted(folder.rglob("*.py"))
    assert len(files) > 15
    found = {file.name: match[0] for file in files if (match := named.search(file.read_text()))}
    assert found == {}


def test_families_differ_in_their_names():
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert len({kind for family in FAMILIES for kind in family.pipelines}) == sum(len(f.pipelines) for f in FAMILIES)
