"""A whole run on the tiny world, through the command line: what it writes and how it takes failures."""

from __future__ import annotations

import csv
import json
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fc_bench.commands.session import Session
from fc_bench.reports.state import STATE


@pytest.fixture
def run(fc_bench, tiny_backbone, plugin, suite, tmp_path):
    """`fc-bench run` of the suite into `run/`; the methods are given."""

    def invoke(*arguments: object, methods=("paste",), suite=suite):
        chosen = [part for name in methods for part in ("-m", name)]
        return fc_bench("run", suite, "--backbone", tiny_backbone, "--out", tmp_path / "run", *chosen, *arguments)

    return invoke


def column(tmp_path, name: str, method: str, subjects: int = 1, category: str = "all") -> dict[str, str]:
    """The row of results.csv."""
    with (tmp_path / "run" / "report" / "results.csv").open() as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if (row["column"], row["method"], row["subjects"], row["category"])
            == (name, method, str(subjects), category)
        ]
    (row,) = rows
    return row


def test_run_measures_what_the_images_show(run, tmp_path):
    done = run(methods=("text-only", "paste"))
    assert done.code == 0, done.err
    # The pasted photograph is the reference itself; noise of a random model shows nobody; other people are not similar.
    assert float(column(tmp_path, "identity", "paste")["mean"]) == pytest.approx(1, abs=1e-5)
    assert float(column(tmp_path, "identity", "paste", subjects=2)["mean"]) > 0.9
    assert float(column(tmp_path, "face_count", "paste", subjects=2)["mean"]) == 1
    assert float(column(tmp_path, "identity", "text-only")["mean"]) == 0
    assert column(tmp_path, "identity_detected", "text-only")["mean"] == ""
    assert column(tmp_path, "identity_detected", "text-only")["n_ok"] == "0"
    assert float(column(tmp_path, "identity", "ceiling")["mean"]) > 0.99
    assert float(column(tmp_path, "identity", "floor")["mean"]) == 0
    assert float(column(tmp_path, "identity_other", "paste", subjects=2)["mean"]) < 0
    assert column(tmp_path, "prompt_consistency", "paste")["n_ok"] == "9"


def test_without_methods_every_built_in_one_is_run(run, records, tmp_path, tiny_backbone, monkeypatch):
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "cache"))
    brief = {"steps": 1, "photographs": 1}
    prior = {**brief, "class_images": 1}
    methods = {
        "textual-inversion": {**brief, "initializer": "m"},
        "dreambooth": {**prior, "rare_tokens": ["x", "y"]},
        "dreambooth-lora": {**prior, "rare_tokens": ["x", "y"]},
        "custom-diffusion": {**prior, "initializers": ["x", "y"]},
    }
    declared = {**yaml.safe_load(tiny_backbone.read_text()), "methods": methods}
    backbone = tiny_backbone.with_name("with-methods.yaml")
    backbone.write_text(yaml.safe_dump(declared))
    done = run("--backbone", backbone, methods=())
    assert done.code == 0, done.err
    samples = records(tmp_path / "run" / "samples.jsonl")
    assert {sample["method"] for sample in samples} == {"text-only", "fastcomposer", *methods}
    assert {sample["status"] for sample in samples} == {"ok"}
    prompts = {sample["generated_prompt"] for sample in samples if sample["method"] == "fastcomposer"}
    assert "a photo of a woman <|image|> and a man <|image|>" in prompts
    assert all("<|image|>" not in sample["prompt"] for sample in samples)


def test_a_quick_run_is_a_part_of_the_whole_run(fc_bench):
    def planned(*arguments: str) -> str:
        return fc_bench("run", "--dry-run", *arguments).out.splitlines()[0]

    assert planned("--quick") == "pocket on pocket: 39 samples in 9 jobs"
    assert planned("--quick", "-m", "text-only", "--limit-subjects", "3") == planned(
        "-m", "text-only", "--limit-subjects", "3"
    )


def test_a_job_that_cannot_be_tuned_fails_alone_with_its_sentence_and_the_table_counts_it(run, records, tmp_path):
    options = {"rare_tokens": "[x, y]", "photographs": 2, "class_images": 0, "steps": 2, "learning_rate": 1e30}
    words = [word for key, value in options.items() for word in ("-o", f"dreambooth.{key}={value}")]
    done = run(*words, methods=("dreambooth", "text-only"))
    assert done.code == 4, done.err
    sentence = "Tuning diverged: "
    assert sentence in done.out
    samples = records(tmp_path / "run" / "samples.jsonl")
    assert {sample["status"] for sample in samples if sample["method"] == "text-only"} == {"ok"}
    failed = [sample for sample in samples if sample["method"] != "text-only"]
    (label,) = {sample["method"] for sample in failed}
    assert all(sample["error"]["message"].startswith(sentence) for sample in failed)
    assert column(tmp_path, "prompt_consistency", label)["n_ok"] == "0"
    assert column(tmp_path, "prompt_consistency", label)["n_total"] == "9"
    assert column(tmp_path, "prompt_consistency", "text-only")["n_ok"] == "9"
    assert column(tmp_path, "customize_seconds", label)["n_ok"] == "0"


TUNED = {"rare_tokens": "[x, y]", "photographs": 1, "class_images": 0, "steps": 1}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_row_is_scored_and_printed_once_when_it_is_finished_and_rows_without_training_come_first(
    run, records, tmp_path, workers
):
    words = [word for key, value in TUNED.items() for word in ("-o", f"dreambooth.{key}={value}")]
    done = run(*words, "--workers", workers, methods=("dreambooth", "text-only", "paste"))
    assert done.code == 0, done.err
    samples = records(tmp_path / "run" / "samples.jsonl")
    tuned = next(sample["method"] for sample in samples if sample["method"].startswith("dreambooth"))
    lines = done.out[: done.out.index("One subject")].splitlines()
    (heading,) = (line for line in lines if line.startswith("method"))
    rows = [line for line in lines[lines.index(heading) + 1 :] if " / " in line]
    labels = [label for line in rows for label in ("text-only", "paste", tuned) if line.startswith(label)]
    assert sorted(labels[:4]) == ["paste", "paste", "text-only", "text-only"]
    assert labels[4:] == [tuned, tuned]
    scored = [score["sample"] for score in records(tmp_path / "run" / "scores.jsonl")]
    first = {sample["id"] for sample in samples if sample["method"] != tuned}
    assert set(scored[: 2 * len(first)]) == first, "the scores of finished rows are written before the others are made"
    values = next(line for line in rows if line.startswith("paste")).split()
    assert values[1:5] == ["1", "9", "/", "9"]
    assert float(values[5]) == pytest.approx(float(column(tmp_path, "identity", "paste")["mean"]), abs=5e-4)


def test_the_seconds_of_scoring_a_finished_row_do_not_count_as_generation(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Session, "score_row", lambda self, label, show: time.sleep(1))
    assert run(methods=("text-only", "paste")).code == 0
    (command,) = json.loads((tmp_path / "run" / "run.json").read_text())["commands"]
    whole = datetime.fromisoformat(command["finished"]) - datetime.fromisoformat(command["started"])
    assert command["seconds"]["scoring"] >= 2
    assert command["generation"]["seconds"] + 2 <= whole.total_seconds() + 1, "times are rounded to whole seconds"


def test_run_is_printed_and_written_as_tables_and_grid(run, tmp_path):
    done = run()
    report = tmp_path / "run" / "report"
    assert "One subject" in done.out
    assert "2 subjects together" in done.out
    for name in ("table.md, .csv, .tex, .html", "results.csv", "figures/grid.png"):
        assert f"wrote {report / name}\n" in done.out
    assert f"fc-bench report {tmp_path / 'run'} draws the figures.\n" in done.out
    text = (report / "table.md").read_text()
    assert "| paste | 9 / 9 | 1.000 [1.000, 1.000] |" in text
    with (report / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert next(row["method"] for row in rows if row["table"] == "One subject") == "paste"
    assert [path.name for path in (report / "figures").iterdir()] == ["grid.png"]


def test_a_run_recorded_under_another_title_of_a_column_continues(run, tmp_path):
    assert run("--images-per-prompt", 1).code == 0
    file = tmp_path / "run" / "run.json"
    settings = json.loads(file.read_text())
    title = settings["columns"]["identity"][0]["title"]
    settings["columns"]["identity"][0]["title"] = "another"
    file.write_text(json.dumps(settings))
    done = run("--images-per-prompt", 1)
    assert done.code == 0, done.err
    assert json.loads(file.read_text())["columns"]["identity"][0]["title"] == title


def contents(folder):
    """Content of each file by its path in the folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_report_can_be_made_again_from_the_folder_alone(run, fc_bench, suite, tmp_path):
    import shutil

    first = run()
    moved = tmp_path / "elsewhere" / "run"
    moved.parent.mkdir()
    (tmp_path / "run").rename(moved)
    texts = contents(moved / "report")
    texts.pop(Path("index.html"))  # shows the figures, which the run left out
    texts.pop(Path(STATE))
    shutil.rmtree(moved / "report")
    shutil.rmtree(suite.parent)
    again = fc_bench("report", moved)
    assert again.code == 0, again.err
    assert contents(moved / "report").items() >= texts.items()
    assert (moved / "report" / "index.html").is_file()
    assert again.out.split("One subject")[1].split("wrote")[0] == first.out.split("One subject")[1].split("wrote")[0]


def test_records_say_how_every_image_was_made(run, records, tmp_path):
    run()
    folder = tmp_path / "run"
    samples = records(folder / "samples.jsonl")
    assert len(samples) == len({sample["id"] for sample in samples}) == 11
    pair = next(sample for sample in samples if sample["subjects"] == ["ann", "bob"])
    assert pair["template"] == "a photo of {subjects}"
    assert pair["prompt"] == "a photo of a woman and a man"
    assert pair["generated_prompt"] == "a photo of a <0> woman and a <1> man"
    assert pair["seconds"] > 0
    with Image.open(folder / pair["image"]) as image:
        assert image.size == (128, 128)
    score = next(
        record
        for record in records(folder / "scores.jsonl")
        if (record["sample"], record["metric"]) == (pair["id"], "identity")
    )
    assert len(score["details"]["faces"]) == 2
    assert np.array(score["details"]["similarities"]).shape == (2, 2)
    settings = json.loads((folder / "run.json").read_text())
    assert settings["metrics"]["identity"]["embedder"] == "tiny-faces"
    assert settings["metrics"]["identity"]["models"]["recognition"]["providers"] == ["CPUExecutionProvider"]
    assert settings["commands"][0]["versions"]["torch"].startswith("2.")
    assert settings["commands"][0]["started"] <= settings["commands"][0]["finished"]


def test_noise_belongs_to_prompt_and_index_and_is_shared_by_all_subjects(run, records, tmp_path):
    run("--images-per-prompt", 2, methods=("paste", "text-only"))
    seeds: dict[tuple[str, int], set[int]] = {}
    for sample in records(tmp_path / "run" / "samples.jsonl"):
        seeds.setdefault((sample["template"], sample["index"]), set()).add(sample["seed"])
    assert len(seeds) == 8
    assert all(len(values) == 1 for values in seeds.values())
    assert len(set.union(*seeds.values())) == 8


def test_artefacts_are_measured_and_kept_only_on_request(run, records, tmp_path):
    run()
    (job, *_) = records(tmp_path / "run" / "jobs.jsonl")
    assert (job["artefact_bytes"], job["steps"]) == (2**20, 3)
    assert float(column(tmp_path, "artefact_mib", "paste")["mean"]) == 1
    assert not list((tmp_path / "run").rglob("weights.bin"))
    run("--keep-artefacts", "-o", "paste.seconds=0.001")
    assert len(list((tmp_path / "run").rglob("weights.bin"))) == 5


def test_image_of_a_method_without_photographs_is_generated_once_per_prompt_and_noun(run, records, tmp_path):
    run(methods=("text-only",))
    samples = records(tmp_path / "run" / "samples.jsonl")
    singles = [sample for sample in samples if len(sample["subjects"]) == 1]
    computed = [sample for sample in singles if "same_image_as" not in sample]
    assert len(singles) == 9
    assert len(computed) == 6
    by_id = {sample["id"]: sample for sample in samples}
    for sample in singles:
        if "same_image_as" in sample:
            origin = by_id[sample["same_image_as"]]
            assert (origin["prompt"], origin["seed"], origin["image"]) == (
                sample["prompt"],
                sample["seed"],
                sample["image"],
            )
            assert sample["seconds"] is None


def test_failing_sample_is_recorded_and_the_rest_goes_on(run, records, tmp_path):
    done = run("-o", "paste.fail_prompt=beach")
    assert done.code == 4
    assert "8 / 11 samples finished, 3 failed" in done.err
    samples = records(tmp_path / "run" / "samples.jsonl")
    failed = [sample for sample in samples if sample["status"] == "error"]
    assert len(samples) == 11
    assert all("beach" in sample["prompt"] for sample in failed)
    assert len(failed) == 3
    assert "ValueError: cannot draw a photo of" in failed[0]["error"]["message"]
    assert "Traceback" in failed[0]["error"]["traceback"]
    label = "paste[fail_prompt=beach]"
    assert (column(tmp_path, "identity", label)["n_ok"], column(tmp_path, "identity", label)["n_total"]) == ("6", "9")
    assert float(column(tmp_path, "identity", label)["mean"]) == pytest.approx(1, abs=1e-5)


def test_failing_job_is_recorded_and_the_other_jobs_go_on(run, records, tmp_path):
    done = run("-o", "paste.fail_subject=bob")
    assert done.code == 4
    jobs = {job["set"]: job["status"] for job in records(tmp_path / "run" / "jobs.jsonl")}
    assert jobs == {"ann": "ok", "bob": "error", "cid": "ok", "ann+bob": "error", "bob+cid": "error"}
    samples = records(tmp_path / "run" / "samples.jsonl")
    assert {sample["status"] for sample in samples if "bob" in sample["subjects"]} == {"error"}
    assert {sample["status"] for sample in samples if "bob" not in sample["subjects"]} == {"ok"}


def test_method_that_cannot_be_loaded_fails_alone(run, records, tmp_path):
    done = run("-o", "paste.fail_load=true", methods=("paste", "text-only"))
    assert done.code == 4
    states = {(s["method"], s["status"]) for s in records(tmp_path / "run" / "samples.jsonl")}
    assert states == {("paste[fail_load=True]", "error"), ("text-only", "ok")}


def test_failed_samples_are_tried_again_only_on_request(run, records, tmp_path, plugin):
    import paste_faces

    file = tmp_path / "run" / "samples.jsonl"
    run("-o", "paste.fail_prompt=beach")
    before = len(records(file))
    assert run("-o", "paste.fail_prompt=beach").code == 4
    assert len(records(file)) == before
    original = paste_faces.Paste.generate
    try:
        paste_faces.Paste.generate = lambda self, customization, requests: original(
            paste_faces.Paste(None, paste_faces.PasteOptions()), customization, requests
        )
        assert run("-o", "paste.fail_prompt=beach", "--retry-errors").code == 0
    finally:
        paste_faces.Paste.generate = original
    assert float(column(tmp_path, "identity", "paste[fail_prompt=beach]")["n_ok"]) == 9


def test_failing_metric_leaves_a_missing_value_and_the_rest_goes_on(run, suite_data, write_suite, tmp_path):
    suite_data["metrics"] = ["identity", "brightness"]
    done = run(suite=write_suite(suite_data))
    assert done.code == 4
    assert "3 scores failed" in done.err
    assert (column(tmp_path, "brightness", "paste")["n_ok"], column(tmp_path, "identity", "paste")["n_ok"]) == (
        "6",
        "9",
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "much", {"other": 1.0}])
def test_metric_that_gives_no_number_fails_those_scores_only(run, suite_data, write_suite, records, tmp_path, value):
    import paste_faces

    from fc_bench.protocols import Score

    suite_data["metrics"] = ["identity", "brightness"]
    original = paste_faces.Brightness.score
    try:
        values = value if isinstance(value, dict) else {"brightness": value}
        paste_faces.Brightness.score = lambda self, sample: Score(values)
        assert run(suite=write_suite(suite_data)).code == 4
    finally:
        paste_faces.Brightness.score = original
    scores = records(tmp_path / "run" / "scores.jsonl")
    assert {score["status"] for score in scores if score["metric"] == "brightness"} == {"error"}
    assert column(tmp_path, "identity", "paste")["n_ok"] == "9"


@pytest.mark.parametrize("result", ["no image", None])
def test_method_that_gives_no_image_fails_those_samples_only(run, records, tmp_path, result):
    import paste_faces

    original = paste_faces.Paste.generate

    def generate(self, customization, requests):
        for request, image in zip(requests, original(self, customization, requests), strict=True):
            yield result if "beach" in request.prompt else image

    try:
        paste_faces.Paste.generate = generate
        assert run().code == 4
    finally:
        paste_faces.Paste.generate = original
    failed = [sample for sample in records(tmp_path / "run" / "samples.jsonl") if sample["status"] == "error"]
    assert len(failed) == 3
    assert all("TypeError" in sample["error"]["message"] for sample in failed)


@pytest.fixture
def replaced_generate(monkeypatch, plugin):
    """Replaces what the plug-in method does for a batch; the function gets the batch's requests and its images."""
    import paste_faces

    original = paste_faces.Paste.generate

    def replace(function):
        monkeypatch.setattr(
            paste_faces.Paste,
            "generate",
            lambda self, customized, requests: function(requests, list(original(self, customized, requests))),
        )

    return replace


def test_batch_that_runs_out_of_memory_is_tried_in_halves_and_the_job_goes_on_with_them(
    run, records, tmp_path, replaced_generate
):
    import torch

    sizes = []

    def generate(requests, images):
        sizes.append(len(requests))
        if len(requests) > 2:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        yield from images

    replaced_generate(generate)
    assert run("--images-per-prompt", 2, "--batch-size", 4, "--limit-subjects", 1).code == 0
    assert sizes == [4, 2, 2, 2]
    samples = records(tmp_path / "run" / "samples.jsonl")
    assert [sample["batch"] for sample in samples] == [2] * 6


def test_job_that_runs_out_of_memory_twice_fails_without_further_tries_and_the_next_goes_on(
    run, records, tmp_path, replaced_generate
):
    sizes = []

    def generate(requests, images):
        sizes.append(len(requests))
        if "snow" in requests[0].plain_prompt and "woman" in requests[0].plain_prompt:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
        yield from images

    replaced_generate(generate)
    done = run("--images-per-prompt", 4, "--batch-size", 4)
    assert done.code == 4
    # One job of the woman alone: four, then two, then no more; the others are whole.
    assert sizes[:2] == [4, 2]
    samples = records(tmp_path / "run" / "samples.jsonl")
    failed = [sample for sample in samples if sample["status"] == "error"]
    assert {tuple(sample["subjects"]) for sample in failed} == {("ann",)}
    assert len(failed) == 12
    assert all("out of memory" in sample["error"]["message"] for sample in failed)


def test_black_image_is_a_failed_sample_with_its_reason(run, records, tmp_path, replaced_generate):
    def generate(requests, images):
        for request, image in zip(requests, images, strict=True):
            yield Image.new("RGB", image.size) if "beach" in request.prompt else image

    replaced_generate(generate)
    assert run().code == 4
    samples = records(tmp_path / "run" / "samples.jsonl")
    failed = [sample for sample in samples if sample["status"] == "error"]
    assert ["beach" in sample["prompt"] for sample in samples] == [sample["status"] == "error" for sample in samples]
    assert all(sample["error"]["type"] == "BlackImageError" for sample in failed)
    assert (column(tmp_path, "identity", "paste")["n_ok"], column(tmp_path, "identity", "paste")["n_total"]) == (
        "6",
        "9",
    )


def test_accelerator_that_is_gone_ends_the_run_and_the_same_command_continues(
    run, records, tmp_path, replaced_generate, monkeypatch
):
    from fc_bench.errors import UserError

    gone = []

    def generate(requests, images):
        if len(records(tmp_path / "run" / "samples.jsonl")) >= 4 and not gone:
            raise RuntimeError("CUDA error: unspecified launch failure")
        yield from images

    def require_device(device):
        gone.append(device)
        raise UserError("The device cuda no longer responds (launch failure); the same command continues.")

    replaced_generate(generate)
    monkeypatch.setattr("fc_bench.generation.batches.require_device", require_device)
    done = run("--batch-size", 1)
    assert done.code == 2
    assert "no longer responds" in done.err
    before = records(tmp_path / "run" / "samples.jsonl")
    assert {sample["status"] for sample in before} == {"ok"}
    assert run("--batch-size", 1).code == 0
    after = records(tmp_path / "run" / "samples.jsonl")
    assert after[: len(before)] == before
    assert len(after) == 11


def test_method_is_left_out_of_sets_it_cannot_take_and_the_table_says_so(run, suite_data, write_suite, tmp_path):
    suite_data["multi"]["subjects"] = [["ann", "bob", "cid"]]
    done = run(suite=write_suite(suite_data))
    assert done.code == 0, done.err
    assert "paste: 1 subject sets are left out, because it takes at most 2 subject(s)." in done.out
    assert "paste: 1 subject sets are left out" in (tmp_path / "run" / "report" / "table.md").read_text()


def test_run_grows_by_methods_options_and_subjects_without_repeating_anything(run, records, tmp_path):
    file = tmp_path / "run" / "samples.jsonl"
    run("--limit-subjects", 1)
    first = records(file)
    planned = (tmp_path / "run" / "plan.jsonl").read_bytes()
    assert {sample["subjects"][0] for sample in first} == {"ann"}
    run()
    second = records(file)
    run("-o", "paste.seconds=0.001")
    third = records(file)
    run(methods=("text-only",))
    fourth = records(file)
    assert [len(x) for x in (first, second, third, fourth)] == [3, 11, 22, 33]
    assert second[:3] == first
    assert len({sample["id"] for sample in fourth}) == 33
    assert (tmp_path / "run" / "plan.jsonl").read_bytes().startswith(planned)
    assert [sample["id"] for sample in records(tmp_path / "run" / "plan.jsonl")] == [sample["id"] for sample in fourth]
    text = (tmp_path / "run" / "report" / "table.md").read_text()
    assert all(f"| {label} | 9 / 9 |" in text for label in ("paste", "paste[seconds=0.001]", "text-only"))


def test_scores_lost_are_computed_again_without_generating(run, records, tmp_path):
    run()
    folder = tmp_path / "run"
    scores = records(folder / "scores.jsonl")
    samples = (folder / "samples.jsonl").read_bytes()
    (folder / "scores.jsonl").unlink()
    run()

    def key(record):
        return json.dumps(record, sort_keys=True)

    assert sorted(records(folder / "scores.jsonl"), key=key) == sorted(scores, key=key)
    assert (folder / "samples.jsonl").read_bytes() == samples


def test_samples_that_share_an_image_give_no_interval_of_what_depends_on_the_image_alone(run, tmp_path):
    run(methods=("text-only", "paste"))
    shared, own = (column(tmp_path, "prompt_consistency", method) for method in ("text-only", "paste"))
    assert (shared["n_ok"], shared["n_sets"], shared["low"]) == ("9", "3", "")
    assert shared["mean"] != ""
    assert own["low"] != ""


def test_value_that_rests_on_fewer_samples_than_its_row_says_so(run, suite_data, write_suite, tmp_path):
    suite_data["metrics"] = ["identity", "brightness"]
    run(suite=write_suite(suite_data))
    text = (tmp_path / "run" / "report" / "table.md").read_text()
    brightness = column(tmp_path, "brightness", "paste")
    assert "| paste | 9 / 9 | 1.000 [1.000, 1.000] |" in text
    assert f"[{float(brightness['low']):.3f}, {float(brightness['high']):.3f}] (6) |" in text


def test_category_with_failed_samples_shows_how_many_are_left(run, tmp_path):
    run("-o", "paste.fail_prompt=beach")
    text = (tmp_path / "run" / "report" / "table.md").read_text()
    table = text.split("## identity preservation by category, one subject")[1].split("##")[0]
    assert "1.000 [1.000, 1.000] (3) | 1.000 [1.000, 1.000] |" in table


def test_options_of_each_row_stand_under_the_tables(run, tmp_path):
    run("-o", "paste.seconds=0.001")
    text = (tmp_path / "run" / "report" / "table.md").read_text()
    assert "Options of paste[seconds=0.001]: seconds = 0.001, fail_prompt = " in text


def test_ceiling_and_floor_say_nothing_about_what_is_so_by_construction(run, tmp_path):
    run()
    with (tmp_path / "run" / "report" / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] in ("ceiling", "floor")]
    assert {row["column"] for row in rows} == {
        "identity",
        "identity_optimal",
        "identity_mean",
        "identity_detected",
        "identity_other",
        "identity_mixing",
        "told_apart",
    }


def test_photograph_without_a_face_is_left_out_of_the_ceiling_and_named(run, suite, tmp_path):
    Image.new("RGB", (128, 128), "gray").save(suite.parent / "people" / "bob-2.png")
    assert run().code == 0
    assert float(column(tmp_path, "identity", "ceiling")["mean"]) > 0.99
    assert column(tmp_path, "identity", "ceiling")["n_ok"] == "2"
    note = "Ceiling and floor leave out the photograph bob/bob-2.png: no face is found in it"
    assert note in (tmp_path / "run" / "report" / "table.md").read_text()


def test_stranger_without_a_usable_photograph_leaves_the_floor_out_and_is_named(run, suite, tmp_path):
    (suite.parent / "people" / "bob-1.png").write_bytes(b"no image")
    assert run("--limit-subjects", 1).code == 0
    with (tmp_path / "run" / "report" / "results.csv").open() as file:
        assert "floor" not in {row["method"] for row in csv.DictReader(file)}
    assert "leave out the photograph bob/bob-1.png" in (tmp_path / "run" / "report" / "table.md").read_text()


def test_failing_anchors_are_recorded_and_the_scores_stay(run, records, tmp_path, monkeypatch):
    from fc_bench.metrics.identity import Identity

    def failing(*_: object) -> None:
        raise ZeroDivisionError("no such person")

    monkeypatch.setattr(Identity, "anchors", failing)
    assert run().code == 0
    failed = [score for score in records(tmp_path / "run" / "scores.jsonl") if score["sample"].startswith("anchor")]
    assert len(failed) == 5
    assert all("ZeroDivisionError: no such person" in score["error"] for score in failed)
    assert column(tmp_path, "identity", "paste")["n_ok"] == "9"


def test_images_of_a_failed_batch_have_the_batch_and_time_they_were_made_with(run, records, tmp_path):
    run("-o", "paste.fail_prompt=beach", "--batch-size", 3)
    samples = [s for s in records(tmp_path / "run" / "samples.jsonl") if s["subjects"] == ["ann"]]
    before, failed, after = samples
    assert (before["batch"], before["seconds"]) == (3, None)
    assert failed["status"] == "error"
    assert after["batch"] == 1
    assert after["seconds"] > 0


@pytest.mark.parametrize("result", [None, "done"])
def test_customization_that_is_none_fails_its_jobs_only(run, records, tmp_path, monkeypatch, result):
    import paste_faces

    monkeypatch.setattr(paste_faces.Paste, "customize", lambda *_: result)
    assert run(methods=("paste", "text-only")).code == 4
    jobs = records(tmp_path / "run" / "jobs.jsonl")
    assert {job["status"] for job in jobs if job["method"] == "paste"} == {"error"}
    assert all("instead of a Customization" in job["error"]["message"] for job in jobs if job["method"] == "paste")
    assert {s["status"] for s in records(tmp_path / "run" / "samples.jsonl") if s["method"] == "text-only"} == {"ok"}


def test_seed_of_customizing_is_decided_by_the_suite_s_seed(run, suite_data, write_suite, records, tmp_path):
    seeds = []
    for seed in (7, 8, 7):
        suite_data["seed"] = seed
        run("--out", tmp_path / f"run{len(seeds)}", suite=write_suite(suite_data))
        seeds.append([job["details"]["seed"] for job in records(tmp_path / f"run{len(seeds)}" / "jobs.jsonl")])
    assert seeds[0] == seeds[2]
    assert not set(seeds[0]) & set(seeds[1])


def test_run_folder_whose_columns_were_recorded_with_fewer_fields_is_continued(run, tmp_path):
    run("--limit-subjects", 1)
    file = tmp_path / "run" / "run.json"
    settings = json.loads(file.read_text())
    for columns in settings["columns"].values():
        for recorded in columns:
            del recorded["significant"]
    file.write_text(json.dumps(settings))
    assert run().code == 0
