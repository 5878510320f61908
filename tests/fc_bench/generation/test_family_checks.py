"""What a backbone's family does not support is refused in one sentence, before anything is generated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fc_bench.model.families.sdxl import StableDiffusionXL
from tests.model.original_layout import place_upsamplers, single_file_state, write_single_file


def refused(done: Any, folder: Path, *parts: str) -> None:
    assert (done.code, done.err.count("\n")) == (2, 1), done
    for part in parts:
        assert part in done.err, done.err
    assert not folder.exists()


@pytest.fixture
def lacking(monkeypatch, plugin) -> str:
    """A method that Stable Diffusion XL lacks."""
    monkeypatch.setattr(StableDiffusionXL, "lacks", {"paste": "faces cannot be pasted there"})
    return "paste"


LACKED = 'The method "paste" cannot run on tiny-sdxl: faces cannot be pasted there; leave it out or choose another'


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_method_that_the_family_lacks_is_refused(words, lacking, fc_bench, suite, tiny_sdxl_backbone, tmp_path):
    out = tmp_path / "run"
    command = ("run", suite, "--backbone", tiny_sdxl_backbone, "-m", "text-only", "-m", lacking, "--out", out, *words)
    refused(fc_bench(*command), out, LACKED)


def test_it_is_refused_before_random_weights_are_made(lacking, fc_bench, tmp_path, monkeypatch):
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    done = fc_bench("cost", "--backbone", "sdxl", "--random-weights", "-m", lacking, "--out", out)
    refused(done, out, 'The method "paste" cannot run on sdxl')
    assert not (tmp_path / "cache").exists()


def test_lists_and_validation_say_so(lacking, fc_bench, suite, tiny_sdxl_backbone, tiny_backbone, monkeypatch):
    assert LACKED in fc_bench("list", "methods", lacking, "--backbone", tiny_sdxl_backbone).out
    assert LACKED not in fc_bench("list", "methods", lacking, "--backbone", tiny_backbone).out
    monkeypatch.setattr(StableDiffusionXL, "lacks", {"dreambooth": "nobody trains it"})
    done = fc_bench("validate", suite, "--backbone", tiny_sdxl_backbone)
    assert done.code == 0, done
    printed = " ".join(done.out.split())
    assert 'dreambooth would refuse it: The method "dreambooth" cannot run on tiny-sdxl: nobody trains it' in printed


def test_run_cost_and_doctor_report_a_missing_second_text_encoder(fc_bench, suite, tiny_sdxl_backbone, tmp_path):
    shutil.copytree(tiny_sdxl_backbone.parent, tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "pipeline" / "text_encoder_2")
    backbone, out = tmp_path / "part" / tiny_sdxl_backbone.name, tmp_path / "run"
    missing = str(tmp_path / "part" / "pipeline" / "text_encoder_2" / "config.json")
    for command in (("run", suite, "-m", "text-only", "--out", out), ("cost", "-m", "text-only", "--out", out)):
        done = fc_bench(*command, "--backbone", backbone)
        sentence, remedy = done.err.splitlines()
        assert (done.code, missing in sentence, "doctor" in remedy) == (2, True, True), done
        assert not out.exists()
    refused(fc_bench("doctor", "--backbone", backbone), out, "2 files", missing)


@pytest.mark.parametrize(
    ("folder", "what"), [("tokenizer", "the text encoder"), ("tokenizer_2", "the second text encoder")]
)
def test_a_prompt_too_long_for_either_tokenizer_is_refused(folder, what, fc_bench, suite, tiny_sdxl_backbone, tmp_path):
    shutil.copytree(tiny_sdxl_backbone.parent, tmp_path / "short")
    file = tmp_path / "short" / "pipeline" / folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": 20}))
    backbone, out = tmp_path / "short" / tiny_sdxl_backbone.name, tmp_path / "run"
    done = fc_bench("run", suite, "--backbone", backbone, "-m", "text-only", "--out", out)
    refused(done, out, f'{what} of the backbone "tiny-sdxl" takes at most 20; shorten it.')


def test_validation_reports_a_negative_prompt_that_is_too_long(
    fc_bench, suite_data, write_suite, tiny_sdxl_backbone, tmp_path
):
    prompt = {"text": "a {subject}", "negative_prompt": "x" * 90}
    suite_data |= {"format": 2, "single": {"prompts": {"context": [prompt]}}}
    del suite_data["multi"]
    suite = write_suite(suite_data)
    done = fc_bench("validate", suite, "--backbone", tiny_sdxl_backbone)
    assert done.code == 2
    assert "Negative prompt: The prompt" in done.out + done.err, done


def test_cost_refuses_a_resolution_that_the_autoencoder_cannot_take(fc_bench, tiny_sdxl_backbone, tmp_path):
    shutil.copytree(tiny_sdxl_backbone.parent, tmp_path / "odd")
    backbone, out = tmp_path / "odd" / tiny_sdxl_backbone.name, tmp_path / "cost"
    backbone.write_text(yaml.safe_dump({**yaml.safe_load(backbone.read_text()), "resolution": 72}))
    file = tmp_path / "odd" / "pipeline" / "vae" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "block_out_channels": [*config["block_out_channels"], 8]}))
    done = fc_bench("cost", "--backbone", backbone, "-m", "text-only", "--out", out)
    refused(done, out, "Images of 72 x 72 pixels cannot be made")


@pytest.fixture
def extending(tiny_backbone, tmp_path, monkeypatch):
    """A backbone file that extends a built-in one, with a given pipeline and the tiny scorers."""
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "cache"))
    tiny = yaml.safe_load(tiny_backbone.read_text())
    tiny["faces"]["pack"] = str(tiny_backbone.parent / "faces")

    def write(base: str, pipeline: Path, **changes: Any) -> Path:
        own = {"name": "own", "extends": base, "description": "own", "pipeline": str(pipeline)}
        scorers = {"clip": str(tiny_backbone.parent / "clip"), "faces": tiny["faces"], "sampler": tiny["sampler"]}
        file = tmp_path / "own.yaml"
        file.write_text(yaml.safe_dump({**own, **scorers, "resolution": 64, **changes}))
        return file

    return write


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
def test_a_pipeline_of_the_other_family_is_refused(
    base, fc_bench, suite, extending, tiny_backbone, tiny_sdxl_backbone, tmp_path
):
    other = {"sd15": tiny_sdxl_backbone, "sdxl": tiny_backbone}[base].parent / "pipeline"
    titles = ["Stable Diffusion XL", "Stable Diffusion v1.x"]
    found, declared = titles if base == "sd15" else reversed(titles)
    backbone, out = extending(base, other), tmp_path / "run"
    told = (f"is {found}, but the backbone", f"declares the architecture of {declared}", f"than {base}.")
    refused(fc_bench("run", suite, "--backbone", backbone, "-m", "text-only", "--out", out), out, *told)
    refused(fc_bench("doctor", "--backbone", backbone), out, *told)


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
def test_a_single_file_of_the_other_family_is_refused(
    base, fc_bench, suite, extending, tiny_backbone, tiny_sdxl_backbone, tmp_path
):
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    kind, source = {
        "sd15": (StableDiffusionXLPipeline, tiny_sdxl_backbone),
        "sdxl": (StableDiffusionPipeline, tiny_backbone),
    }[base]
    stock: Any = kind.from_pretrained(source.parent / "pipeline")
    state = place_upsamplers(single_file_state(stock.unet, stock.vae, stock.text_encoder))
    if base == "sd15":
        begins = "cond_stage_model.transformer.text_model."
        theirs = "conditioner.embedders.0.transformer.text_model."
        state = {name.replace(begins, theirs): value for name, value in state.items()}
    backbone = extending(base, write_single_file(state, tmp_path / "other.safetensors", torch.float32))
    title = {"sd15": "Stable Diffusion v1.x", "sdxl": "Stable Diffusion XL"}[base]
    out = tmp_path / "run"
    done = fc_bench("run", suite, "--backbone", backbone, "-m", "text-only", "--out", out)
    refused(done, out, "other.safetensors", f"is not a checkpoint of {title}")


@pytest.mark.parametrize(("side", "size"), [(72, None), (64, (64, 72)), (64, None)])
def test_sizes_that_the_autoencoder_cannot_take_are_refused(
    side, size, fc_bench, suite_data, write_suite, tiny_sdxl_backbone, tmp_path
):
    shutil.copytree(tiny_sdxl_backbone.parent, tmp_path / "deep")
    file = tmp_path / "deep" / "pipeline" / "vae" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "block_out_channels": [*config["block_out_channels"], 8]}))
    prompt = {"text": "a {subject}"} | ({} if size is None else {"size": list(size)})
    suite_data |= {"format": 2, "sampler": {"resolution": side}, "single": {"prompts": {"context": [prompt]}}}
    del suite_data["multi"]
    out = tmp_path / "run"
    command = ("run", write_suite(suite_data), "-m", "text-only", "--out", out)
    done = fc_bench(*command, "--backbone", tmp_path / "deep" / tiny_sdxl_backbone.name, "--dry-run")
    if size is None and side == 64:
        assert done.code == 0, done
    else:
        width, height = size or (side, side)
        refused(done, out, f"Images of {width} x {height} pixels cannot be made", "multiples of 16 pixels")
        checked = fc_bench("validate", command[1], "--backbone", tmp_path / "deep" / tiny_sdxl_backbone.name)
        assert checked.code == 2
        assert f"Images of {width} x {height} pixels cannot be made" in " ".join(checked.err.split()), checked


@pytest.mark.parametrize("side", [24, 72])
def test_latents_that_the_denoiser_cannot_halve_are_no_obstacle(
    side, fc_bench, suite_data, write_suite, tiny_backbone, tiny_sdxl_backbone, tmp_path
):
    suite_data |= {"subjects": suite_data["subjects"][:1], "sampler": {"resolution": side}}
    suite_data["single"]["prompts"] = {"context": ["a {subject}"]}
    del suite_data["multi"]
    for backbone in (tiny_backbone, tiny_sdxl_backbone):
        out = tmp_path / backbone.stem
        done = fc_bench("run", write_suite(suite_data), "--backbone", backbone, "-m", "text-only", "--out", out)
        assert done.code == 0, done


def test_sdxl_is_extended_for_smaller_images(
    fc_bench, extending, suite_data, write_suite, tiny_sdxl_backbone, tmp_path
):
    from PIL import Image

    suite_data["single"]["prompts"] = {"context": ["a {subject}"]}
    suite_data["subjects"] = suite_data["subjects"][:1]
    del suite_data["multi"]
    backbone = extending("sdxl", tiny_sdxl_backbone.parent / "pipeline", resolution=32)
    out = tmp_path / "run"
    done = fc_bench("run", write_suite(suite_data), "--backbone", backbone, "-m", "text-only", "--out", out)
    assert done.code == 0, done
    images = list(out.glob("images/**/*.png"))
    assert images
    assert {Image.open(file).size for file in images} == {(32, 32)}


def test_doctor_names_what_sdxl_needs_with_licenses_and_commands(fc_bench, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("COLUMNS", "400")
    done = fc_bench("doctor", "--backbone", "sdxl")
    assert (done.code, done.err.count("\n")) == (2, 1), done
    for encoder in ("text_encoder", "text_encoder_2"):
        assert f"hub:stabilityai/stable-diffusion-xl-base-1.0/{encoder}/model.fp16.safetensors" in done.out
    assert "CreativeML Open RAIL++-M" in done.out
    assert "pipeline: hf download stabilityai/stable-diffusion-xl-base-1.0 --include model_index.json" in done.out


def test_doctor_is_content_with_a_complete_pipeline_of_two_encoders(fc_bench, tiny_sdxl_backbone):
    done = fc_bench("doctor", "--backbone", tiny_sdxl_backbone)
    assert (done.code, done.err) == (0, ""), done
    assert "text_encoder_2" in done.out
