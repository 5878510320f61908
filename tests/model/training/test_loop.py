"""Properties of training: the same weights whichever way one gets there, and only the trained parts change."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields as fields_of
from pathlib import Path

import pytest
import torch
import yaml
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file

from fc_bench.model import kernel_choice
from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.condition import Condition
from fc_bench.model.fastcomposer.forward import TrainingBatch
from fc_bench.model.fastcomposer.pipeline import load_fastcomposer
from fc_bench.model.training.__main__ import main
from fc_bench.model.training.config import OptimizerConfig, TrainingConfig, load_config
from fc_bench.model.training.loop import Training, learning_rate_factor, train

from ..conftest import GOLDEN


def configured(fields: dict, **changes: object) -> TrainingConfig:
    """The tiny training with some fields changed; a dictionary changes fields within its section."""
    merged = dict(fields)
    for name, value in changes.items():
        inner = merged.get(name)
        merged[name] = {**inner, **value} if isinstance(value, dict) and isinstance(inner, dict) else value
    return TrainingConfig.model_validate(merged)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": value
        for part in ("unet", "image_encoder", "postfuse_module")
        for file in (folder / part).glob("*.safetensors")
        for name, value in load_file(file).items()
    }


def assert_same(first: Path, second: Path) -> None:
    one, two = weights(first), weights(second)
    assert one
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def lines(config: TrainingConfig) -> list[dict]:
    return [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]


def test_resumed_training_equals_uninterrupted(config_fields: dict, tmp_path: Path) -> None:
    fields = {**config_fields, "gradient_accumulation": 2, "ema_decay": 0.9}
    whole = train(configured(fields, output=tmp_path / "whole", max_steps=4))
    train(configured(fields, output=tmp_path / "parts", max_steps=2))
    with (tmp_path / "parts" / "log.jsonl").open("a") as log:  # what a kill leaves: a step beyond, a cut line
        log.write('{"step": 3, "seconds": 9}\n{"step": 4, "sec')
    resumed = configured(fields, output=tmp_path / "parts", max_steps=4)
    parts = train(resumed, resume=True)
    assert_same(whole, parts)
    assert [line["step"] for line in lines(resumed)] == [1, 2, 3, 4]


def assert_same_batch(first: TrainingBatch, second: TrainingBatch) -> None:
    for field in fields_of(TrainingBatch):
        one, two = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, Condition):
            one, two = vars(one), vars(two)
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5, msg=field.name)


@pytest.mark.parametrize(
    "data", [{}, {"reference": "other-image", "p_text_only": 0.2}, {"augmentation": None, "variants": 1}]
)
def test_cached_batches_equal_batches_from_files(data: dict, config_fields: dict, tmp_path: Path) -> None:
    cached = Training(configured(config_fields, output=tmp_path / "cached", data=data), resume=False)
    files = Training(configured(config_fields, output=tmp_path / "files", data=data, cache=None), resume=False)
    sources = cached.source.batches(2), files.source.batches(2)
    subjects = 0
    for _ in range(6):
        one, two = next(sources[0]), next(sources[1])
        assert_same_batch(one, two)
        subjects += int(one.subject_mask.sum())
    assert subjects > 6


def test_cached_training_equals_training_from_files(config_fields: dict, tmp_path: Path) -> None:
    cached = configured(config_fields, output=tmp_path / "cached")
    files = configured(config_fields, output=tmp_path / "files", cache=None)
    train(cached)
    train(files)
    for one, two in zip(lines(cached), lines(files), strict=True):
        for name in ("denoising_loss", "localization_loss", "gradient_norm"):
            assert one[name] == pytest.approx(two[name], rel=1e-4, abs=1e-5), name


def test_cached_hidden_states_train_alike(config_fields: dict, tmp_path: Path) -> None:
    pixels = configured(config_fields, output=tmp_path / "pixels")
    folder = {"folder": tmp_path / "hidden-cache", "vision": True}
    hidden = configured(config_fields, output=tmp_path / "hidden", cache=folder)
    train(pixels)
    train(hidden)
    assert next(Training(hidden, resume=True).source.batches(0)).references.ndim == 3
    for one, two in zip(lines(pixels), lines(hidden), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
        assert one["gradient_norm"] == pytest.approx(two["gradient_norm"], rel=1e-4)


def test_cache_of_other_data_is_refused(config_fields: dict, tmp_path: Path) -> None:
    train(configured(config_fields, max_steps=1))
    other = configured(config_fields, output=tmp_path / "other", data={"background": "keep"})
    with pytest.raises(ModelInputError, match=r"different: data\)"):
        train(other)


def layer_of(name: str) -> int | str:
    """The vision layer of a weight, or its part."""
    return int(name.split("layers.")[1].split(".")[0]) if ".encoder.layers." in name else name.split(".")[0]


@pytest.mark.parametrize(("settings", "trained_layers"), [({}, {1, 2}), ({"vision_layers": 1}, {2})])
def test_just_the_last_vision_layers_change(settings: dict, trained_layers: set[int], config_fields: dict) -> None:
    training = Training(configured(config_fields, max_steps=1, **settings), resume=False)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    training.run()
    after = weights(training.config.output / "weights")
    assert after.keys() == before.keys()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {layer_of(name) for name in changed} == {"unet", "postfuse_module", *trained_layers}
    assert sum(name.startswith("postfuse_module.") for name in changed) == 14


@pytest.mark.parametrize("vision_layers", [0, 1, "all"])
def test_only_the_trained_parts_change(vision_layers: int | str, config_fields: dict) -> None:
    config = configured(config_fields, vision_layers=vision_layers, max_steps=1, cache=None)
    after = weights(train(config))
    before = {f"image_encoder.{k}": v for k, v in load_file(GOLDEN / "clip" / "model.safetensors").items()}
    before |= {f"unet.{k}": v for k, v in load_file(next((GOLDEN / "sd" / "unet").glob("*.safetensors"))).items()}
    last = 2
    for name, value in after.items():
        if name.startswith("postfuse_module."):
            continue
        layer = int(name.split("layers.")[1].split(".")[0]) if "encoder.layers." in name else -1
        trained = name.startswith("unet.") or vision_layers == "all" or (vision_layers == 1 and layer == last)
        if not trained:
            assert torch.equal(value, before[name]), name
    changed = [name for name, value in after.items() if name in before and not torch.equal(value, before[name])]
    assert any(name.startswith("unet.") for name in changed)
    assert any(name.startswith("image_encoder.") for name in changed) == (vision_layers != 0)


def test_gradient_checkpointing_changes_nothing(config_fields: dict, tmp_path: Path) -> None:
    fields = {**config_fields, "localization": {"weight": 1.0}}
    plain = configured(fields, output=tmp_path / "plain")
    saving = configured(fields, output=tmp_path / "saving", gradient_checkpointing=True)
    train(plain)
    train(saving)
    for one, two in zip(lines(plain), lines(saving), strict=True):
        assert one["localization_loss"] == pytest.approx(two["localization_loss"], rel=1e-5)
        assert one["gradient_norm"] == pytest.approx(two["gradient_norm"], rel=1e-5)


def test_attention_implementations_train_alike(config_fields: dict, tmp_path: Path) -> None:
    eager = configured(config_fields, output=tmp_path / "eager", attention="eager")
    train(eager)
    for how in ({"attention": "sdpa"}, {"attention": "mixed"}, {"memory_format": "channels-last"}):
        other = configured(config_fields, output=tmp_path / "-".join(how.values()), **how)
        train(other)
        for one, two in zip(lines(eager), lines(other), strict=True):
            assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
            assert one["gradient_norm"] == pytest.approx(two["gradient_norm"], rel=1e-3)


def test_a_resumed_training_keeps_the_kernels_that_were_chosen(
    config_fields: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(seconds: dict[str, float]) -> None:
        monkeypatch.setattr(kernel_choice, "_measured", lambda work: {one: seconds[one] for one in work.candidates})
        monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "-".join(map(str, seconds.values()))))
        kernel_choice._faster.cache_clear()

    monkeypatch.setattr(kernel_choice, "SMALL", 0)
    measured({"contiguous": 1.0, "channels-last": 0.5, "sdpa": 1.0, "mixed": 0.5})
    fields = {**config_fields, "checkpoint_every": 1}
    whole = weights(train(configured(fields, output=tmp_path / "whole")))
    train(configured(fields, output=tmp_path / "parts", max_steps=1))
    measured({"contiguous": 0.5, "channels-last": 1.0, "sdpa": 0.5, "mixed": 1.0})
    resumed = weights(train(configured(fields, output=tmp_path / "parts"), resume=True))
    written = yaml.safe_load((tmp_path / "parts" / "config.yaml").read_text())
    assert (written["attention"], written["memory_format"]) == ("mixed", "channels-last")
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    with pytest.raises(ModelInputError, match="other values of attention"):
        train(configured(fields, output=tmp_path / "parts", attention="sdpa"), resume=True)


def test_a_training_of_an_earlier_version_is_resumed_with_its_kernels(config_fields: dict, tmp_path: Path) -> None:
    fields = {**config_fields, "checkpoint_every": 1}
    whole = weights(train(configured(fields, output=tmp_path / "whole")))
    train(configured(fields, output=tmp_path / "parts", max_steps=1))
    file = tmp_path / "parts" / "config.yaml"
    written = yaml.safe_load(file.read_text())
    assert (written.pop("memory_format"), written["attention"]) == ("contiguous", "eager")
    file.write_text(yaml.safe_dump({**written, "attention": "auto"}))
    resumed = weights(train(configured(fields, output=tmp_path / "parts"), resume=True))
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_written_average_is_the_moving_average(config_fields: dict, tmp_path: Path) -> None:
    fields = {**config_fields, "checkpoint_every": 1, "keep_checkpoints": 9}
    final = weights(train(configured(fields, output=tmp_path / "last")))
    averaged = weights(train(configured(fields, output=tmp_path / "average", ema_decay=0.5)))
    name = "unet.conv_in.weight"
    steps = [
        load_file(tmp_path / "average" / "checkpoints" / f"step-{step:08d}" / "model.safetensors")[name]
        for step in (1, 2, 3)
    ]
    expected = steps[0].clone()
    tracker = EMAModel([torch.nn.Parameter(expected)], decay=0.5)
    for step, value in enumerate(steps, start=1):
        decay = tracker.get_decay(step)
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(averaged[name], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(final[name], steps[-1], rtol=0, atol=1e-6)
    assert not torch.equal(averaged[name], final[name])


def test_written_weights_load_as_a_pipeline(config_fields: dict) -> None:
    config = configured(config_fields, weights_dtype="float16", mixed_precision="bf16")
    folder = train(config)
    pipeline = load_fastcomposer(GOLDEN / "sd", folder)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.unet.dtype == torch.float32
    assert {value.dtype for value in weights(folder).values()} == {torch.float16}
    made = pipeline("a man in the snow", num_inference_steps=2, output_type="np").images
    assert made.shape == (1, 32, 32, 3)
    further = configured(config_fields, output=config.output.with_name("further"), initial=folder, max_steps=1)
    assert torch.equal(Training(further, resume=False).model.unet.conv_in.weight, pipeline.unet.conv_in.weight)


def test_training_lowers_the_loss_on_what_it_sees(config_fields: dict) -> None:
    config = configured(config_fields, max_steps=25, localization={"weight": 0.1}, p_masked_loss=0.0)
    train(config)
    losses = [line["denoising_loss"] for line in lines(config)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize("data", [{"p_unconditional": 1.0}, {"p_unconditional": 0.0, "p_text_only": 1.0}])
@pytest.mark.parametrize("normalization", ["pixels", "area"])
def test_batches_without_subjects_train(data: dict, normalization: str, config_fields: dict) -> None:
    config = configured(config_fields, max_steps=1, data=data, masked_loss_normalization=normalization)
    train(config)
    assert lines(config)[0]["localization_loss"] == 0
    assert torch.isfinite(torch.tensor(lines(config)[0]["gradient_norm"]))


def test_without_localization_no_attention_is_captured(config_fields: dict) -> None:
    config = configured(config_fields, max_steps=1, localization={"weight": 0.0})
    assert Training(config, resume=False).model.capture is None
    train(config)
    assert lines(config)[0]["loss"] == lines(config)[0]["denoising_loss"]


def test_time_budget_ends_training_and_survives_resumption(config_fields: dict) -> None:
    fields = {**config_fields, "max_steps": None, "log_every": 1}
    config = configured(fields, max_seconds=0.01)
    train(config)
    assert [line["step"] for line in lines(config)] == [1]
    train(config, resume=True)
    assert [line["step"] for line in lines(config)] == [1]
    train(configured(fields, max_seconds=None, max_steps=2), resume=True)
    assert [line["step"] for line in lines(config)] == [1, 2]
    progress = json.loads((config.output / "weights" / "training.json").read_text())
    assert progress["elapsed"] >= 0.01


def test_learning_rate_follows_steps_and_time(config_fields: dict) -> None:
    cosine = OptimizerConfig(schedule="cosine", warmup_steps=4, final_fraction=0.1)
    assert [learning_rate_factor(cosine, step, 0.0) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert learning_rate_factor(cosine, 9, 0.5) == pytest.approx(0.55)
    assert learning_rate_factor(cosine, 9, 1.0) == pytest.approx(0.1)
    assert learning_rate_factor(OptimizerConfig(), 9, 1.0) == 1.0
    rates = {"unet": 1e-3, "postfuse_module": 2e-3, "image_encoder": 3e-3}
    config = configured(config_fields, optimizer={"learning_rate": rates, "schedule": "cosine"})
    train(config)
    logged = [line["learning_rate"] for line in lines(config)]
    assert logged[0] == pytest.approx(rates)
    assert logged[1] == pytest.approx({part: 0.75 * rate for part, rate in rates.items()})


def test_worker_processes_change_nothing(config_fields: dict, tmp_path: Path) -> None:
    inline = configured(config_fields, output=tmp_path / "inline")
    workers = configured(config_fields, output=tmp_path / "workers", data={"workers": 1})
    assert_same(train(inline), train(workers))


def test_infinite_gradient_norm_trains_without_clipping_and_resumes(config_fields: dict) -> None:
    config = configured(config_fields, max_steps=1, optimizer={"clip": math.inf})
    train(config)
    assert lines(config)[0]["gradient_norm"] > 0
    train(configured(config_fields, max_steps=2, optimizer={"clip": None}), resume=True)
    assert [line["step"] for line in lines(config)] == [1, 2]


def test_broken_training_is_not_saved(config_fields: dict) -> None:
    rates = dict.fromkeys(("unet", "postfuse_module", "image_encoder"), 1e30)
    config = configured(config_fields, max_steps=4, optimizer={"learning_rate": rates})
    with pytest.raises(ModelInputError, match="no longer finite"):
        train(config)
    assert not (config.output / "weights").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"gradient_accumulation": 2}, {"masked_loss_normalization": "area", "stratified_timesteps": True}]
)
def test_two_processes_train_as_one_with_the_doubled_batch(settings: dict, config_fields: dict, tmp_path: Path) -> None:
    one = configured(config_fields, output=tmp_path / "one", batch_size=6, **settings)
    train(one)
    two = configured(config_fields, output=tmp_path / "two", batch_size=3, **settings)
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(json.loads(two.model_dump_json())))
    # --multi_gpu starts several processes; the configuration keeps them on the processor.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command += ["-m", "fc_bench.model.training", str(tmp_path / "two.yaml")]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert [line["samples"] for line in lines(two)] == [line["samples"] for line in lines(one)]
    for first, second in zip(lines(one), lines(two), strict=True):
        for name in ("denoising_loss", "localization_loss", "gradient_norm"):
            assert first[name] == pytest.approx(second[name], rel=1e-4), name


def test_earlier_training_is_not_overwritten(config_fields: dict) -> None:
    train(configured(config_fields, max_steps=1))
    with pytest.raises(ModelInputError, match="add --resume"):
        train(configured(config_fields, max_steps=2))
    with pytest.raises(ModelInputError, match="other values of batch_size"):
        train(configured(config_fields, max_steps=2, batch_size=2), resume=True)
    assert [line["step"] for line in lines(configured(config_fields))] == [1]


def test_resumed_average_moves_to_the_device(config_fields: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(config_fields, ema_decay=0.9, max_steps=1)
    train(config)
    calls = []
    load, move = EMAModel.load_state_dict, EMAModel.to
    monkeypatch.setattr(EMAModel, "load_state_dict", lambda self, state: (calls.append("load"), load(self, state))[1])
    monkeypatch.setattr(EMAModel, "to", lambda self, *place: (calls.append(f"to {place[0]}"), move(self, *place))[1])
    Training(config, resume=True)
    assert calls[-2:] == ["load", "to cpu"]


@pytest.mark.parametrize("last", [2, 4])
def test_broken_gradient_saves_nothing(last: int, config_fields: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(config_fields, max_steps=1)
    train(config)
    kept = weights(config.output / "weights")
    training = Training(configured(config_fields, max_steps=last), resume=True)
    clip, calls = training.accelerator.clip_grad_norm_, []

    def broken_once(*arguments: object) -> torch.Tensor:
        norm = clip(*arguments)
        calls.append(norm)
        return norm if len(calls) > 1 else torch.tensor(float("inf"))

    monkeypatch.setattr(training.accelerator, "clip_grad_norm_", broken_once)
    with pytest.raises(ModelInputError, match="no longer finite") as error:
        training.run()
    assert "\n" not in str(error.value)
    assert [folder.name for folder in (config.output / "checkpoints").iterdir()] == ["step-00000001"]
    after = weights(config.output / "weights")
    assert all(torch.equal(value, after[name]) for name, value in kept.items())


@pytest.mark.parametrize("killed", ["before the checkpoint", "between as of old"])
def test_weights_are_never_older_than_the_checkpoint(
    killed: str, config_fields: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(configured(config_fields, output=tmp_path / "whole", max_steps=2))
    config = configured(config_fields, max_steps=1)
    first = train(config)
    config = configured(config_fields, max_steps=2)
    if killed == "before the checkpoint":
        rename = Path.rename

        def kill_at_checkpoint(self: Path, target: Path) -> Path:
            if "step-" in str(target):
                raise KeyboardInterrupt
            return rename(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", kill_at_checkpoint)
            with pytest.raises(KeyboardInterrupt):
                train(config, resume=True)
        assert json.loads((first / "training.json").read_text())["step"] == 2
    else:
        kept = shutil.copytree(first, tmp_path / "kept")
        train(config, resume=True)
        shutil.rmtree(first)
        kept.rename(first)
    assert_same(train(config, resume=True), whole)
    assert json.loads((first / "training.json").read_text())["step"] == 2


@pytest.mark.parametrize("cached", [True, False])
def test_defect_found_by_a_worker_is_one_sentence(
    cached: bool, config_fields: dict, training_set: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(training_set, tmp_path / "data")
    for file in root.glob("*/*.npy"):
        file.unlink()
    changes = {} if cached else {"cache": None}
    config = configured(config_fields, data={"root": root, "workers": 1, "p_unconditional": 0.0}, **changes)
    with pytest.raises(ModelInputError, match=r"\.npy cannot be read") as error:
        train(config)
    assert "\n" not in str(error.value)


def test_segments_of_other_classes_are_no_subjects(config_fields: dict) -> None:
    training = Training(configured(config_fields, data={"labels": ["dog"], "p_unconditional": 0.0}), resume=False)
    assert not next(training.source.batches(0)).subject_mask.any()


def test_training_of_before_a_field_resumes(config_fields: dict) -> None:
    config = configured(config_fields, max_steps=1)
    train(config)
    file = config.output / "config.yaml"
    written = yaml.safe_load(file.read_text())
    del written["data"]["labels"]
    file.write_text(yaml.safe_dump(written))
    train(configured(config_fields, max_steps=2), resume=True)
    assert [line["step"] for line in lines(config)] == [1, 2]


def test_old_checkpoints_go(config_fields: dict) -> None:
    config = configured(config_fields, checkpoint_every=1, keep_checkpoints=2)
    train(config)
    names = sorted(folder.name for folder in (config.output / "checkpoints").iterdir())
    assert names == ["step-00000002", "step-00000003"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"nose": 1}, r'config\.yaml:\d+: unknown key "nose", known'),
        ({"batch_sise": 1}, r'config\.yaml:\d+: unknown key "batch_sise", did you mean "batch_size"'),
        ({"data": {"root": "data", "p_keep_subject": 2}}, r"data\.p_keep_subject"),
        ({"max_steps": None}, "max_steps or max_seconds is needed"),
        ({"data": {"root": "data"}, "cache": {"folder": "c"}}, r"needs data\.variants"),
        ({"vision_layers": "all", "cache": {"folder": "c", "vision": True}}, "frozen lower vision layers"),
        ({"data": {"root": "data", "reference_split": "x"}}, "needs reference: other-image"),
        ({"pipeline": "nowhere"}, "model folder .*nowhere does not exist"),
        ({"vision_layers": 9}, "9 vision layers cannot be trained"),
        ({"localization": {"groups": ["nose"]}}, "no cross-attention group nose"),
        ({"data": {"root": "nowhere", "variants": 1}}, r"nowhere/image_ids_train\.txt is missing"),
    ],
)
def test_command_tells_bad_input_in_one_line(
    change: dict, reason: str, config: TrainingConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    fields = json.loads(config.model_dump_json())
    fields["data"]["variants"] = 2
    file.write_text(yaml.safe_dump({**fields, **change}))
    assert main([str(file)]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    assert re.search(reason, message), message


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("pipeline: sd\nimage_encoder: /clip\noutput: out\nmax_steps: 1\ndata: {root: faces}\n")
    config = load_config(file)
    assert config.pipeline == tmp_path / "sd"
    assert config.image_encoder == Path("/clip")
    assert config.data.root == tmp_path / "faces"


def test_errors_name_the_line(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("pipeline: sd\nimage_encoder: clip\noutput: out\nmax_steps: 1\ndata:\n  root: x\n  worker: 2\n")
    with pytest.raises(ModelInputError, match=r'config\.yaml:7: unknown key "worker", did you mean "workers"'):
        load_config(file)


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "pipeline: 3"])
def test_unreadable_file_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ModelInputError, match=r"config\.yaml") as error:
        load_config(tmp_path / "config.yaml")
    assert "\n" not in str(error.value)
