"""`fc-bench train fastcomposer`: a folder that is a backbone, validated on the way, resumed where it was."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.run_folder.lock import held


@pytest.fixture
def recipe(tiny_backbone: Path, suite: Path, config_fields: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """A recipe on a copy of the tiny backbone without a FastComposer; some fields changed."""
    data = yaml.safe_load(tiny_backbone.read_text())
    del data["fastcomposer"]
    data |= {"pipeline": str(tiny_backbone.parent / "pipeline"), "clip": "clip"}
    shutil.copytree(tiny_backbone.parent / "clip", tmp_path / "clip")
    config = json.loads((tmp_path / "clip" / "config.json").read_text())
    config["vision_config"]["projection_dim"] = config["projection_dim"]  # as published ones have it
    (tmp_path / "clip" / "config.json").write_text(json.dumps(config))
    data["faces"]["pack"] = str(tiny_backbone.parent / "faces")
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**data, "name": "base"}))

    def write(**changes: Any) -> Path:
        fields = json.loads(json.dumps(config_fields, default=str))
        own = {key: value for key, value in fields.items() if key not in ("pipeline", "image_encoder")}
        own |= {
            "backbone": "base.yaml",
            "localization": {"groups": 1},
            "output": "trained",
            "checkpoint_every": 2,
            "max_steps": 4,
        }
        own |= {"validation": {"suite": str(suite), "subjects": 2, "prompts": 2}}
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump({**own, **changes}))
        return file

    return write


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_result_is_a_backbone_validated_on_the_way(fc_bench, recipe, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = fc_bench("train", "fastcomposer", recipe(tensorboard=True))
    assert done.code == 0, done.err
    output = tmp_path / "trained"
    validated = lines(output / "validation.jsonl")
    assert [line["step"] for line in validated] == [2, 4]
    # Two people alone and as a pair, two prompts each but for the pair's one.
    assert {line["images"] for line in validated} == {5}
    assert all(0 <= line["prompt_consistency"] <= 1 for line in validated)
    assert [file.name for file in sorted((output / "validation").iterdir())] == [
        "step-00000002.png",
        "step-00000004.png",
    ]
    events = EventAccumulator(str(output / "tensorboard"))
    events.Reload()
    assert {"denoising_loss", "gradient_norm", "validation/identity"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("validation/prompt_consistency")] == [2, 4]
    assert [event.step for event in events.Images("validation")] == [2, 4]
    with Image.open(output / "curves.png") as curves:
        assert curves.width > 400
    backbone = read_backbone(str(output))
    assert backbone.name == "trained"
    assert backbone.path(backbone.variant(None)) == output / "weights"
    assert all(backbone.missing_files(component) == [] for component in backbone.components())
    prompt = "a {ann} and a {bob}"
    people = [
        word
        for name, noun in (("ann", "woman"), ("bob", "man"))
        for word in ("-s", f"{name}={tmp_path / 'suite' / 'people' / f'{name}-1.png'}:{noun}")
    ]
    made = fc_bench("compose", prompt, *people, "--backbone", output, "-n", 1, "--out", tmp_path / "made")
    assert made.code == 0, made.err


def test_resuming_goes_on_and_leaves_each_step_once(fc_bench, recipe, tmp_path):
    file = recipe()
    assert fc_bench("train", "fastcomposer", file, "--max-steps", 2).code == 0
    refused = fc_bench("train", "fastcomposer", file)
    assert refused.code == 2
    assert "add --resume" in refused.err
    assert fc_bench("train", "fastcomposer", file, "--resume").code == 0
    assert [line["step"] for line in lines(tmp_path / "trained" / "validation.jsonl")] == [2, 4]
    assert [line["step"] for line in lines(tmp_path / "trained" / "log.jsonl")] == [1, 2, 3, 4]


def test_validating_changes_no_weight_and_its_failure_ends_no_training(fc_bench, recipe, tmp_path, monkeypatch):
    from safetensors.torch import load_file

    from fc_bench.commands import train as training

    def fail(*_: object) -> None:
        raise RuntimeError("no such device")

    assert fc_bench("train", "fastcomposer", recipe()).code == 0
    monkeypatch.setattr(training.Validation, "_validate", fail)
    assert fc_bench("train", "fastcomposer", recipe(), "--out", tmp_path / "other").code == 0
    one, two = (
        load_file(tmp_path / name / "weights" / "unet" / "diffusion_pytorch_model.safetensors")
        for name in ("trained", "other")
    )
    assert all((one[key] == two[key]).all() for key in one)
    assert not (tmp_path / "other" / "validation.jsonl").exists()


@pytest.mark.slow
def test_several_processes_train_together_and_say_the_result_once(recipe, tmp_path):
    command = [sys.executable, "-m", "fc_bench.cli", "train", "fastcomposer", str(recipe()), "--processes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is a backbone") == 1
    assert [line["samples"] for line in lines(tmp_path / "trained" / "log.jsonl")] == [6, 12, 18, 24]
    assert [line["step"] for line in lines(tmp_path / "trained" / "validation.jsonl")] == [2, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"root": "nowhere", "variants": 1}, "validation": None}, "nowhere/image_ids_train.txt is missing"),
        ({"validation": {"suite": "pockett"}}, "did you mean"),
    ],
)
def test_an_error_of_every_process_is_reported_once_and_none_is_started(
    fc_bench, recipe, monkeypatch, changes, message
):
    from fc_bench.cli import train

    monkeypatch.setattr(train, "_launch", None)
    done = fc_bench("train", "fastcomposer", recipe(**changes), "--processes", 2)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("fc-bench: ") == 1
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("script", "code", "told"),
    [
        ('echo "fc-bench: no." >&2; exit 2', 2, "fc-bench: no.\n"),
        ('[ $RANK = 0 ] && exec sleep 600; echo "fc-bench: no." >&2; exit 3', 3, "fc-bench: no.\n"),
        ('[ $RANK = 1 ] && exec sleep 600; trap "" TERM; kill -KILL $$', 137, "process 0 of 2 was ended by SIGKILL"),
        ('trap "echo fc-bench: interrupted >&2; exit 143" TERM; [ $RANK = 0 ] && exit 4; sleep 1', 4, ""),
        ('[ "$WORLD_SIZE $LOCAL_RANK $*" = "2 $RANK -m fc_bench.cli train x --resume" ]', 0, ""),
    ],
)
def test_the_first_process_to_fail_ends_the_others_and_gives_the_code(
    tmp_path, monkeypatch, capsys, script, code, told
):
    from fc_bench.cli import train

    file = tmp_path / "python"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(file))
    assert train._launch(2, ["train", "x", "--processes", "2", "--resume"]) == code
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == bool(told)


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"batch_sise": 3}, [], 'did you mean "batch_size"'),
        ({"backbone": "nowhere.yaml"}, [], "nowhere.yaml"),
        ({"validation": {"suite": "pockett"}}, [], "did you mean"),
        ({"validation": {"suite": "fastcomposer-single"}}, [], "has no photographs of its own"),
        ({"validation": {"suite": "pocket", "options": {"alpha": 3}}}, [], "The options of the validation: alpha: "),
        ({"render": {"pictures": 10}}, [], "leave it out on base"),
        ({}, ["--budget", "soon"], "soon"),
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_is_trained(fc_bench, recipe, tmp_path, changes, arguments, message):
    done = fc_bench("train", "fastcomposer", recipe(**changes), *arguments)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "trained").exists()


def test_prompts_that_the_validation_would_cut_off_are_refused_before_anything_is_trained(
    fc_bench, recipe, suite_data, write_suite, tmp_path
):
    suite_data["single"]["prompts"] = {"style": ["a {subject} " + "x" * 80]}
    done = fc_bench("train", "fastcomposer", recipe(validation={"suite": str(write_suite(suite_data))}))
    assert done.code == 2
    assert "The validation cannot run: the prompt" in done.err
    assert not (tmp_path / "trained").exists()


def test_an_interrupted_training_says_how_it_goes_on(fc_bench, recipe, monkeypatch):
    from fc_bench.commands import train as training

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_fastcomposer", interrupted)
    told = [fc_bench("train", "fastcomposer", recipe(), *arguments).err for arguments in ([], ["--resume"])]
    assert told[0].endswith("interrupted; the same command with --resume continues.\n")
    assert told[1].endswith("interrupted; the same command continues.\n")


def test_a_second_process_on_the_folder_learns_who_trains_there(fc_bench, recipe, tmp_path):
    with held(tmp_path / "trained"):
        done = fc_bench("train", "fastcomposer", recipe(validation=None))
    assert done.code == 2
    assert "Another process is working in" in done.err
    assert not (tmp_path / "trained" / "config.yaml").exists()


def test_only_fastcomposer_is_trained_ahead_of_its_subjects(fc_bench, recipe):
    assert "give fastcomposer" in fc_bench("train", "dreambooth", recipe()).err
    assert 'did you mean "pocket"' in fc_bench("train", "fastcomposer", "pockt").err


@pytest.mark.parametrize("name", ["pocket", "ffhq", "sdxl", "sdxl-lora"])
def test_shipped_recipes_are_well_formed(name):
    from fc_bench.commands.train import RECIPES, TrainingFile
    from fc_bench.model.yaml_file import read_yaml

    file = read_yaml(RECIPES / f"{name}.yaml", TrainingFile)
    backbone = read_backbone(file.backbone)
    assert file.data.resolution == backbone.resolution
    if backbone.name == "sdxl":
        assert {"sdxl": None, "sdxl-lora": 64}[name] == (file.lora and file.lora.rank)
        assert file.gradient_checkpointing
    if name == "ffhq":  # the paper's, arXiv 2305.10431, section 5.1
        assert file.batch_size * file.gradient_accumulation * 8 == 128
        assert file.max_steps == 150_000
        assert (file.localization.weight, file.localization.groups) == (1e-3, 5)
        assert (file.p_masked_loss, file.masked_loss_normalization) == (0.5, "pixels")
        assert (file.data.p_unconditional, file.data.p_keep_subject, file.data.p_text_only) == (0.1, 0.9, 0)
        assert (file.data.resolution, file.data.reference, file.vision_layers) == (512, "same-image", 2)
        assert file.data.labels == ("person",)
        assert set(file.optimizer.learning_rate.model_dump().values()) == {1e-5}
        assert (file.optimizer.weight_decay, file.optimizer.clip, file.optimizer.schedule) == (1e-2, 1.0, "constant")


def test_the_validation_inspects_photographs_and_gets_their_squares(recipe, suite, portrait, tmp_path):
    from PIL import Image

    from fc_bench.commands.train import Validation, prepare
    from fc_bench.errors import UserError

    people = suite.parent / "people"
    tall = Image.new("RGB", (128, 200), (120, 120, 120))
    tall.paste(portrait((250, 20, 20)), (0, 0))
    tall.save(people / "ann-1.png")
    prepared = prepare(str(recipe()))
    assert prepared.file.validation is not None
    Validation(prepared, prepared.file.validation)
    with Image.open(tmp_path / "trained" / "photographs" / "ann" / "1-ann-1.png") as square:
        assert square.size == (128, 128)
    (people / "bob-1.png").write_bytes((people / "ann-1.png").read_bytes())
    with pytest.raises(UserError, match="are the same picture"):
        Validation(prepared, prepared.file.validation)
