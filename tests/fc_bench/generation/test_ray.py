"""On a Ray cluster of several processes a run is what it is in one: the same samples, resumable, none lost or twice."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def cluster(plugin_folder) -> Iterator[None]:
    """A cluster of this machine with room for two workers, which see the plug-in."""
    ray = pytest.importorskip("ray", reason="the extra fc-bench[ray] is not installed")
    # Ray's workers are nice to others: on a busy machine they would hardly run.
    wanted = {"PYTHONPATH": str(plugin_folder), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


METHODS = ("-m", "text-only", "-m", "fastcomposer", "-m", "collage", "-o", "collage.apart=true")


def test_a_run_begun_in_one_process_and_continued_on_a_cluster_is_the_run_of_one_process(
    cluster, run, records, tmp_path
):
    _, whole_samples, whole = run("whole", *METHODS)
    run("spread", *METHODS, "--limit-subjects", 1)
    begun = len(records(tmp_path / "spread" / "jobs.jsonl"))
    _, samples, shown = run("spread", *METHODS, "--executor", "ray", "--workers", 2)
    assert {sample["id"] for sample in samples} == {sample["id"] for sample in whole_samples}
    assert all((shown[name] == whole[name]).all() for name in whole)
    scores = [
        {(line["sample"], line["metric"]): line["values"] for line in records(tmp_path / out / "scores.jsonl")}
        for out in ("whole", "spread")
    ]
    assert scores[0] == scores[1]
    assert not (tmp_path / "spread" / "artefacts").exists()
    # Prefixes are shared on the cluster, too, and nobody is customized twice.
    reused = [sample["shared_prefix"]["reused"] for sample in samples if "shared_prefix" in sample]
    assert [bool(count) for count in reused] == [False] * 3 + [True] * 3
    jobs = [(line["method"], line["set"]) for line in records(tmp_path / "spread" / "jobs.jsonl")[begun:]]
    assert len(jobs) == len(set(jobs))


def test_a_worker_killed_in_the_middle_of_a_job_loses_nothing(cluster, run, tmp_path):
    _, _, whole = run("whole", "-m", "paste")
    died = tmp_path / "died"
    ray = ("--executor", "ray", "--workers", 1, "--batch-size", 1)
    _, samples, shown = run("killed", "-m", "paste", "-o", f"paste.died={died}", *ray)
    assert died.exists()
    assert len(samples) == 11
    assert {sample["status"] for sample in samples} == {"ok"}
    without_method = {name[1:]: image for name, image in shown.items()}
    assert all((without_method[name[1:]] == image).all() for name, image in whole.items())


@pytest.mark.slow
def test_a_sweep_spread_over_workers_is_the_sweep_of_one_process(
    cluster, fc_bench, suite, tiny_backbone, tmp_path, records
):
    asked = ("sweep", "fastcomposer.alpha", "0,0.5,1", "--suite", suite, "--backbone", tiny_backbone)
    made = []
    for out, spread in (("one", ()), ("spread", ("--executor", "ray", "--workers", 2))):
        done = fc_bench(*asked, "--out", tmp_path / out, *spread)
        assert done.code == 0, done.err
        samples = {sample["id"]: sample for sample in records(tmp_path / out / "samples.jsonl")}
        made.append({name: (tmp_path / out / each["image"]).read_bytes() for name, each in samples.items()})
    assert made[0] == made[1]
    assert len(made[0]) == 4 * 11


@pytest.mark.slow
def test_a_job_at_which_every_worker_dies_fails_alone(cluster, run):
    ray = ("--executor", "ray", "--workers", 1)
    done, samples, _ = run("run", "-m", "paste", "-o", "paste.die_subject=bob", *ray, code=4)
    failed = [sample for sample in samples if sample["status"] != "ok"]
    assert {tuple(sample["subjects"]) for sample in failed} == {("bob",)}
    assert len(samples) == 11
    assert "its worker was lost 3 times" in done.out


@pytest.mark.slow
def test_a_method_that_cannot_be_loaded_on_a_worker_fails_its_samples_and_says_so_once(cluster, run):
    done, samples, _ = run("run", "-m", "paste", "-o", "paste.fail_load=true", "--executor", "ray", code=4)
    assert {sample["error"]["message"] for sample in samples} == {"RuntimeError: no such accelerator"}
    assert done.out.count("no such accelerator (costs 11 samples)") == 1


def test_without_ray_the_executor_says_what_to_install(fc_bench, suite, tiny_backbone, plugin, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    asked = ("run", suite, "--backbone", tiny_backbone, "-m", "paste", "--out", tmp_path / "run")
    done = fc_bench(*asked, "--executor", "ray")
    assert (done.code, 'install it in the checkout: pip install -e ".[ray]".' in done.err) == (2, True)


def test_what_belongs_to_a_cluster_is_refused_without_one(fc_bench, suite, tiny_backbone, plugin):
    asked = ("run", suite, "--backbone", tiny_backbone, "-m", "paste")
    assert "add --executor ray" in fc_bench(*asked, "--address", "auto").err
    assert 'no executor "slurm"; give local or ray' in fc_bench(*asked, "--executor", "slurm").err
    swept = ("sweep", "fastcomposer.alpha", "0,1", "--suite", suite, "--backbone", tiny_backbone)
    assert "add --executor ray" in fc_bench(*swept, "--address", "auto").err
