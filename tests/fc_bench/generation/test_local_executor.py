"""In several processes of this machine a run is what it is in one: the same samples, resumable, none lost or twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from fc_bench.generation import local_executor
from fc_bench.generation.local_executor import worker_count

METHODS = ("-m", "text-only", "-m", "fastcomposer", "-m", "collage", "-o", "collage.apart=true")


def test_a_run_of_one_process_continued_by_two_is_the_run_of_one_with_marked_seconds(run, records, tmp_path):
    _, whole_samples, whole = run("whole", *METHODS, "--workers", 1)
    run("spread", *METHODS, "--workers", 1, "--limit-subjects", 1)
    begun = len(records(tmp_path / "spread" / "jobs.jsonl"))
    _, samples, shown = run("spread", *METHODS, "--workers", 2)
    assert {sample["id"] for sample in samples} == {sample["id"] for sample in whole_samples}
    assert all((shown[name] == whole[name]).all() for name in whole)
    assert not (tmp_path / "spread" / "artefacts").exists()
    jobs = records(tmp_path / "spread" / "jobs.jsonl")
    assert len({(job["method"], job["set"]) for job in jobs[begun:]}) == len(jobs[begun:])
    # What was measured beside another process says so, in records and tables.
    assert [job.get("workers") for job in jobs] == [None] * begun + [2] * (len(jobs) - begun)
    timed = [sample for sample in samples if sample["seconds"] is not None]
    assert {sample.get("workers") for sample in timed} == {None, 2}
    assert not any("workers" in sample for sample in whole_samples)
    note = "Up to 2 processes generated at the same time"
    tables = [(tmp_path / out / "report" / "table.md").read_text() for out in ("whole", "spread")]
    assert [note in table for table in tables] == [False, True]


def test_a_process_killed_in_the_middle_of_a_job_loses_nothing(run, tmp_path):
    _, _, whole = run("whole", "-m", "paste", "--workers", 1)
    died = tmp_path / "died"
    _, samples, shown = run("killed", "-m", "paste", "-o", f"paste.died={died}", "--workers", 2, "--batch-size", 1)
    assert died.exists()
    assert {sample["status"] for sample in samples} == {"ok"}
    without_method = {name[1:]: image for name, image in shown.items()}
    assert all((without_method[name[1:]] == image).all() for name, image in whole.items())


@pytest.mark.slow
def test_a_job_at_which_every_process_dies_fails_alone(run):
    done, samples, _ = run("run", "-m", "paste", "-o", "paste.die_subject=bob", "--workers", 2, code=4)
    failed = [sample for sample in samples if sample["status"] != "ok"]
    assert {tuple(sample["subjects"]) for sample in failed} == {("bob",)}
    assert "its worker was lost 3 times" in done.out


@pytest.mark.slow
def test_a_method_that_cannot_be_loaded_fails_its_samples_and_says_so_once(run):
    done, samples, _ = run("run", "-m", "paste", "-o", "paste.fail_load=true", "--workers", 2, code=4)
    assert {sample["error"]["message"] for sample in samples} == {"RuntimeError: no such accelerator"}
    assert done.out.count("no such accelerator (costs 11 samples)") == 1


def test_ctrl_c_ends_every_process_and_the_same_command_continues(run, suite, tiny_backbone, plugin_folder, tmp_path):
    out = tmp_path / "interrupted"
    asked = ["run", suite, "--backbone", tiny_backbone, "-m", "fastcomposer", "-m", "paste", "--out", out]
    command = [sys.executable, "-m", "fc_bench.cli", *map(str, asked), "--workers", "2", "--batch-size", "1"]
    environment = {**os.environ, "PYTHONPATH": str(plugin_folder)}
    begun = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / "samples.jsonl").exists() or not (out / "samples.jsonl").read_text():
        assert begun.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=60)
    assert (begun.returncode, "the same command continues" in said) == (130, True)
    _, samples, _ = run("interrupted", "-m", "fastcomposer", "-m", "paste")
    assert len(samples) == 22


@pytest.mark.parametrize(
    ("device", "megabytes", "wanted", "samples", "count"),
    [
        ("cpu", 20, None, 100, 4),
        ("cpu", 20, None, 30, 2),
        ("cpu", 20, None, 5, 1),
        ("cpu", 4000, None, 100, 1),
        ("cpu", 4000, 3, 100, 3),
        ("cpu", 20, 8, 5, 5),
        ("cuda", 4000, None, 100, 2),
        ("cuda:1", 4000, None, 100, 1),
    ],
)
def test_number_of_processes_suits_device_model_and_work(device, megabytes, wanted, samples, count, monkeypatch):
    import psutil
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=64 << 30))
    monkeypatch.setattr(local_executor, "_weight_bytes", lambda backbone: megabytes << 20)
    setting = SimpleNamespace(device=device, backbone=None)
    assert worker_count(setting, wanted, samples) == count


def test_processes_of_a_small_machine_are_as_many_as_its_memory_holds(monkeypatch):
    import psutil
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4 << 30))
    monkeypatch.setattr(local_executor, "_weight_bytes", lambda backbone: 0)
    assert worker_count(SimpleNamespace(device="cpu", backbone=None), None, 1000) == 4
