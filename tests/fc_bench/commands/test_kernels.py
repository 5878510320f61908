"""A run records attention and memory formats and keeps them; on a CPU that computes bfloat16 a remark says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fc_bench.model import kernel_choice

FIXED = {"attention": "sdpa", "unet": "channels-last", "vae": "channels-last"}


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch, tmp_path) -> dict[str, float]:
    """Every shape counts as large; the seconds that its measurement gives."""
    seconds = {"contiguous": 1.0, "channels-last": 1.0, "sdpa": 1.0, "mixed": 1.0}
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_choice, "SMALL", 0)
    monkeypatch.setattr(kernel_choice, "_measured", lambda work: {one: seconds[one] for one in work.candidates})
    kernel_choice._faster.cache_clear()
    return seconds


@pytest.fixture
def run(fc_bench, tiny_backbone, suite, tmp_path):
    def invoke(*arguments: object) -> Any:
        common = ("--backbone", tiny_backbone, "--out", tmp_path / "run", "-m", "text-only", "--limit-subjects", 1)
        return fc_bench("run", suite, *common, *arguments)

    return invoke


def recorded(tmp_path) -> Any:
    return json.loads((tmp_path / "run" / "run.json").read_text())["kernels"]


def test_a_run_records_the_choice_and_a_continued_run_keeps_it(run, large, tmp_path, monkeypatch):
    large.update({"mixed": 0.5})
    assert run("--images-per-prompt", 1).code == 0
    chosen = {"attention": "mixed", "unet": "contiguous", "vae": "channels-last"}
    assert recorded(tmp_path) == chosen
    large.update({"mixed": 2.0, "channels-last": 0.5})
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "other"))
    kernel_choice._faster.cache_clear()
    assert run("--images-per-prompt", 2).code == 0
    assert recorded(tmp_path) == chosen
    file = tmp_path / "run" / "run.json"
    settings = json.loads(file.read_text())
    del settings["kernels"]  # as in an earlier version
    file.write_text(json.dumps(settings))
    assert run("--images-per-prompt", 2).code == 0
    assert recorded(tmp_path) == FIXED
    file.write_text(json.dumps({**settings, "kernels": {**chosen, "unet": "upside-down"}}))
    done = run("--images-per-prompt", 2)
    assert done.code == 2
    assert "run.json" in done.err
    assert "kernels" in done.err


def test_a_small_shape_records_the_fixed_choice(run, tmp_path):
    assert run("--images-per-prompt", 1).code == 0
    assert recorded(tmp_path) == FIXED


@pytest.mark.parametrize("command", [(), ("--dry-run",)])
def test_a_large_run_in_float32_names_the_faster_format_once(command, run, large, monkeypatch):
    monkeypatch.setattr(kernel_choice, "cpu_dtype", lambda: ("bfloat16", "it computes bfloat16 itself"))
    done = run("--images-per-prompt", 1, *command)
    assert done.code == 0, done.err
    assert done.out.count("The run takes float32, but bfloat16 suits this CPU: it computes bfloat16 itself.") == 1
    assert "`dtype: {cpu: bfloat16}`" in done.out
    monkeypatch.setattr(kernel_choice, "cpu_dtype", lambda: ("float32", "it has no instructions for bfloat16"))
    assert "suits this CPU" not in run("--images-per-prompt", 2, *command).out


def test_a_small_run_has_no_remark_on_its_format(run, monkeypatch):
    monkeypatch.setattr(kernel_choice, "cpu_dtype", lambda: ("bfloat16", "it computes bfloat16 itself"))
    assert "suits this CPU" not in run("--images-per-prompt", 1, "--dry-run").out


def test_the_doctor_says_which_number_format_the_machine_takes(fc_bench, monkeypatch):
    monkeypatch.setattr(kernel_choice, "cpu_dtype", lambda: ("bfloat16", "it computes bfloat16 itself"))
    done = fc_bench("doctor", "--backbone", "pocket")
    assert done.code == 0, done.err
    assert "bfloat16 for large models on this CPU: it computes bfloat16 itself" in " ".join(done.out.split())
