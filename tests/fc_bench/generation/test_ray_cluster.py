"""What a cluster has room for is counted as Ray counts it; nodes may go, and what cannot be reached is said."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fc_bench.generation.ray_cluster import Cluster, holds


@pytest.fixture
def nodes(plugin_folder, monkeypatch) -> Iterator[Any]:
    """A cluster of two nodes of one CPU each, whose workers see the plug-in."""
    pytest.importorskip("ray", reason="the extra fc-bench[ray] is not installed")
    from ray.cluster_utils import Cluster as Nodes

    patient = {"RAY_agent_register_timeout_ms": "300000", "RAY_raylet_start_wait_time_s": "300"}
    wanted = {"PYTHONPATH": str(plugin_folder), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0", **patient}
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    cluster = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def ends() -> Iterator[None]:
    """Fails the test when it takes minutes: what is waited for does not come."""

    def fail(*_: object) -> None:
        raise AssertionError("no end")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def run(ends, nodes, fc_bench, suite, tiny_backbone, plugin, tmp_path, records):
    """Runs the suite on the nodes, a batch an image; gives the finished command and the samples."""

    def invoke(*arguments: object):
        asked = ("run", suite, "--backbone", tiny_backbone, "-m", "paste", "--batch-size", 1, "--out", tmp_path / "run")
        done = fc_bench(*asked, "--executor", "ray", "--address", nodes.address, *arguments)
        file = tmp_path / "run" / "samples.jsonl"
        return done, records(file) if file.exists() else []

    return invoke


def test_what_a_node_that_goes_was_doing_the_other_one_does(nodes, run, tmp_path, records):
    samples = tmp_path / "run" / "samples.jsonl"

    def remove() -> None:
        while not samples.exists() or len(records(samples)) < 3:
            time.sleep(0.1)
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)

    going = threading.Thread(target=remove, daemon=True)
    going.start()
    done, made = run("-o", "paste.seconds=0.5")
    assert done.code == 0, done.err
    assert not going.is_alive()
    assert len(made) == len({sample["id"] for sample in made}) == 11
    assert {sample["status"] for sample in made} == {"ok"}


def test_more_workers_than_there_is_room_for_keep_nothing_from_being_done(run):
    done, made = run("--workers", 4)
    assert done.code == 0, done.err
    assert len(made) == len({sample["id"] for sample in made}) == 11


def test_a_cluster_that_gives_no_worker_is_said_before_a_run_folder_is_begun(run, monkeypatch, tmp_path):
    monkeypatch.setattr("fc_bench.generation.ray_cluster.PATIENCE", 2.0)
    done, _ = run("--workers", 1, "--gpus-per-job", 1)
    assert done.code == 2
    assert not (tmp_path / "run" / "run.json").exists()  # its device would bind whoever asks for less
    assert "gave no worker in 2 s: a job takes 1 CPU and 1 GPU of one node" in done.err
    assert "the cluster has 2 nodes with 2 CPU and 0 GPU together" in done.err


@pytest.mark.parametrize(
    ("node", "cpus", "gpus", "count"),
    [
        ({"CPU": 8, "GPU": 2}, 1, 0.6, 2),  # not three: a worker's share is of one device
        ({"CPU": 8, "GPU": 3}, 1, 2, 1),
        ({"CPU": 1}, 0.1, 0, 10),  # not nine, as floats have it
        ({"CPU": 2, "GPU": 8}, 1, 0.5, 2),
        ({"CPU": 8}, 1, 1, 0),
    ],
)
def test_a_node_holds_as_many_workers_as_ray_places_there(node, cpus, gpus, count):
    assert holds(node, Cluster(cpus_per_job=cpus, gpus_per_job=gpus)) == count


@pytest.fixture
def refused(fc_bench, suite, tiny_backbone, plugin, tmp_path, monkeypatch):
    """What a run on a cluster is refused with."""
    monkeypatch.setattr("fc_bench.generation.ray_cluster.REACHING", 0.0)

    def invoke(*arguments: object) -> str:
        asked = ("run", suite, "--backbone", tiny_backbone, "-m", "paste", "--out", tmp_path / "run")
        done = fc_bench(*asked, "--executor", "ray", *arguments)
        assert done.code == 2
        assert not (tmp_path / "run" / "run.json").exists()
        assert len(done.err.splitlines()) == 1
        return done.err

    return invoke


def test_an_address_where_nothing_listens_is_said_and_not_tried_for_minutes(ends, refused, monkeypatch):
    pytest.importorskip("ray", reason="the extra fc-bench[ray] is not installed")
    assert "No Ray cluster answers at 127.0.0.1:1" in refused("--address", "127.0.0.1:1")
    assert "No Ray cluster answers at ray://127.0.0.1:1" in refused("--address", "ray://127.0.0.1:1")
    assert "Connecting to the Ray cluster nonsense failed" in refused("--address", "nonsense")


def test_a_note_of_a_cluster_that_has_ended_is_said(ends, refused, monkeypatch, tmp_path):
    pytest.importorskip("ray", reason="the extra fc-bench[ray] is not installed")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)  # none of another test or user
    assert re.search(r"No Ray cluster answers at auto \(\S+:1\)", refused("--address", "auto"))


@pytest.mark.parametrize(
    ("device", "gpus", "told"),
    [
        ("cpu", 1, "--device cpu does not fit --gpus-per-job 1"),
        ("cuda:1", 1, "--device cuda:1 does not fit --gpus-per-job 1"),
        ("cuda", 0, "--device cuda does not fit --gpus-per-job 0"),
        ("auto", 1.5, "give a whole number or a share from 0.0001 to 1"),
        ("auto", 0.00001, "give a whole number or a share from 0.0001 to 1"),
        ("auto", "inf", "give a whole number or a share from 0.0001 to 1"),
    ],
)
def test_devices_and_accelerators_that_do_not_go_together_are_refused(refused, device, gpus, told):
    assert told in refused("--device", device, "--gpus-per-job", gpus)


def test_accelerators_of_a_cluster_need_not_be_here(fc_bench, suite, tiny_backbone, plugin, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = ("run", suite, "--backbone", tiny_backbone, "-m", "paste", "--executor", "ray", "--dry-run")
    assert fc_bench(*asked, "--device", "cuda", "--gpus-per-job", 1).code == 0
    assert fc_bench(*asked, "--device", "cuda").code == 0
