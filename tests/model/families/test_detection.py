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
from fc_bench.model.backbones.hub import fetch
from fc_bench.model.backbones.layouts import HubReference, hub_command, hub_names, required_files
from fc_bench.model.backbones.prepared import read_configurations
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
        ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "flow matching"),
        ("unet/config.json", {"in_channels": 9}, "reads 9 channels in place of the 4"),
        ("model_index.json", {"_class_name": "StableDiffusionPipeline"}, "is of another architecture"),
        ("unet/config.json", {"addition_embed_type": None}, "is of another architecture"),
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


def test_where_the_half_precision_is_not_published_the_command_asks_for_the_other_forms():
    command = hub_command("pipeline", "a/b", True, StableDiffusionXL())
    for pattern in ("unet/*.safetensors", "unet/*.bin"):
        assert f"--include '{pattern}'" in command
    assert "--exclude '*.fp16.*'" in command
    assert "--include 'unet/*.fp16" not in command


@pytest.fixture
def published(tiny_sdxl_backbone, tmp_path, monkeypatch):
    """Publishes the tiny pipeline as a repository in some files alone; returns the asked patterns."""
    import huggingface_hub

    source, snapshot, taken = tiny_sdxl_backbone.parent / "pipeline", tmp_path / "snapshot", []

    def publish(rename):
        remote = {str(file.relative_to(source)): file for file in source.rglob("*") if file.is_file()}
        remote = {rename(name): file for name, file in remote.items()}

        def download(repository, allow_patterns, ignore_patterns, **_):
            taken.append(allow_patterns)
            for name in huggingface_hub.utils.filter_repo_objects(
                remote, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
            ):
                (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(remote[name], snapshot / name)
            return str(snapshot)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, name, **_: str(source / name))
        return taken

    return publish


def half(name: str) -> str:
    return name.replace(".safetensors", ".fp16.safetensors")


@pytest.mark.parametrize(
    ("rename", "downloads"),
    [(half, 1), (lambda name: name, 2), (lambda name: half(name) if name.startswith("unet") else name, 2)],
)
def test_every_published_form_is_fetched(rename, downloads, published):
    taken = published(rename)
    folder = fetch("a/b", "pipeline", StableDiffusionXL())
    assert len(taken) == downloads
    assert all(file.present for file in required_files("pipeline", folder, StableDiffusionXL()))


def test_a_pipeline_of_unknown_family_is_asked_for_its_index_first(published, tmp_path):
    content = {"name": "own", "description": "own", "pipeline": "hub:a/b", "clip": "clip", "resolution": 64}
    (tmp_path / "own.yaml").write_text(json.dumps({**content, "faces": {"name": "faces", "pack": "faces"}}))
    backbone = read_backbone(str(tmp_path / "own.yaml"))
    assert backbone.fetch_command("pipeline") == "hf download a/b --include model_index.json"
    assert hub_names("pipeline", "a/b", backbone.family_at(None)) == ["model_index.json"]
    taken = published(half)
    assert family_of(backbone.path("pipeline")).name == "sdxl"
    assert "unet/*.fp16.safetensors" in taken[0]


def test_an_architecture_that_lacks_a_model_of_its_family_is_refused(tmp_path):
    folder = read_backbone("sdxl").architecture_folder()
    assert folder is not None
    shutil.copytree(folder, tmp_path / "part")
    (tmp_path / "part" / "text_encoder_2.json").unlink()
    with pytest.raises(ModelInputError, match=r"text_encoder_2\.json cannot be read") as refused:
        read_configurations(tmp_path / "part")
    assert "\n" not in str(refused.value)
    (tmp_path / "part" / "unet.json").write_text('{"addition_embed_type": "image"}')
    with pytest.raises(ModelInputError, match=r"unet\.json is not the UNet of Stable Diffusion v1\.x or Stable"):
        read_configurations(tmp_path / "part")


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
