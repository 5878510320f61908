"""Bad input ends in one sentence that says what, where and what to do, exit code 2, and nothing earlier is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
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
    refused(run(suite), "finds no face", "bob-1.png", '"bob", the reference')
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


@pytest.mark.parametrize("character", ["\u202e", "\u2066", "\u200f", "\ufeff", "\x07", "\x9b", "\u2028"])
def test_character_that_cannot_be_seen_is_named(run, suite_data, write_suite, character):
    suite_data["single"]["prompts"]["style"] = [f"a sketch {character}of a {{subject}}"]
    refused(run(write_suite(suite_data)), f"the invisible character U+{ord(character):04X}; remove it")


def test_text_of_any_language_and_with_joined_emoji_is_accepted(fc_bench, suite_data, write_suite):
    suite_data["single"]["prompts"]["style"] = [
        "素描 of a {subject}",
        "رسم of a {subject}",
        "a {subject} 👩‍👩‍👧 می‌خواهم",
        "a {subject} é ñ ß",
    ]
    done = fc_bench("validate", write_suite(suite_data))
    assert done.code == 0, done.err


def test_prompt_of_a_hundred_thousand_characters_is_refused(run, suite_data, write_suite):
    suite_data["single"]["prompts"]["style"] = ["a {subject} " + "x" * 100_000]
    done = run(write_suite(suite_data))
    refused(done, "at most 2000 characters")
    assert len(done.err) < 2000


def test_what_an_error_quotes_cannot_steer_the_terminal(run):
    done = run("no\x1b[2Jsuite\u202e\nfc-bench: all is well")
    refused(done, r"no\u001b[2Jsuite\u202e fc-bench: all is well")
    assert "\x1b" not in done.err


def test_photograph_behind_a_link_out_of_the_suite_is_refused(run, suite, tmp_path):
    outside = tmp_path / "outside.png"
    (suite.parent / "people" / "ann-1.png").rename(outside)
    (suite.parent / "people" / "ann-1.png").symlink_to(outside)
    refused(run(suite), "lies outside the folder")


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 300 + ".png"])
def test_photograph_whose_name_no_file_can_have_is_named(run, suite_data, write_suite, name):
    suite_data["subjects"][0]["photographs"] = [name]
    refused(run(write_suite(suite_data)), "has no usable name")


def test_face_pack_of_wrong_shapes_is_told_before_anything_is_generated(fc_bench, copied_backbone, suite, tmp_path):
    import onnx

    file = copied_backbone.parent / "faces" / "rec.onnx"
    network = onnx.load(file)
    output = network.graph.output[0].name
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.array([7, 7], dtype=np.int64), "odd"))
    for node in network.graph.node:
        node.output[:] = ["flat" if name == output else name for name in node.output]
    network.graph.node.append(onnx.helper.make_node("Reshape", ["flat", "odd"], [output]))
    onnx.save(network, file)
    done = fc_bench("run", suite, "--backbone", copied_backbone, "-m", "text-only", "--out", tmp_path / "run")
    refused(done, "The face")
    assert not (tmp_path / "run" / "samples.jsonl").exists()


def test_subject_that_nobody_declared_is_named(run, suite_data, write_suite):
    suite_data["multi"]["subjects"] = [["ann", "bop"]]
    refused(run(write_suite(suite_data)), '"bop"', 'did you mean "bob"?')


@pytest.fixture
def empty(suite_data, write_suite):
    """A suite that asks for all pairs of its only subject."""
    del suite_data["single"]
    suite_data["subjects"] = suite_data["subjects"][:1]
    suite_data["multi"]["subjects"] = "all-pairs"
    return write_suite(suite_data)


@pytest.mark.parametrize("verb", ["validate", "run", "score", "sweep"])
def test_suite_that_asks_for_nothing_is_refused_by_every_verb_with_its_line(verb, empty, fc_bench, tiny_backbone):
    words = {
        "validate": (empty,),
        "run": (empty, "-m", "text-only", "--dry-run"),
        "score": (empty.parent, "--suite", empty, "--layout", "fastcomposer"),
        "sweep": ("fastcomposer.alpha", "0,1", "--suite", empty),
    }[verb]
    backbone = () if verb == "validate" else ("--backbone", tiny_backbone)
    done = fc_bench(verb, *words, *backbone)
    refused(done, f"suite.yaml:{line_with(empty, 'all-pairs')}: the suite is empty", "add a subject")
    assert "--limit-subjects" not in done.err


@pytest.mark.parametrize("verb", ["run", "score"])
def test_limit_that_leaves_nothing_says_how_far_to_raise_it(verb, fc_bench, tiny_backbone, suite_data, write_suite):
    suite_data["single"]["subjects"] = ["cid"]
    suite_data["multi"]["subjects"] = [["bob", "cid"]]
    suite = write_suite(suite_data)
    words = (
        (suite, "-m", "text-only") if verb == "run" else (suite.parent, "--suite", suite, "--layout", "fastcomposer")
    )
    done = fc_bench(verb, *words, "--backbone", tiny_backbone, "--limit-subjects", 2)
    refused(done, "the first 2 of the suite's subjects form none", "raise --limit-subjects to 3 or more")


def test_pairs_of_one_subject_beside_other_prompts_are_pointed_out(fc_bench, suite_data, write_suite):
    suite_data["subjects"] = suite_data["subjects"][:1]
    suite_data["multi"]["subjects"] = "all-pairs"
    done = fc_bench("validate", write_suite(suite_data))
    assert done.code == 0, done.err
    assert "multi is empty, because one subject makes no pair" in done.out


def test_photograph_outside_the_suite_is_refused(run, suite_data, write_suite, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "secret.png")
    suite_data["subjects"][0]["photographs"] = ["../secret.png"]
    refused(run(write_suite(suite_data)), '"../secret.png" of the subject "ann"', "lies outside the folder")


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "-dash"])
def test_subject_id_that_is_no_file_name_is_refused(run, suite_data, write_suite, name):
    suite_data["subjects"][0]["id"] = name
    suite = write_suite(suite_data)
    refused(run(suite), f"suite.yaml:{line_with(suite, '- id:')}: subjects.0.id: {name!r} is not a name")


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

    from fc_bench.run_folder.records import opened_for_writing

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
    assert done.code == 2
    missing, remedy = done.err.splitlines()
    assert f"pipeline needs {tmp_path / 'lost' / 'model_index.json'}." in missing
    assert f"Build it again. `fc-bench doctor --backbone {file}` lists every file." in remedy


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
    refused(fc_bench("report", tmp_path), "not a run folder", "run.json")


def test_damaged_record_in_the_middle_names_its_line(run, fc_bench, suite, tmp_path):
    assert run(suite).code == 0
    file = tmp_path / "run" / "samples.jsonl"
    lines = file.read_text().splitlines()
    lines[2] = lines[2][:30]
    file.write_text("\n".join(lines) + "\n")
    refused(fc_bench("report", tmp_path / "run"), "samples.jsonl:3:")


READING = ("report", "show", "compare", "run")


def reads(verb: str, folder: Path, run, fc_bench, suite):
    """The verb, on a run folder."""
    if verb == "run":
        return run(suite)
    return fc_bench(verb, folder, *{"show": ["0"], "compare": [folder]}.get(verb, []))


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_record_without_its_keys_or_of_wrong_types_is_named_by_every_verb(run, fc_bench, suite, tmp_path):
    folder = tmp_path / "run"
    assert run(suite).code == 0
    for name, key, value, told in (
        ("plan.jsonl", "subjects", "ann", 'its "subjects" is not a list of at least one name'),
        ("samples.jsonl", "status", None, 'it has no "status"'),
        ("scores.jsonl", "metric", ["identity"], 'its "metric" is not text'),
    ):
        file = folder / name
        whole = file.read_text()
        lines = whole.splitlines()
        record = json.loads(lines[2])
        record.pop(key)
        lines[2] = json.dumps(record | ({key: value} if value is not None else {}))
        file.write_text("\n".join(lines) + "\n")
        before = files_of(folder)
        for verb in READING:
            refused(reads(verb, folder, run, fc_bench, suite), f"{name}:3: {told}; restore the file or remove the line")
        assert {path: content for path, content in files_of(folder).items() if path.name != "run.json"} == {
            path: content for path, content in before.items() if path.name != "run.json"
        }
        file.write_text(whole)
    assert run(suite).code == 0


def test_settings_of_a_run_that_lack_a_part_are_told_by_every_verb(run, fc_bench, suite, tmp_path):
    folder = tmp_path / "run"
    assert run(suite).code == 0
    settings = json.loads((folder / "run.json").read_text())
    del settings["methods"]["paste"]["options"]
    (folder / "run.json").write_text(json.dumps(settings))
    before = files_of(folder)
    for verb in READING:
        refused(reads(verb, folder, run, fc_bench, suite), "run.json is damaged", "methods.paste.options")
    assert files_of(folder) == before


@pytest.mark.parametrize("version", [0, 2])
def test_run_folder_of_another_version_is_refused_by_every_verb_and_keeps_every_byte(
    run, fc_bench, suite, tmp_path, version
):
    folder = tmp_path / "run"
    assert run(suite).code == 0
    settings = json.loads((folder / "run.json").read_text()) | {"format": version, "new": [1]}
    (folder / "run.json").write_text(json.dumps(settings))
    before = files_of(folder)
    for verb in READING:
        done = reads(verb, folder, run, fc_bench, suite)
        refused(done, f"has the format {version}, this version reads 1", "use the version that wrote it")
    assert files_of(folder) == before


def test_photograph_that_vanishes_while_the_run_goes_fails_its_own_jobs(run, suite, tmp_path, plugin, monkeypatch):
    from paste_faces import Paste

    customize, lost = Paste.customize, suite.parent / "people" / "bob-1.png"

    def losing(self, subjects, *rest):
        lost.unlink(missing_ok=True)
        for subject in subjects:
            Image.open(subject.photographs[0]).load()
        return customize(self, subjects, *rest)

    monkeypatch.setattr(Paste, "customize", losing)
    done = run(suite)
    assert done.code == 4
    records = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    failed = [record for record in records if record["status"] == "error"]
    assert {"bob" in record["subjects"] for record in failed} == {True}
    assert all("bob-1.png" in record["error"]["message"] for record in failed)
    assert all("Traceback" in record["error"]["traceback"] for record in failed)
    assert {tuple(record["subjects"]) for record in records if record["status"] == "ok"} == {("ann",), ("cid",)}


def test_image_that_vanished_before_it_was_scored_fails_its_scores_alone(run, suite, tmp_path):
    folder = tmp_path / "run"
    assert run(suite).code == 0
    (folder / "scores.jsonl").unlink()
    lost = json.loads((folder / "samples.jsonl").read_text().splitlines()[0])
    (folder / lost["image"]).unlink()
    done = run(suite)
    assert done.code == 4
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert {score["sample"] for score in scores if score["status"] == "error"} == {lost["id"]}
    assert (
        "10 / 11" in (folder / "report" / "table.md").read_text()
        or "8 / 9" in (folder / "report" / "table.md").read_text()
    )


def test_absent_device_is_refused(run, suite):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is such a device")
    refused(run(suite, "--device", "cuda"), '"cuda" is not available', "--device cpu")


@pytest.mark.parametrize(
    ("part", "value", "parts"),
    [
        ("multi", {"subjects": [["ann", "bob"], ["ann", "bob"]]}, ("subjects:", "['ann', 'bob'] is listed twice")),
        ("multi", {"subjects": []}, ("subjects:", "the list is empty")),
        ("single", {"subjects": ["ann", "ann"]}, ("subjects:", '"ann" is listed twice')),
        ("single", {"subjects": []}, ("subjects:", "the list is empty")),
        ("single", {"prompts": {"context": []}}, ("context:", "at least 1 item")),
        ("photographs", {"pattern": "people/all-{n}.png"}, ("photographs:", "lacks {id}")),
        ("photographs", {"pattern": "people/{id}-1.png"}, ("photographs:", "lacks {n}")),
    ],
)
def test_what_would_be_generated_twice_or_not_at_all_names_its_line(
    run, suite_data, write_suite, part, value, parts, tmp_path
):
    key, message = parts
    suite_data = {name: suite_data[name] for name in suite_data if name not in ("single", "multi")} | {
        part: suite_data[part] | value
    }
    if part == "photographs":
        suite_data["single"] = {"prompts": {"context": ["a {subject}"]}}
    suite = write_suite(suite_data)
    lines = suite.read_text().splitlines()
    start = line_with(suite, f"{part}:")
    number = next(n for n, line in enumerate(lines, 1) if n >= start and key in line)
    refused(run(suite), f"suite.yaml:{number}:", message)
    assert not (tmp_path / "run").exists()


def test_the_same_set_in_another_order_is_another_set(run, suite_data, write_suite, records, tmp_path):
    suite_data["multi"]["subjects"] = [["ann", "bob"], ["bob", "ann"]]
    assert run(write_suite(suite_data)).code == 0
    samples = records(tmp_path / "run" / "samples.jsonl")
    assert len({sample["id"] for sample in samples}) == len(samples) == 11


def test_plan_without_a_sample_is_refused(run, suite_data, write_suite, tmp_path):
    del suite_data["single"]
    suite_data["multi"]["subjects"] = [["ann", "bob", "cid"]]
    refused(run(write_suite(suite_data)), "no method accepts", "paste: 1 subject sets are left out")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(28, "No space left on device")], ids=["denied", "full"]
)
@pytest.mark.parametrize("writer", ["write_json", "write_lines", "write_png"])
def test_run_folder_that_cannot_be_written_before_generating_is_named(run, suite, tmp_path, monkeypatch, error, writer):
    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(f"fc_bench.commands.session.{writer}", failing)
    refused(run(suite), str(tmp_path / "run"), str(error.strerror), "repeat the command")


def test_lock_that_fails_otherwise_is_not_said_to_be_another_process(run, suite, monkeypatch):
    import fcntl

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    refused(run(suite), "cannot be locked", "Operation not supported")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "mps", "cpu:0", "CUDA"])
def test_name_that_is_no_device_is_refused(run, suite, device):
    refused(run(suite, "--device", device), f'"{device}" is not a device', "auto, cpu, cuda or cuda:N")


def test_device_number_beyond_those_present_is_refused(monkeypatch):
    import torch

    from fc_bench.errors import UserError
    from fc_bench.generation.device import resolve_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [resolve_device(name) for name in ("auto", "cpu", "cuda", "cuda:1")] == ["cuda", "cpu", "cuda", "cuda:1"]
    with pytest.raises(UserError, match='"cuda:2" is not available here, cuda devices here: 2'):
        resolve_device("cuda:2")


@pytest.fixture
def copied_backbone(tiny_backbone, tmp_path):
    """The backbone's own copy of all files, to be damaged."""
    import shutil

    shutil.copytree(tiny_backbone.parent, tmp_path / "backbone")
    return tmp_path / "backbone" / tiny_backbone.name


@pytest.mark.parametrize("method", ["text-only", "fastcomposer"])
@pytest.mark.parametrize("damaged", ["pipeline/vae/diffusion_pytorch_model", "pipeline/text_encoder/model"])
def test_damaged_pipeline_is_told_by_every_method_before_anything_is_generated(
    fc_bench, copied_backbone, suite, tmp_path, method, damaged
):
    weights = copied_backbone.parent / f"{damaged}.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    done = fc_bench("run", suite, "--backbone", copied_backbone, "-m", method, "--out", tmp_path / "run")
    refused(done, "is damaged", str(copied_backbone.parent / "pipeline"))
    assert not list((tmp_path / "run").rglob("images"))


def test_damaged_or_incomplete_clip_is_told_before_anything_is_generated(fc_bench, copied_backbone, suite, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = copied_backbone.parent / "clip" / "model.safetensors"
    state = load_file(weights)
    lost = state.pop("text_projection.weight")
    assert lost.numel()
    save_file(state, weights, {"format": "pt"})
    arguments = ("run", suite, "--backbone", copied_backbone, "-m", "text-only", "--out", tmp_path / "run")
    refused(fc_bench(*arguments), "CLIP scorer", "lacks 1 weights, first text_projection.weight")
    weights.write_bytes(weights.read_bytes()[:100])
    refused(fc_bench(*arguments), "CLIP scorer", "cannot be loaded")
    assert not (tmp_path / "run" / "samples.jsonl").exists()


def test_scores_under_other_settings_of_the_face_models_do_not_mix(fc_bench, tiny_backbone, plugin, suite, tmp_path):
    faces = yaml.safe_load(tiny_backbone.read_text())["faces"] | {"pack": str(tiny_backbone.parent / "faces")}
    arguments = ("-m", "paste", "--out", tmp_path / "run")
    file = moved(tiny_backbone, tmp_path)
    assert fc_bench("run", suite, "--backbone", file, *arguments).code == 0
    moved(tiny_backbone, tmp_path, faces=faces | {"det_thresh": 0.3})
    refused(fc_bench("run", suite, "--backbone", file, *arguments), "other settings of the face models", "--out")


def test_unknown_method_in_a_backbone_is_named(fc_bench, tiny_backbone, suite, tmp_path):
    file = moved(tiny_backbone, tmp_path, methods={"fastcomposr": {"alpha": 0.5}})
    done = fc_bench("run", suite, "--backbone", file, "-m", "text-only", "--out", tmp_path / "run")
    refused(done, 'unknown method "fastcomposr"', 'did you mean "fastcomposer"?')


def test_prompt_too_long_for_the_clip_scorer_is_told(run, suite_data, write_suite, fc_bench, copied_backbone, tmp_path):
    import json

    config = copied_backbone.parent / "clip" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_max_length": 20}))
    done = fc_bench("run", write_suite(suite_data), "--backbone", copied_backbone, "--out", tmp_path / "run")
    refused(done, "the CLIP scorer", "at most 20", "shorten it")


def test_weights_of_every_method_that_are_missing_are_told_at_once(fc_bench, suite, monkeypatch):
    monkeypatch.setenv("HOME", "/nowhere")
    done = fc_bench("run", suite, "--backbone", "sdxl", "--offline")
    assert done.code == 2
    missing, _ = done.err.strip().splitlines()
    assert "(pipeline, clip, faces, photomaker, ip_adapter_encoder, ip_adapter/plus-face)" in missing


@pytest.mark.parametrize("verb", ["run", "compose"])
def test_all_weights_that_are_missing_are_told_at_once_in_two_lines(
    fc_bench, suite, monkeypatch, portrait, people, verb
):
    monkeypatch.setenv("HOME", "/nowhere")
    photograph = suite.parent / "ann.png"
    portrait(people["ann"][1]).save(photograph)
    asked = {
        "run": ("run", suite, "-m", "text-only", "-m", "fastcomposer"),
        "compose": ("compose", "a {ann}", "-s", f"ann={photograph}:woman"),
    }
    done = fc_bench(*asked[verb], "--backbone", "sd15", "--offline")
    assert done.code == 2
    lines = done.err.strip().splitlines()
    assert len(lines) == 2
    assert "(pipeline, clip, faces, fastcomposer/published)" in lines[0]
    for what in ("stable-diffusion-v1-5/stable-diffusion-v1-5", "clip-vit-large-patch14", "buffalo_l", "mit-han-lab"):
        assert what in lines[1]
