"""A command with nothing left to do ends at once, and looks again when anything it rests on has changed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from fc_bench.commands.finished import FINISHED

HEAVY = ("torch", "diffusers", "transformers", "insightface", "onnxruntime", "pandas", "matplotlib", "scipy")


@pytest.fixture
def run(fc_bench, plugin, suite, tiny_backbone, tmp_path):
    """`fc-bench run` of the plug-in method into `run/`."""

    def invoke(*arguments: object):
        return fc_bench("run", suite, "--backbone", tiny_backbone, "--out", tmp_path / "run", "-m", "paste", *arguments)

    return invoke


@pytest.fixture
def looks(monkeypatch):
    """How often a run was prepared."""
    from fc_bench.commands import run

    seen: list[object] = []
    prepare = run.prepare

    def counted(options):
        seen.append(options)
        return prepare(options)

    monkeypatch.setattr(run, "prepare", counted)
    return seen


def test_finished_run_is_not_looked_at_again_and_nothing_is_recorded(run, looks, tmp_path):
    first = run()
    assert first.code == 0, first.err
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    again = run()
    assert again.code == 0, again.err
    assert len(looks) == 1
    assert " samples, 0 to generate, in " in again.out
    assert "One subject" in again.out
    assert again.out.count("is up to date\n") == 1
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


def test_finished_run_loads_no_library(plugin, suite, tiny_backbone, tmp_path):
    out = str(tmp_path / "run")
    words = ["run", str(suite), "--backbone", str(tiny_backbone), "--out", out, "-m", "text-only"]
    program = (
        "import sys; from fc_bench.cli import main\n"
        f"sys.argv = {['fc-bench', *words, '--limit-subjects', '1']}\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    loaded = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        loaded.append(done.stdout.splitlines()[-1])
    assert "torch" in loaded[0]
    assert loaded[1] == "[]"


@pytest.mark.parametrize("changed", ["run.json", "scores.jsonl", "samples.jsonl", "plan.jsonl", "jobs.jsonl"])
def test_changed_record_is_looked_at_and_repaired(run, looks, tmp_path, changed):
    assert run("--limit-subjects", 1).code == 0
    file = tmp_path / "run" / changed
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines) if changed in ("run.json", "plan.jsonl", "jobs.jsonl") else "".join(lines[:-1]))
    done = run("--limit-subjects", 1)
    assert done.code == 0, done.err
    assert len(looks) == 2
    assert len(file.read_text().splitlines()) >= len(lines)


def test_removed_reference_comes_back(run, looks, tmp_path):
    run("--limit-subjects", 1)
    (reference,) = (tmp_path / "run" / "references").iterdir()
    reference.unlink()
    assert run("--limit-subjects", 1).code == 0
    assert len(looks) == 2
    assert reference.is_file()


def test_changed_suite_photograph_weights_or_options_are_looked_at(run, looks, suite, tiny_backbone, tmp_path):
    def again(*arguments: object) -> int:
        looks.clear()
        run(*arguments)
        return len(looks)

    assert again() == 1
    assert again() == 0
    assert again("--images-per-prompt", 2) == 1
    assert again("--images-per-prompt", 2) == 0
    assert again() == 1
    content = yaml.safe_load(suite.read_text())
    suite.write_text(yaml.safe_dump({**content, "description": "another"}))
    assert again() == 1
    suite.write_text(yaml.safe_dump(content))
    again()
    for file in (next(suite.parent.rglob("*.png")), *(tiny_backbone.parent / "clip").glob("*.safetensors")):
        file.touch()
        assert again() == 1
        assert again() == 0


def test_failed_samples_are_reported_again_and_tried_again_only_on_request(run, looks, tmp_path):
    failing = ("-o", "paste.fail_prompt=beach", "--limit-subjects", 1)
    assert run(*failing).code == 4
    again = run(*failing)
    assert (again.code, "incomplete" in again.err, len(looks)) == (4, True, 1)
    assert run(*failing, "--retry-errors").code == 4
    assert run(*failing, "--retry-errors").code == 4
    assert len(looks) == 3


def test_damaged_file_of_the_finished_state_is_ignored(run, looks, tmp_path):
    run("--limit-subjects", 1)
    for content in ("", "[]", "{}", json.dumps({"request": 1, "packages": None, "files": {}})):
        (tmp_path / "run" / FINISHED).write_text(content)
        assert run("--limit-subjects", 1).code == 0
    assert len(looks) == 5


def test_report_with_all_figures_outlives_a_repeated_run(run, fc_bench, tmp_path):
    run("--limit-subjects", 1)
    assert fc_bench("report", tmp_path / "run").code == 0
    page = (tmp_path / "run" / "report" / "index.html").read_bytes()
    assert run("--limit-subjects", 1).code == 0
    assert (tmp_path / "run" / "report" / "index.html").read_bytes() == page


def test_scored_folder_is_scored_again_when_an_image_changes(
    fc_bench, run, suite, tiny_backbone, tmp_path, monkeypatch
):
    from fc_bench.commands import score

    placed: list[object] = []
    place = score._place
    monkeypatch.setattr(score, "_place", lambda *arguments: (placed.append(arguments), place(*arguments)))
    run()
    command = ("score", tmp_path / "run", "--suite", suite, "--backbone", tiny_backbone, "--out", tmp_path / "scored")
    outs = [fc_bench(*command) for _ in range(2)]
    assert [done.code for done in outs] == [0, 0], outs[0].err
    assert len(placed) == 1
    assert "images found" in outs[1].out
    image = next((tmp_path / "run" / "images").rglob("*.png"))
    image.write_bytes(next(file for file in (tmp_path / "run" / "images").rglob("*.png") if file != image).read_bytes())
    fc_bench(*command)
    assert len(placed) == 2
