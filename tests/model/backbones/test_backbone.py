"""Backbone files: fingerprints follow contents, paths follow the file, errors say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fc_bench.model.backbones.backbone import Backbone, backbone_names, read_backbone
from fc_bench.model.backbones.fingerprint import fingerprint
from fc_bench.model.backbones.schedulers import make_scheduler
from fc_bench.model.errors import MissingWeightsError, ModelInputError


def test_built_in_backbones_are_well_formed():
    for name in backbone_names():
        backbone = read_backbone(name)
        assert backbone.name == name
        assert backbone.components().keys() >= {"pipeline", "clip", "faces"}
        assert set(backbone.licenses) == {name.split("/")[0] for name in backbone.components()}
        assert backbone.fastcomposer is None or backbone.variant(None) in backbone.components()


def test_fingerprint_changes_with_content_and_name_and_with_nothing_else(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "model.safetensors").write_bytes(b"one")
    first = fingerprint(tmp_path / "a")
    (tmp_path / "a" / "notes.md").write_text("not read by anything")
    assert fingerprint(tmp_path / "a") == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert fingerprint(tmp_path / "b") == first
    (tmp_path / "b" / "model.safetensors").write_bytes(b"two")
    second = fingerprint(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").rename(tmp_path / "b" / "other.safetensors")
    assert len({first, second, fingerprint(tmp_path / "b")}) == 3


def test_components_are_found_beside_the_file_wherever_one_works(tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_backbone(str(tiny_backbone)).path("clip") == tiny_backbone.parent / "clip"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 100}, "tiny.yaml:.*resolution.*multiple of 8"),
        ({"licenses": {"clp": "MIT"}}, "clp"),
        ({"fastcomposer": {"default": "best", "variants": {"random": "x"}}}, 'default "best" is not a variant'),
        ({"sampler": {"scheduler": "dpmm"}}, "scheduler"),
        ({"resolutoin": 64}, 'did you mean "resolution"'),
    ],
)
def test_wrong_declaration_is_refused_with_its_place(tiny_backbone, tmp_path, change, message):
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(tiny_backbone.read_text()) | change))
    with pytest.raises(ModelInputError, match=message):
        read_backbone(str(file))


def test_ddim_made_from_a_pndm_configuration_does_not_clip():
    from diffusers.schedulers.scheduling_pndm import PNDMScheduler

    config = PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1).config
    scheduler = make_scheduler("ddim", config)
    assert scheduler.config.clip_sample is False
    assert scheduler.config.set_alpha_to_one is False
    assert (scheduler.config.beta_start, scheduler.config.steps_offset) == (0.00085, 1)


def test_image_features_are_a_component_where_they_are_declared(tiny_backbone, tmp_path):
    declared = yaml.safe_load(tiny_backbone.read_text())
    assert "image_features" not in read_backbone(str(tiny_backbone)).components()
    file = tmp_path / "featured.yaml"
    file.write_text(yaml.safe_dump({**declared, "image_features": "features", "licenses": {"image_features": "MIT"}}))
    backbone = read_backbone(str(file))
    with pytest.raises(ModelInputError, match=r"image_features needs .*features/config\.json"):
        backbone.path("image_features")
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "config.json").write_text("{}")
    with pytest.raises(ModelInputError, match=r"image_features needs .*features/model\.safetensors"):
        backbone.path("image_features")
    (tmp_path / "features" / "pytorch_model.bin").write_bytes(b"pickled")
    assert backbone.path("image_features") == tmp_path / "features"
    before = backbone.fingerprint("image_features")
    (tmp_path / "features" / "preprocessor_config.json").write_text('{"size": 224}')
    assert backbone.fingerprint("image_features") != before


@pytest.mark.parametrize("stored", [["model.safetensors", "pytorch_model.bin"], ["pytorch_model.bin"]])
def test_pickled_weights_are_fetched_only_where_there_are_no_others(tiny_backbone, tmp_path, monkeypatch, stored):
    import fnmatch

    import huggingface_hub

    def download(repository, allow_patterns, ignore_patterns, **_):
        for name in ["config.json", *stored]:
            wanted = any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)
            if wanted and not any(fnmatch.fnmatch(name, pattern) for pattern in ignore_patterns):
                (tmp_path / name).write_bytes(b"{}")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    file = tmp_path / "featured.yaml"
    declared = yaml.safe_load(tiny_backbone.read_text())
    file.write_text(yaml.safe_dump({**declared, "image_features": "hub:somebody/features"}))
    assert read_backbone(str(file)).path("image_features") == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {"featured.yaml", "config.json", stored[0]}


@pytest.fixture
def extended(tmp_path, monkeypatch):
    """A backbone that extends a built-in one, read from `my own.yaml`, on a machine that has nothing else."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)

    def read(base: str, **own: Any) -> Backbone:
        Path("my own.yaml").write_text(yaml.safe_dump({"name": "mine", "extends": base, **own}))
        return read_backbone("my own.yaml")

    return read


def refusal(backbone: Backbone, *components: str) -> MissingWeightsError:
    with pytest.raises(MissingWeightsError) as error:
        backbone.require(*components)
    return error.value


def test_what_no_command_fetches_is_named_beside_the_commands_for_the_rest(extended, tmp_path):
    checkpoint = {"default": "published", "variants": {"published": "~/models/pytorch_model.bin"}}
    backbone = extended("sd15", pipeline="weights.safetensors", fastcomposer=checkpoint)
    error = refusal(backbone, "pipeline", "clip", "faces", "fastcomposer/published")
    assert "clip is not in the local cache" in error.message
    assert error.remedy.startswith(
        f"No command fetches pipeline ({tmp_path}/weights.safetensors), fastcomposer/published "
        f"({tmp_path}/models/pytorch_model.bin). Put the files there. Fetch the others with: hf download openai/"
    )
    alone = refusal(backbone, "pipeline", "fastcomposer/published")
    assert alone.remedy == "Put the files there. `fc-bench doctor --backbone 'my own.yaml'` lists every file."


def test_advice_on_a_backbone_s_own_files_is_not_given_for_their_replacements(extended):
    backbone = extended("pocket", faces={"name": "own", "pack": "lost"})
    assert refusal(backbone, "faces").remedy.startswith("Put the files there. `fc-bench doctor")
    assert backbone.advice("pipeline") == read_backbone("pocket").how_to_get
    backbone = extended("pocket", faces={"name": "own", "pack": "lost"}, how_to_get="Ask Ann.")
    assert refusal(backbone, "faces").remedy.startswith("Ask Ann. `fc-bench doctor")
