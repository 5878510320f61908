"""The command line itself: quick, without heavy imports, helpful."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from fc_bench.model.backbones.backbone import DLIB_EXTRA
from tests.fc_bench.test_bad_input import moved

HEAVY = ("torch", "diffusers", "transformers", "pandas", "onnxruntime", "insightface", "cv2")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["list", "suites"], ["list", "backbones"]])
def test_looking_around_imports_nothing_heavy(arguments):
    program = (
        "import sys\n"
        f"sys.argv = ['fc-bench', *{arguments!r}]\n"
        "from fc_bench.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_list_shows_every_kind_in_its_own_words_and_where_it_comes_from(fc_bench, plugin):
    done = fc_bench("list")
    assert done.code == 0
    for words in ("knows nothing of the subject", "pastes photographs", "mean pixel", "Eight people"):
        assert words in done.out
    assert "paste_faces:Paste" not in done.out
    for name in ("text-only", "fastcomposer", "identity", "prompt-consistency", "pocket", "sd15", "paste-faces"):
        assert name in done.out


@pytest.mark.parametrize("problem", ["import nothing_of_the_kind", "class Broken: pass"])
def test_plug_in_that_cannot_be_loaded_shows_why_in_its_row(fc_bench, tmp_path, monkeypatch, problem):
    (tmp_path / "broken_plugin.py").write_text(problem + "\n")
    information = tmp_path / "broken_plugin-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[fc_bench.methods]\nbroken = broken_plugin:Broken\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    done = fc_bench("list", "methods")
    assert done.code == 0
    (row,) = [line for line in done.out.splitlines() if line.strip().startswith("broken ")]
    assert ("No module named 'nothing_of_the_kind'" if "import" in problem else "has no description") in row
    assert "broken-plugin" in row
    assert "the base model with the plain prompt" in done.out


def option_rows(out: str) -> dict[str, list[str]]:
    """Option -> the cells after it."""
    rows = [[cell for cell in line.split("  ") if cell.strip()] for line in out.splitlines() if line.startswith("  ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_options_of_a_method_show_type_default_and_the_backbone_s_choice(fc_bench):
    from fc_bench.model.backbones.backbone import read_backbone

    chosen = read_backbone("pocket").methods["dreambooth"]
    rows = option_rows(fc_bench("list", "methods", "dreambooth").out)
    assert rows["option"] == ["type", "default", "on pocket", "meaning"]
    assert rows["steps"][:3] == ["whole number", "800", str(chosen["steps"])]
    assert rows["steps"][3].startswith(
        "Training steps per subject"
    )  # inherited from the class whose default this one changes
    assert rows["train_text_encoder"][:3] == ["true or false", "true", "false"]
    assert rows["photographs"][:3] == ["whole number", "5", "–"]
    other = option_rows(fc_bench("list", "methods", "fastcomposer", "--backbone", "sd15").out)
    assert other["checkpoint"][:3] == ["text or null", "null", '"published"']


def test_options_show_their_meanings_where_they_are_given(fc_bench, plugin, monkeypatch):
    import paste_faces
    from pydantic import BaseModel, Field

    class Options(BaseModel):
        strength: float = Field(description="how much [of it]")

    monkeypatch.setattr(paste_faces.Paste, "Options", Options)
    rows = option_rows(fc_bench("list", "methods", "paste").out)
    assert rows["option"] == ["type", "default", "on pocket", "meaning"]
    assert rows["strength"] == ["number", "required", "–", "how much [of it]"]


def test_options_of_what_is_no_method_are_refused(fc_bench):
    assert "did you mean" in fc_bench("list", "methods", "dreamboth").err
    done = fc_bench("list", "metrics", "identity")
    assert (done.code, done.err) == (2, 'fc-bench: Only methods have options; leave out "identity".\n')


def test_a_plug_in_s_suite_is_listed_and_runs(fc_bench, plugin, tiny_backbone, tmp_path, portrait, people):
    for name in ("ann", "bob"):
        portrait(people[name][1]).save(tmp_path / f"{name}.png")
    listed = " ".join(fc_bench("list", "suites").out.split())
    assert "couple Two people of one's own, alone and together. paste-faces" in listed
    arguments = ("--photographs", tmp_path, "--backbone", tiny_backbone, "-m", "paste", "--out", tmp_path / "run")
    done = fc_bench("run", "couple", *arguments)
    assert done.code == 0, done.err
    assert "couple on tiny: 3 samples, 3 to generate" in done.out


def test_validate_counts_a_sound_suite(fc_bench, suite):
    done = fc_bench("validate", suite)
    assert done.code == 0, done.err
    assert "trio 1 is fine: 3 subjects, 6 photographs, 5 subject sets, 11 images per method." in done.out


def test_validate_names_what_is_wrong(fc_bench, suite):
    (suite.parent / "people" / "cid-2.png").write_bytes(b"")
    done = fc_bench("validate", suite)
    assert done.code == 2
    assert "cid-2.png" in done.err


def test_validate_names_everything_that_is_wrong_at_once(fc_bench, suite):
    for name in ("ann-1", "cid-2"):
        (suite.parent / "people" / f"{name}.png").write_bytes(b"")
    done = fc_bench("validate", suite)
    assert done.code == 2
    assert "ann-1.png" in done.out
    assert "cid-2.png" in done.out
    assert "fix the 2 errors above" in done.err


def test_validate_with_a_backbone_looks_for_a_face_in_every_photograph(fc_bench, suite, tiny_backbone):
    from PIL import Image

    people = suite.parent / "people"
    Image.new("RGB", (128, 128), "gray").save(people / "bob-2.png")
    done = fc_bench("validate", suite, "--backbone", tiny_backbone)
    assert done.code == 0, done.err
    assert 'bob-2.png of "bob": the ceiling leaves it out.' in done.out
    Image.new("RGB", (128, 128), "gray").save(people / "ann-1.png")
    assert fc_bench("validate", suite).code == 0
    done = fc_bench("validate", suite, "--backbone", tiny_backbone)
    assert done.code == 2
    assert "tiny-faces finds no face in" in done.err
    assert 'ann-1.png of "ann", the reference' in done.err


def test_validate_with_a_backbone_measures_prompts(fc_bench, suite_data, write_suite, tiny_backbone):
    suite_data["single"]["prompts"]["style"] = ["a sketch of a {subject} " + "and a very long story " * 20]
    file = write_suite(suite_data)
    assert fc_bench("validate", file).code == 0
    done = fc_bench("validate", file, "--backbone", tiny_backbone)
    assert done.code == 2
    assert "tokens, but the text encoder of the backbone" in done.out
    assert "tokens, but the CLIP scorer of the backbone" in done.out


def test_doctor_lists_every_file_with_size_and_checksum(fc_bench, tiny_backbone):
    from fc_bench.model.backbones.fingerprint import sha256_of

    done = fc_bench("doctor", "--backbone", tiny_backbone)
    assert done.code == 0, done.err
    weights = tiny_backbone.parent / "faces" / "rec.onnx"
    assert sha256_of(weights)[:16] in done.out
    assert "CPUExecutionProvider" in done.out
    for part in ("unet/", "vae/", "text_encoder/", "tokenizer/", "clip/", "det.onnx"):
        assert part in done.out.replace("\n", "")


def test_doctor_prints_brackets_as_they_are(fc_bench, tiny_backbone, tmp_path, monkeypatch):
    file = moved(tiny_backbone, tmp_path, description="[bold] weights")
    monkeypatch.setattr("fc_bench.commands.doctor._version", lambda distribution: None)
    done = fc_bench("doctor", "--backbone", file)
    assert done.code == 0, done.err
    assert "backbone tiny: [bold] weights" in done.out
    assert f"not installed: {DLIB_EXTRA}" in done.out


def test_doctor_counts_missing_files_and_says_what_to_do(fc_bench, tiny_backbone, tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(tiny_backbone.read_text())
    done = fc_bench("doctor", "--backbone", file)
    assert done.code == 2
    assert "files of the backbone" in done.err
    assert "Build it again" in done.err


def test_doctor_names_what_its_commands_do_not_fetch(fc_bench, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nextends: sd15\npipeline: weights.safetensors\n")
    done = fc_bench("doctor", "--backbone", file)
    assert done.code == 2
    assert "  pipeline: no command downloads it. Put the files there.\n" in done.out
    assert f"No command fetches pipeline ({tmp_path}/weights.safetensors). Put the files there." in done.err
    assert done.err.endswith("The commands above download the others.\n")
    file.write_text("name: mine\nextends: pocket\nfaces: {name: own, pack: lost}\n")
    done = fc_bench("doctor", "--backbone", file)
    assert done.err.startswith(f'fc-bench: 1 file of the backbone "{file}" is missing, first {tmp_path}/lost/')
    assert done.err.endswith(". Put the files there.\n")


def test_interruption_says_how_to_go_on(tiny_backbone, plugin_folder, suite, tmp_path):
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom fc_bench.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "run", str(suite), "--backbone", str(tiny_backbone)]
    command += ["-m", "paste", "-o", "paste.seconds=1", "--batch-size", "1", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(plugin_folder)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    samples = tmp_path / "run" / "samples.jsonl"
    deadline = time.monotonic() + 120
    while not (samples.exists() and samples.read_bytes().endswith(b"\n")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "fc-bench: interrupted; the same command continues.\n"
    assert len(samples.read_text().splitlines()) < 11


@pytest.mark.parametrize(("tolerated", "code"), [("0", 4), ("2", 4), ("3", 0), ("0.2", 4), (".28", 0), ("0.9", 0)])
def test_exit_code_says_whether_more_failed_than_was_tolerated(
    fc_bench, suite, tiny_backbone, plugin, tmp_path, tolerated, code
):
    arguments = ("run", suite, "--backbone", tiny_backbone, "-m", "paste", "-o", "paste.fail_prompt=beach")
    done = fc_bench(*arguments, "--out", tmp_path / "run", "--fail-on-error", tolerated)
    assert done.code == code
    # What is missing is said in any case: 3 of 11 samples, none of them a score's failure.
    assert "8 / 11 samples finished, 3 failed" in done.err


@pytest.mark.parametrize("tolerated", ["-1", "1.5", "many", "1e3", "٣"])
def test_tolerance_that_is_neither_number_nor_share_is_refused(fc_bench, suite, tolerated):
    done = fc_bench("run", suite, "--fail-on-error", tolerated)
    assert done.code == 2
    assert "is neither a number of samples" in done.err


def test_verbs_that_generate_have_the_same_shared_options():
    from dataclasses import fields

    from typer.main import get_command

    from fc_bench.cli import app
    from fc_bench.cli.options import GenerationOptions

    names = {field.name for field in fields(GenerationOptions)}
    run, sweep = (get_command(app).commands[verb].params for verb in ("run", "sweep"))
    shared = [[(one.name, one.opts, one.help, one.default) for one in own if one.name in names] for own in (run, sweep)]
    assert shared[0] == shared[1]
    assert {name for name, *_ in shared[0]} == names
