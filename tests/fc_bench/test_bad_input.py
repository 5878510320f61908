"""Bad input ends in one sentence that says what, where and what to do, exit code 2, and nothing earlier is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from PIL import Image


@pytest.fixture
def run(fc_bench, tiny_backbone, plugin, tmp_path):
    """`fc-bench run` of a suite with the pasting method into `run/`."""

    def invoke(suite: object, *arguments: object):
        return fc_bench("run", suite, "--backbone", tiny_backbone, "-m", "paste", "--out", tmp_path / "run", *arguments)

    return invoke


def refused(finished, *parts: str) -> None:
    """One line on standard error with all the parts, exit code 2, no traceback."""
    assert finished.code == 2, finished
    assert finished.err.count("\n") == 1, finished.err
    assert finished.err.startswith("fc-bench: ")
    assert "Traceback" not in finished.err + finished.out
    for part in parts:
        assert part in finished.err, f"{part!r} is not in {finished.err!r}"


def line_with(file: Path, text: str) -> int:
    """The number (from 1) of the first line that contains the text."""
    return next(n for n, line in enumerate(file.read_text().splitlines(), 1) if text in line)


def test_missing_photograph_names_file_subject_and_line(run, suite):
    (suite.parent / "people" / "bob-2.png").unlink()
    refused(run(suite), "bob-2.png", '"bob"', f"suite.yaml:{line_with(suite, 'id: bob')}")


def test_unreadable_photograph_is_named(run, suite):
    (suite.parent / "people" / "bob-1.png").write_bytes(b"no image at all")
    refused(run(suite), "bob-1.png", "cannot be read", "replace it")


def test_truncated_photograph_is_named(run, suite):
    photograph = suite.parent / "people" / "bob-1.png"
    photograph.write_bytes(photograph.read_bytes()[:200])
    refused(run(suite), "bob-1.png", "cannot be read")


def test_tiny_photograph_is_named_with_its_size(run, suite):
    Image.new("RGB", (8, 9)).save(suite.parent / "people" / "bob-1.png")
    refused(run(suite), "bob-1.png", "8 x 9", "at least 32 x 32")


def test_reference_without_a_face_is_named_before_anything_is_generated(run, suite, tmp_path):
    Image.new("RGB", (128, 128), "gray").save(suite.parent / "people" / "bob-1.png")
    refused(run(suite), "No face", "bob-1.png", '"bob"')
    assert not (tmp_path / "run" / "samples.jsonl").exists()


def test_unknown_method_suggests_the_nearest(fc_bench, tiny_backbone, suite, tmp_path):
    done = fc_bench("run", suite, "--backbone", tiny_backbone, "-m", "text-onli", "--out", tmp_path / "run")
    refused(done, 'Unknown method "text-onli"', 'did you mean "text-only"?')


def test_unknown_suite_lists_the_known(run):
    refused(run("faces"), 'Unknown suite "faces"', "pocket")


def test_suite_file_that_does_not_exist_is_named(run, tmp_path):
    refused(run(tmp_path / "no.yaml"), "no.yaml", "cannot be read")


def test_unknown_backbone_suggests_the_nearest(fc_bench, suite):
    refused(fc_bench("run", suite, "--backbone", "poket"), 'Unknown backbone "poket"', 'did you mean "pocket"?')


def test_unknown_option_of_a_method_suggests_the_nearest(run, suite):
    refused(run(suite, "-o", "paste.second=1"), '"paste" has no option "second"', 'did you mean "seconds"?')


def test_option_value_of_the_wrong_kind_is_explained(run, suite):
    refused(run(suite, "-o", "paste.seconds=soon"), 'Option of the method "paste"', "seconds", "number")


def test_option_without_a_method_is_explained(run, suite):
    refused(run(suite, "-o", "seconds=1"), '"seconds=1"', "METHOD.OPTION=VALUE")


def test_option_for_a_method_that_does_not_run_is_refused(run, suite):
    refused(run(suite, "-o", "text-only.steps=1"), '"text-only"', "--method text-only")


def test_unknown_command_line_option_is_refused(fc_bench):
    done = fc_bench("run", "--steps", "3")
    assert done.code == 2
    assert "--steps" in done.err
    assert "Traceback" not in done.err


def test_malformed_yaml_names_the_line(run, suite):
    suite.write_text(suite.read_text().replace("license: MIT", "license: [MIT"))
    number = line_with(suite, "license")
    done = run(suite)
    refused(done, "malformed YAML")
    assert any(f"suite.yaml:{line}:" in done.err for line in (number, number + 1)), done.err


def test_unknown_key_names_line_and_nearest(run, suite_data, write_suite):
    suite_data["images_per_promt"] = 2
    suite = write_suite(suite_data)
    number = line_with(suite, "images_per_promt")
    refused(run(suite), f"suite.yaml:{number}:", '"images_per_promt"', 'did you mean "images_per_prompt"?')


def test_key_given_twice_names_the_line(run, suite):
    suite.write_text(suite.read_text() + "seed: 8\n")
    refused(run(suite), f"suite.yaml:{len(suite.read_text().splitlines())}:", '"seed" is given twice')


def test_yaml_tag_is_refused_and_not_executed(run, suite, tmp_path):
    trap = tmp_path / "trap"
    suite.write_text(suite.read_text() + f'description2: !!python/object/apply:os.mkdir ["{trap}"]\n')
    refused(run(suite), "malformed YAML")
    assert not trap.exists()


@pytest.mark.parametrize("prompt", ["a photo of a man", "a {subject} and a {subject}", "a {subjet}", "a {subject} {"])
def test_prompt_without_exactly_one_placeholder_names_its_line(run, suite_data, write_suite, prompt):
    suite_data["single"]["prompts"]["style"] = ["a sketch of a {subject}", prompt]
    suite = write_suite(suite_data)
    number = line_with(suite, "style:") + 2
    refused(
        run(suite), f"suite.yaml:{number}:", prompt, "{subject} exactly once" if "subjet" in prompt else "{subject}"
    )


def test_prompt_too_long_for_the_text_encoder_is_quoted_with_both_lengths(run, suite_data, write_suite):
    suite_data["single"]["prompts"]["style"] = ["a {subject} " + "very " * 40]
    refused(run(write_suite(suite_data)), "very very", "tokens", "77", "shorten it")


def test_subject_that_nobody_declared_is_named(run, suite_data, write_suite):
    suite_data["multi"]["subjects"] = [["ann", "bop"]]
    refused(run(write_suite(suite_data)), '"bop"', 'did you mean "bob"?')


def test_photograph_outside_the_suite_is_refused(run, suite_data, write_suite, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "secret.png")
    suite_data["subjects"][0]["photographs"] = ["../secret.png"]
    refused(run(write_suite(suite_data)), "secret.png", "outside")


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "-dash"])
def test_subject_id_that_is_no_file_name_is_refused(run, suite_data, write_suite, name):
    suite_data["subjects"][0]["id"] = name
    refused(run(write_suite(suite_data)), "suite.yaml:", "id")


def test_unwritable_run_folder_is_named(fc_bench, tiny_backbone, suite, plugin, tmp_path):
    (tmp_path / "file").write_text("")
    done = fc_bench("run", suite, "--backbone", tiny_backbone, "-m", "paste", "--out", tmp_path / "file" / "run")
    refused(done, str(tmp_path / "file" / "run"), "cannot be written", "--out")


def test_foreign_folder_is_refused_and_untouched(run, suite, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    refused(run(suite), "thesis.txt", "--out")
    assert sorted(item.name for item in (tmp_path / "run").iterdir()) in (["thesis.txt"], [".lock", "thesis.txt"])
    assert (tmp_path / "run" / "thesis.txt").read_text() == "precious"


def test_folder_of_another_run_is_refused_and_keeps_every_byte(run, suite, tmp_path):
    assert run(suite).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    changed = yaml.safe_load(suite.read_text()) | {"seed": 8}
    suite.write_text(yaml.safe_dump(changed))
    refused(run(suite), "another suite", "--out")
    after = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert after == before


def test_folder_that_another_process_holds_names_that_process(run, suite, tmp_path):
    import os

    from fc_bench.records import opened_for_writing

    with opened_for_writing(tmp_path / "run"):
        refused(run(suite), "Another process", str(os.getpid()))


def moved(backbone: Path, folder: Path, **changes: object) -> Path:
    """The backbone's file elsewhere, its components where they were, with changes; None takes a key out."""
    declared = yaml.safe_load(backbone.read_text())
    for part in ("pipeline", "clip"):
        declared[part] = str(backbone.parent / part)
    declared["faces"]["pack"] = str(backbone.parent / "faces")
    declared["fastcomposer"]["variants"] = {"random": str(backbone.parent / "fastcomposer")}
    declared = {key: value for key, value in (declared | changes).items() if value is not None}
    file = folder / "moved.yaml"
    file.write_text(yaml.safe_dump(declared))
    return file


def test_missing_weights_name_the_file_and_what_to_do(fc_bench, tiny_backbone, suite, tmp_path):
    file = moved(tiny_backbone, tmp_path, pipeline="lost")
    done = fc_bench("run", suite, "--backbone", file, "-m", "text-only", "--out", tmp_path / "run")
    refused(done, "model_index.json", "Build it again", "fc-bench doctor")


def test_backbone_without_fastcomposer_says_so(fc_bench, tiny_backbone, suite, tmp_path):
    file = moved(tiny_backbone, tmp_path, fastcomposer=None)
    done = fc_bench("run", suite, "--backbone", file, "-m", "fastcomposer", "--out", tmp_path / "run")
    refused(done, '"tiny"', "no FastComposer checkpoint")


def test_unknown_checkpoint_of_fastcomposer_suggests_the_nearest(fc_bench, tiny_backbone, suite, tmp_path):
    arguments = ("-m", "fastcomposer", "-o", "fastcomposer.checkpoint=randon", "--out", tmp_path / "run")
    refused(fc_bench("run", suite, "--backbone", tiny_backbone, *arguments), '"randon"', 'did you mean "random"?')


def test_alpha_beyond_its_range_is_refused(fc_bench, tiny_backbone, suite, tmp_path):
    arguments = ("-m", "fastcomposer", "-o", "fastcomposer.alpha=1.5", "--out", tmp_path / "run")
    refused(fc_bench("run", suite, "--backbone", tiny_backbone, *arguments), "alpha", "less than or equal to 1")


def test_report_of_a_folder_that_is_no_run_says_so(fc_bench, tmp_path):
    refused(fc_bench("report", tmp_path), "no run folder", "run.json")


def test_damaged_record_in_the_middle_names_its_line(run, fc_bench, suite, tmp_path):
    assert run(suite).code == 0
    file = tmp_path / "run" / "samples.jsonl"
    lines = file.read_text().splitlines()
    lines[2] = lines[2][:30]
    file.write_text("\n".join(lines) + "\n")
    refused(fc_bench("report", tmp_path / "run"), "samples.jsonl:3:")


def test_absent_device_is_refused(run, suite):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is such a device")
    refused(run(suite, "--device", "cuda"), '"cuda"', "--device cpu")
