"""A cost run from end to end on the tiny backbone: resumable, extrapolated, never ended by one measurement."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from fc_bench.cost.measurement import TEMPLATE
from fc_bench.cost.records import PHASES
from fc_bench.cost.results import method_costs
from fc_bench.run_folder.records import RunFolder

GIB = 2**30


def out_of_memory(task: dict[str, Any]) -> dict[str, Any]:
    error = {"type": "MemoryError", "message": "it used too much", "traceback": ""}
    return {"status": "out of memory", "used_bytes": 3 * GIB, "error": error}


def failed(task: dict[str, Any]) -> dict[str, Any]:
    return {"status": "error", "error": {"type": "ValueError", "message": "diverged", "traceback": "..."}}


def by_method(path: Path) -> dict[str, Any]:
    return {cost.name: cost for cost in method_costs(RunFolder(path))}


def test_all_phases_of_all_kinds_of_methods_are_measured_and_reported(
    cost, tuned, measured_here, tmp_path, records, monkeypatch
):
    def shared(*_: object, **__: object) -> None:
        raise AssertionError("an image whose cost is measured shares nothing")

    monkeypatch.setattr("fc_bench.baselines.fastcomposer.FastComposer.prefix", shared)
    done = cost("-m", "text-only", "-m", "fastcomposer", *tuned("custom-diffusion"), "--budget", "0.1s")
    assert done.code == 0, done.err
    assert measured_here.made[:2] == [("fastcomposer", "customize"), ("custom-diffusion", "customize")]
    assert {phase for _, phase in measured_here.made} >= {"customize", "step", "first_image"}
    lines = records(tmp_path / "cost" / "measurements.jsonl")
    (tuned_label,) = {line["method"] for line in lines if line["method"].startswith("custom")}
    assert {(line["method"], line["phase"]) for line in lines} >= {
        (method, phase) for method in ("text-only", "fastcomposer", tuned_label) for phase in ("step", "image")
    }
    costs = by_method(tmp_path / "cost")
    assert costs["text-only"].customize is None
    assert (costs["fastcomposer"].artefact_bytes, costs["fastcomposer"].training_step) == (0, None)
    tuning = costs["custom-diffusion"]
    assert (tuning.steps, tuning.artefact_bytes > 0, tuning.restore.n) == (9, True, tuning.load.n - 1)
    assert tuning.class_images.value > 6 * costs["text-only"].image.value
    for found in costs.values():
        assert found.image.value > 0
        assert found.step.value > 0
        assert found.load.n >= 3 - (found.method == "text-only")
        assert found.peak > 2**20
    for words in (
        "text-only",
        "Seconds per image",
        "Break-even",
        "Speed-up of fastcomposer",
        "300x to 2,500x",
        "Storage",
    ):
        assert words in done.out
    report = tmp_path / "cost" / "report"
    table = (report / "cost.md").read_text()
    assert "| identity preservation ↑ | prompt consistency ↑ |" in table
    assert "The quality columns are empty: no metric runs where costs are measured" in table
    amortised = list(csv.DictReader((report / "amortised.csv").open()))
    assert {row["images_per_subject"] for row in amortised} >= {"1", "10", "100", "1000", "10000"}
    assert not (tmp_path / "cost" / "artefacts").exists()


def test_the_same_command_makes_only_what_is_missing(cost, launches, tmp_path, records):
    asked = ("-m", "text-only", "-m", "fastcomposer", "--budget", "0.1s")

    def interrupted(task):
        raise KeyboardInterrupt

    launches.replies["text-only", "first_image"] = interrupted
    assert cost(*asked).code == 130
    kept = records(tmp_path / "cost" / "measurements.jsonl")
    assert [(line["method"], line["phase"]) for line in kept] == [
        ("fastcomposer", "customize"),
        ("text-only", "step"),
        ("fastcomposer", "step"),
    ]
    launches.replies.clear()
    launches.tasks.clear()
    assert cost(*asked).code == 0
    assert launches.made[0] == ("text-only", "first_image")
    assert set(launches.made) <= {(name, phase) for name in ("text-only", "fastcomposer") for phase in PHASES[2:]}
    lines = records(tmp_path / "cost" / "measurements.jsonl")
    assert lines[:3] == kept
    launches.tasks.clear()
    assert cost(*asked).code == 0
    assert launches.tasks == []
    assert records(tmp_path / "cost" / "measurements.jsonl") == lines
    commands = json.loads((tmp_path / "cost" / "run.json").read_text())["commands"]
    assert len(commands) == 3


def test_a_larger_budget_measures_whole_what_was_extrapolated(cost, tuned, launches, tmp_path):
    asked = tuned("textual-inversion", steps=40)
    assert cost(*asked, "--budget", "0.1s").code == 0
    first = by_method(tmp_path / "cost")["textual-inversion"]
    assert (first.steps_taken, first.customize.extrapolated) == (4, True)
    assert first.customize.value == pytest.approx(1 + 0.1 * 40)
    launches.tasks.clear()
    assert cost(*asked, "--budget", "20s").code == 0
    assert launches.made[0] == ("textual-inversion", "customize")
    assert ("textual-inversion", "step") not in launches.made
    whole = by_method(tmp_path / "cost")["textual-inversion"]
    assert (whole.steps_taken, whole.customize.extrapolated) == (40, False)
    assert whole.image.value == pytest.approx(1 + 0.1 * 2)


def test_what_every_process_is_told_is_the_same_question(cost, tuned, launches, tmp_path):
    launches.reply = failed
    assert cost("-m", "text-only", *tuned("dreambooth"), "--budget", "0.1s", "--dtype", "bfloat16").code == 4
    assert len(launches.tasks) == 4
    for task in launches.tasks:
        assert (task["dtype"], task["device"], task["template"]) == ("bfloat16", "cpu", TEMPLATE)
        assert task["subject"]["id"] == "p01"
        assert len(task["subject"]["photographs"]) == 5
        assert task["memory_limit"] > 2**28
    settings = json.loads((tmp_path / "cost" / "run.json").read_text())
    assert (settings["kind"], settings["dtype"], settings["batch"]) == ("cost", "bfloat16", 1)
    assert {"processor", "cores", "torch_threads", "accelerators"} == set(settings["machine"])
    (command,) = settings["commands"]
    assert {"command", "started", "budget_seconds", "code", "versions", "hardware"} == set(command)


@pytest.mark.parametrize("name", ["textual-inversion", "dreambooth", "dreambooth-lora", "custom-diffusion"])
def test_tuning_is_seen_step_by_step_and_beside_stand_ins_for_class_images(
    cost, tuned, measured_here, only, tmp_path, records, name, monkeypatch
):
    only("customize")
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "cache"))
    assert cost(*tuned(name), "--budget", "0.1s").code == 0
    lines = records(tmp_path / "cost" / "measurements.jsonl")
    tuning = lines[0]
    first = tuning["calls"][0]
    assert tuning["status"] == "ok", tuning
    assert tuning["steps_asked"] == 9
    assert first["steps"] == len(first["step_seconds"]) + 1 >= 4
    assert first["steps"] == min(1 + 3 * tuning["step_period"], 9)
    assert sum(first["step_seconds"]) < first["seconds"]
    if name == "textual-inversion":
        assert tuning["class_images"] is None
        assert first["shared_seconds"] == 0
    else:
        assert tuning["class_images"] == {"used": 4, "asked": 6}
        assert first["shared_seconds"] > 0
    assert tuning["artefact"]["dtypes"] == ["F32"]
    assert not (tmp_path / "cache").exists()  # nothing was drawn


def test_out_of_memory_is_that_cell_s_result_and_the_saving_option_is_tried(
    cost, tuned, launches, only, tmp_path, records
):
    only("customize", "step")
    told = launches.reply
    launches.replies["dreambooth", "customize"] = lambda task: (
        out_of_memory(task) if not task["options"]["gradient_checkpointing"] else told(task)
    )
    done = cost(*tuned("dreambooth"), "--budget", "0.1s")
    assert done.code == 0, done.err
    lines = records(tmp_path / "cost" / "measurements.jsonl")
    assert [line["status"] for line in lines[:2]] == ["out of memory", "ok"]
    assert lines[1]["options_changed"] == {"gradient_checkpointing": True}
    assert all(task["options"]["gradient_checkpointing"] for task in launches.tasks[1:])
    note = "customized with gradient_checkpointing = True, after it ran out of memory at 3.0 GiB without"
    assert f"]: {note}." in done.out
    launches.tasks.clear()
    assert cost(*tuned("dreambooth"), "--budget", "0.1s").code == 0
    assert launches.tasks == []


def test_a_method_that_does_not_fit_at_all_leaves_the_others_alone(cost, tuned, launches, tmp_path):
    launches.replies["dreambooth", "customize"] = out_of_memory
    asked = (*tuned("dreambooth"), "-m", "text-only", "--budget", "0.1s")
    done = cost(*asked)
    assert done.code == 0, done.err
    assert launches.made.count(("dreambooth", "customize")) == 2
    assert not [phase for name, phase in launches.made if name == "dreambooth" and phase != "customize"]
    costs = by_method(tmp_path / "cost")
    assert costs["dreambooth"].customize is None
    assert costs["dreambooth"].failures == {"customize": "out of memory at 3.0 GiB"}
    assert costs["text-only"].image is not None
    row = next(line for line in (tmp_path / "cost/report/cost.md").read_text().splitlines() if "| dreambooth[" in line)
    assert "| – |" in row
    assert "| out of memory |" in row
    assert "| 0 |" not in row


def test_a_failure_is_told_and_made_again_when_asked(cost, launches, only, tmp_path):
    only("customize", "step")
    launches.replies["fastcomposer", "step"] = failed
    asked = ("-m", "fastcomposer", "-m", "text-only", "--budget", "0.1s")
    done = cost(*asked)
    assert done.code == 4
    assert "1 measurements failed" in done.err
    assert "fastcomposer: step: diverged." in done.out
    launches.replies.clear()
    launches.tasks.clear()
    assert cost(*asked).code == 4
    assert launches.tasks == []
    assert cost(*asked, "--retry-errors").code == 0
    assert launches.made == [("fastcomposer", "step")]


def test_a_disk_that_takes_no_more_ends_the_run_with_nothing_lost(cost, launches, tmp_path, records):
    launches.replies["fastcomposer", "step"] = lambda task: {**failed(task), "disk_refused": "No space left on device"}
    done = cost("-m", "fastcomposer", "--budget", "0.1s")
    assert done.code == 2
    assert "No space left on device" in done.err
    assert "make room" in done.err
    assert [line["phase"] for line in records(tmp_path / "cost" / "measurements.jsonl")] == ["customize"]


def test_a_plug_in_without_steps_or_schedulers_is_measured_whole_in_processes_of_its_own(
    cost, plugin, only, tmp_path, records
):
    only("customize", "image")
    done = cost("-m", "collage", "-o", "collage.seconds=0.01", "--budget", "0.1s")
    assert done.code == 0, done.err
    lines = records(tmp_path / "cost" / "measurements.jsonl")
    assert [line["phase"] for line in lines] == ["customize", "image"]
    assert lines[0]["process_seconds"] != lines[1]["process_seconds"]
    assert lines[0]["load"]["seconds"] != lines[1]["load"]["seconds"]
    assert all(line["calls"][0]["step_seconds"] == [] for line in lines)
    found = by_method(tmp_path / "cost")["collage"]
    assert (found.steps, found.training_step, found.step) == (None, None, None)
    assert found.image.value >= 0.01
    assert not found.image.extrapolated
    assert found.artefact_bytes > 0
    assert (tmp_path / "cost" / "log.txt").read_text().count("== collage") == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "dreambot"], 'Unknown method "dreambot", did you mean "dreambooth"?'),
        (["--budget", "soon"], "'soon' is not a duration: write it like 90s, 30m or 2h"),
        (["--dtype", "int8"], '"int8" is not a number format; give float32, bfloat16 or float16.'),
        (["-m", "text-only", "-o", "dreambooth.steps=3"], 'An option is given for "dreambooth"'),
        (["-m", "dreambooth", "-o", "dreambooth.stepz=3"], 'has no option "stepz", did you mean "steps"?'),
        (["--random-weights"], 'The backbone "tiny" declares no architecture'),
        (["--device", "tpu"], '"tpu" is not a device'),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_measured(cost, launches, tmp_path, arguments, words):
    done = cost(*arguments)
    assert done.code == 2
    assert words in done.err
    assert done.err.count("\n") == 1
    assert launches.tasks == []
    assert not (tmp_path / "cost").exists()


def test_missing_weights_say_that_random_ones_would_do(cost, launches, tmp_path, monkeypatch):
    import yaml

    file = tmp_path / "own.yaml"
    own = {"name": "own", "extends": "sd15", "description": "Weights of one's own", "pipeline": "nowhere"}
    file.write_text(yaml.safe_dump(own))
    done = cost("-m", "text-only", backbone=file)
    assert done.code == 2
    assert "are missing" in done.err
    assert "Or measure its architecture with --random-weights." in done.err


def test_measurements_that_do_not_compare_are_not_mixed(cost, launches, tmp_path, monkeypatch):
    from fc_bench.cost import measurement

    assert cost("-m", "text-only", "--budget", "0.1s").code == 0
    done = cost("-m", "text-only", "--budget", "0.1s", "--dtype", "bfloat16")
    assert (done.code, "with another number format, which are not comparable" in done.err) == (2, True)
    machine = {**measurement.hardware(), "processor": "another"}
    monkeypatch.setattr(measurement, "hardware", lambda: machine)
    done = cost("-m", "text-only", "--budget", "0.1s")
    assert (done.code, "on another machine" in done.err) == (2, True)


def test_folders_of_another_kind_are_told_apart(cost, fc_bench, launches, tmp_path):
    assert cost("-m", "text-only", "--budget", "0.1s").code == 0
    shown = fc_bench("report", tmp_path / "cost")
    assert shown.code == 0
    assert "Cost on tiny" in shown.out
    done = fc_bench("compare", tmp_path / "cost", tmp_path / "cost")
    assert done.code == 2
    assert "is a cost run, not a quality run" in done.err
    (tmp_path / "cost" / "run.json").write_text('{"format": 1}')
    done = cost("-m", "text-only")
    assert (done.code, "is a quality run, not a cost run" in done.err) == (2, True)


def test_help_tells_the_budget(fc_bench):
    assert "extrapolated" in fc_bench("cost", "--help").out
