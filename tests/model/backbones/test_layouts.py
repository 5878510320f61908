"""Backbones are loaded from every form in which weights are published, and give the same images from each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from fc_bench.model.backbones.backbone import Backbone, read_backbone
from fc_bench.model.backbones.layouts import hub_command, hub_names, required_files
from fc_bench.model.errors import MissingWeightsError, ModelInputError
from fc_bench.model.families.detection import FAMILIES
from fc_bench.model.fastcomposer.pipeline import load_fastcomposer

from ..original_layout import place_upsamplers, single_file_state, write_single_file

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache"


@pytest.fixture
def base(tiny_backbone: Path) -> Any:
    """The tiny pipeline, read as float32."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(tiny_backbone.parent / "pipeline")


@pytest.fixture
def variant(tiny_backbone: Path, tmp_path: Path, base: Any) -> Callable[..., Backbone]:
    """The tiny backbone with changes to its file, and an architecture like that of built-in ones."""
    shapes = tmp_path / "shapes"
    shapes.mkdir()
    for part in ("unet", "vae", "scheduler"):
        (shapes / f"{part}.json").write_text(json.dumps(dict(getattr(base, part).config), default=str))
    (shapes / "text_encoder.json").write_text(json.dumps(base.text_encoder.config.to_dict(), default=str))
    for part in ("tokenizer", "image_encoder", "postfuse_module"):
        (shapes / f"{part}.json").write_text("{}")
    data = yaml.safe_load(tiny_backbone.read_text())
    data |= {key: str(tiny_backbone.parent / data[key]) for key in ("pipeline", "clip")}
    data["faces"]["pack"] = str(tiny_backbone.parent / "faces")
    data["fastcomposer"]["variants"]["random"] = str(tiny_backbone.parent / "fastcomposer")
    data["architecture"] = str(shapes)

    def write(**changes: Any) -> Backbone:
        file = tmp_path / "variant.yaml"
        file.write_text(yaml.safe_dump({**data, **changes}))
        return read_backbone(str(file))

    return write


def image(backbone: Backbone, dtype: torch.dtype = torch.float32) -> np.ndarray:
    """Pixels of a prompt's image by the backbone's pipeline and FastComposer checkpoint."""
    from PIL import Image

    checkpoint = backbone.path(backbone.variant(None))
    pipeline = load_fastcomposer(backbone.path("pipeline"), checkpoint, dtype)
    pipeline.set_progress_bar_config(disable=True)
    result: Any = pipeline(
        "a man <|image|>",
        [[Image.new("RGB", (64, 64), "red")]],
        num_inference_steps=2,
        height=64,
        width=64,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    )
    return result.images[0]


def folder_of(base: Any, output: Path, form: str, dtype: torch.dtype) -> Path:
    """The pipeline as a folder in one of the published forms."""
    from copy import deepcopy

    copy = deepcopy(base).to(dtype=dtype)
    options: dict[str, Any] = {"safe_serialization": form != "bin"}
    if form == "sharded":
        options["max_shard_size"] = "20KB"
    copy.save_pretrained(output, **options)
    if form == "variant":
        for part in ("unet", "vae", "text_encoder"):
            for file in (output / part).glob("*.safetensors"):
                file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    return output


@pytest.mark.parametrize("form", ["safetensors", "bin", "sharded", "variant", "single file"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_form_of_a_pipeline_gives_the_same_image(variant, base, tmp_path, form, precision):
    dtype = DTYPES[precision]
    if form == "single file":
        state = place_upsamplers(single_file_state(base.unet, base.vae, base.text_encoder))
        published = write_single_file(state, tmp_path / "v1-5.safetensors", dtype)
    else:
        published = folder_of(base, tmp_path / "published", form, dtype)
    backbone = variant(pipeline=str(published))
    made = image(backbone)
    expected = image(variant())
    np.testing.assert_allclose(made, expected, atol=1e-6 if precision == "fp32" else 2e-2)
    assert backbone.missing_files("pipeline") == []
    assert backbone.fingerprint("pipeline")


def test_a_single_file_is_converted_once_and_keeps_its_number_format(variant, base, tmp_path, own_cache, monkeypatch):
    from diffusers import UNet2DConditionModel

    from fc_bench.model.backbones import prepared

    state = place_upsamplers(single_file_state(base.unet, base.vae, base.text_encoder))
    file = write_single_file(state, tmp_path / "v1-5.safetensors", torch.float16)
    folder = variant(pipeline=str(file)).path("pipeline")
    assert folder.is_relative_to(own_cache)
    unet: Any = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype="auto")
    from safetensors import safe_open

    with safe_open(folder / "unet" / "diffusion_pytorch_model.safetensors", "pt") as written:
        assert {written.get_tensor(key).dtype for key in written.keys()} == {torch.float16}  # noqa: SIM118
    for name, value in unet.state_dict().items():
        assert torch.equal(value.half(), base.unet.state_dict()[name].half()), name
    with monkeypatch.context() as broken:
        broken.setattr(prepared, "_convert", None)
        assert variant(pipeline=str(file)).path("pipeline") == folder
    write_single_file({key: x + 1 if x.is_floating_point() else x for key, x in state.items()}, file, torch.float32)
    assert variant(pipeline=str(file)).path("pipeline") != folder


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: {"conditioner.weight": torch.zeros(1)}, "not a checkpoint of Stable Diffusion v1.x|has no"),
        (lambda state: {k: v for k, v in state.items() if "cond_stage" not in k}, "has no text encoder"),
        (
            lambda state: {k: v for k, v in state.items() if "time_embed.0.bias" not in k},
            "Stable Diffusion v1.x|missing",
        ),
        (lambda state: {k: v[..., :1] if "to_q.weight" in k else v for k, v in state.items()}, "has shape"),
    ],
)
def test_a_single_file_of_something_else_is_refused_and_leaves_nothing(
    variant, base, tmp_path, own_cache, spoil, message
):
    state = spoil(place_upsamplers(single_file_state(base.unet, base.vae, base.text_encoder)))
    file = write_single_file(state, tmp_path / "other.safetensors", torch.float32)
    with pytest.raises(ModelInputError, match=message):
        variant(pipeline=str(file)).path("pipeline")
    assert not any((own_cache / "pipelines").iterdir())


def test_a_single_file_needs_an_architecture(variant, tmp_path, base):
    state = single_file_state(base.unet, base.vae, base.text_encoder)
    file = write_single_file(state, tmp_path / "v1-5.safetensors", torch.float32)
    with pytest.raises(ModelInputError, match="add `extends: sd15`"):
        variant(pipeline=str(file), architecture=None).path("pipeline")


def test_every_shard_that_an_index_names_is_required(variant, base, tmp_path):
    published = folder_of(base, tmp_path / "published", "sharded", torch.float32)
    shard = sorted((published / "unet").glob("*-0000*.safetensors"))[1]
    shard.unlink()
    backbone = variant(pipeline=str(published))
    assert [item.path for item in backbone.missing_files("pipeline")] == [shard]
    with pytest.raises(MissingWeightsError, match=shard.name):
        backbone.path("pipeline")


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_checkpoint_in_one_file_is_read_in_both_formats(variant, tiny_backbone, base, tmp_path, suffix):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import save_file

    from fc_bench.model.fastcomposer.checkpoint import load_components
    from fc_bench.model.fastcomposer.postfuse import PostfuseModule
    from fc_bench.model.fastcomposer.references import load_image_encoder

    overlay, pipeline = tiny_backbone.parent / "fastcomposer", tiny_backbone.parent / "pipeline"
    parts = {
        "unet": UNet2DConditionModel.from_pretrained(overlay / "unet"),
        "vae": AutoencoderKL.from_pretrained(pipeline / "vae"),
        "text_encoder": base.text_encoder,
        "image_encoder": load_image_encoder(overlay / "image_encoder"),
        "postfuse_module": PostfuseModule.from_pretrained(overlay / "postfuse_module"),
    }
    state = {f"{name}.{key}": x.clone() for name, part in parts.items() for key, x in part.state_dict().items()}
    file = tmp_path / f"pytorch_model{suffix}"
    torch.save(state, file) if suffix == ".bin" else save_file(state, file)
    assert [item.present for item in required_files("fastcomposer/published", file)] == [True]
    clip = tiny_backbone.parent / "clip"
    loaded = load_components(file, pipeline, image_encoder=clip)
    assert torch.equal(loaded["unet"].conv_in.weight, parts["unet"].conv_in.weight)


def test_trained_layers_on_the_clip_they_began_with_are_the_whole_image_encoder(tiny_backbone, tmp_path):
    from transformers import CLIPVisionModelWithProjection

    from fc_bench.model.fastcomposer.references import keep_trained_layers, load_image_encoder

    clip, checkpoint = tiny_backbone.parent / "clip", tmp_path / "checkpoint"
    shutil.copytree(tiny_backbone.parent / "fastcomposer", checkpoint)
    trained = CLIPVisionModelWithProjection.from_pretrained(clip, dtype=torch.float16)
    last = trained.vision_model.encoder.layers[-1].mlp.fc1
    torch.nn.init.normal_(last.weight)
    trained.save_pretrained(checkpoint / "image_encoder")
    whole = load_image_encoder(checkpoint / "image_encoder").state_dict()
    size = (checkpoint / "image_encoder" / "model.safetensors").stat().st_size
    keep_trained_layers(checkpoint / "image_encoder", clip)
    (kept,) = (checkpoint / "image_encoder").iterdir()
    assert kept.stat().st_size < size / 4
    again = load_image_encoder(checkpoint / "image_encoder", starting_from=clip).state_dict()
    own = CLIPVisionModelWithProjection.from_pretrained(clip).state_dict()
    changed = {key for key, value in again.items() if not torch.equal(value, own[key])}
    assert changed == {"vision_model.encoder.layers.1.mlp.fc1.weight"}
    for key in again:
        assert torch.equal(again[key].half(), whole[key].half()), key
    pipeline = tiny_backbone.parent / "pipeline"
    assert load_fastcomposer(pipeline, checkpoint, image_encoder=clip).image_encoder is not None
    with pytest.raises(ModelInputError, match="name the CLIP model that it was trained from"):
        load_fastcomposer(pipeline, checkpoint)
    assert [item.path.name for item in required_files("fastcomposer/x", checkpoint)][-1] == kept.name
    assert all(item.present for item in required_files("fastcomposer/x", checkpoint))


def test_trained_layers_of_another_clip_are_refused(tiny_backbone, tmp_path):
    from safetensors.torch import save_file

    from fc_bench.model.fastcomposer.overlay import TRAINED_LAYERS
    from fc_bench.model.fastcomposer.references import load_image_encoder

    save_file({"vision_model.encoder.layers.7.mlp.fc1.weight": torch.zeros(2, 2)}, tmp_path / TRAINED_LAYERS)
    with pytest.raises(ModelInputError, match=r"do not fit the CLIP model .*layers\.7\.mlp"):
        load_image_encoder(tmp_path, starting_from=tiny_backbone.parent / "clip")


def test_a_method_reads_the_clip_below_trained_layers(variant, tiny_backbone, tmp_path):
    from fc_bench.baselines.fastcomposer import FastComposer, FastComposerOptions
    from fc_bench.model.fastcomposer.references import keep_trained_layers

    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(tiny_backbone.parent / "fastcomposer", checkpoint)
    backbone = variant(fastcomposer={"default": "mine", "variants": {"mine": str(checkpoint)}})
    assert "image_encoder" not in FastComposer.weights(backbone, FastComposerOptions())
    keep_trained_layers(checkpoint / "image_encoder", tiny_backbone.parent / "clip")
    assert FastComposer.weights(backbone, FastComposerOptions())["image_encoder"] == backbone.path("clip")


def test_a_backbone_extends_a_built_in_one(tmp_path):
    file = tmp_path / "mine.yaml"
    own = {"name": "mine", "extends": "sd15", "pipeline": "weights/mine.safetensors"}
    file.write_text(yaml.safe_dump({**own, "methods": {"fastcomposer": {"alpha": 0.6}}, "sampler": {"steps": 30}}))
    mine, base = read_backbone(str(file)), read_backbone("sd15")
    assert mine.declared_path("pipeline") == tmp_path / "weights" / "mine.safetensors"
    assert mine.declared_path("faces") == base.declared_path("faces")
    assert mine.architecture_folder() == base.architecture_folder()
    assert (mine.sampler.steps, mine.sampler.scheduler) == (30, "pndm")
    assert mine.methods["fastcomposer"] == {"alpha": 0.6}
    assert mine.methods["dreambooth"] == base.methods["dreambooth"]
    own["methods"] = {"dreambooth": {"steps": 7}}
    file.write_text(yaml.safe_dump(own))
    assert read_backbone(str(file)).methods["dreambooth"] == {**base.methods["dreambooth"], "steps": 7}
    assert len(base.methods["dreambooth"]) > 1
    assert "pipeline" not in mine.licenses  # the license of the weights replaced says nothing of these
    assert mine.licenses["clip"] == base.licenses["clip"]
    file.write_text(yaml.safe_dump({"name": "mine", "extends": "pocket"}))
    pocket = read_backbone(str(file))
    assert all(pocket.missing_files(component) == [] for component in pocket.components())
    file.write_text(yaml.safe_dump({**own, "extends": "sd51"}))
    with pytest.raises(ModelInputError, match=r'no built-in backbone "sd51", did you mean "sd15"'):
        read_backbone(str(file))


def test_missing_files_are_reported_with_the_command_that_fetches_it(monkeypatch):
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)  # another test's command may have set it
    backbone = read_backbone("sd15")
    with pytest.raises(MissingWeightsError) as online:
        backbone.require(*backbone.always_needed())
    assert "faces needs /nowhere/.insightface/models/buffalo_l" in online.value.message
    assert online.value.remedy.startswith("Fetch with: python -c")
    assert "hf download" not in online.value.remedy  # the hub's are fetched when they are needed
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingWeightsError) as offline:
        backbone.require(*backbone.always_needed())
    for command in ("hf download stable-diffusion-v1-5/stable-diffusion-v1-5 ", "openai/clip-vit-large-patch14"):
        assert command in offline.value.remedy
    assert hub_command("fastcomposer/published", "mit-han-lab/fastcomposer/pytorch_model.bin") == (
        "hf download mit-han-lab/fastcomposer pytorch_model.bin"
    )


def test_the_hub_s_files_listed_for_a_component_are_all_that_it_needs(variant, base, tmp_path):
    published = folder_of(base, tmp_path / "published", "safetensors", torch.float32)
    names = hub_names("pipeline", "somebody/something", FAMILIES[0])
    assert {name for name in names if "tokenizer" not in name} == {
        item.path.relative_to(published).as_posix()
        for item in required_files("pipeline", published, FAMILIES[0])
        if "tokenizer" not in str(item.path.relative_to(published))
    }
    shutil.rmtree(published / "tokenizer")
    assert {item.path.name for item in variant(pipeline=str(published)).missing_files("pipeline")} == {
        "vocab.json",
        "merges.txt",
    }


def test_a_folder_inside_a_repository_is_fetched_alone(tmp_path, monkeypatch):
    import huggingface_hub

    from fc_bench.model.backbones.hub import cached, fetch

    reference, asked = "somebody/adapters/models/image_encoder", []
    snapshot = tmp_path / "snapshot"
    (snapshot / "models" / "image_encoder").mkdir(parents=True)
    (snapshot / "models" / "image_encoder" / "model.safetensors").touch()

    def download(repository, **how):
        asked.append((repository, how.get("allow_patterns")))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert fetch(reference, "ip_adapter_encoder", FAMILIES[0]) == snapshot / "models" / "image_encoder"
    (taken,) = asked
    assert taken[0] == "somebody/adapters"
    assert all(pattern.startswith("models/image_encoder/*.") for pattern in taken[1])
    assert cached(reference) == snapshot / "models" / "image_encoder"
    assert cached("somebody/adapters/other") is None
    command = hub_command("ip_adapter_encoder", reference)
    assert command.startswith("hf download somebody/adapters --include 'models/image_encoder/*.json'")
    assert hub_names("ip_adapter_encoder", reference) == [
        "models/image_encoder/config.json",
        "models/image_encoder/model.safetensors",
    ]


def test_only_what_a_pipeline_needs_is_taken_from_its_repository():
    from fnmatch import fnmatch

    from fc_bench.model.backbones.layouts import hub_patterns

    take, leave = hub_patterns("pipeline", family=FAMILIES[0])

    def taken(name: str) -> bool:
        return any(fnmatch(name, item) for item in take) and not any(fnmatch(name, item) for item in leave)

    assert all(taken(name) for name in hub_names("pipeline", "a/b", FAMILIES[0]))
    for name in (
        "v1-5-pruned-emaonly.safetensors",
        "v1-5-pruned.ckpt",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "safety_checker/model.safetensors",
    ):
        assert not taken(name)


def test_a_backbone_that_extends_another_leaves_image_features_out(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nextends: sd15\ndescription: without\nimage_features: null\n")
    mine, base = read_backbone(str(file)), read_backbone("sd15")
    assert base.components().keys() - mine.components().keys() == {"image_features"}
    assert "image_features" not in {**mine.licenses, **mine.fetch}
    assert mine.architecture_folder() == base.architecture_folder()


@pytest.mark.parametrize(("stored", "pickled"), [(None, False), ("config.json", True), ("model.safetensors", False)])
def test_the_command_asks_for_pickled_weights_once_the_cache_shows_no_others(
    variant, tmp_path, monkeypatch, stored, pickled
):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: cached())

    def cached() -> str:
        if stored is None:
            raise OSError("nothing is cached")
        (tmp_path / "snapshot").mkdir()
        (tmp_path / "snapshot" / stored).write_text("{}")
        return str(tmp_path / "snapshot")

    command = variant(clip="hub:somebody/clip").fetch_command("clip")
    assert "--include '*.safetensors'" in command
    assert ("--include '*.bin'" in command) == pickled
