"""Nothing reaches for the network where all weights are local, and nothing may with --offline."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml

UNREACHABLE = """
import socket

def refused(*arguments, **_):
    print("TOUCHED", arguments, flush=True)
    raise OSError(101, "Network is unreachable")

class Deaf(socket.socket):
    def connect(self, address):
        if self.family != socket.AF_UNIX:
            refused(address)
        super().connect(address)

socket.socket = Deaf
socket.create_connection = refused
socket.getaddrinfo = refused
from fc_bench.cli import main
main()
"""


@pytest.fixture
def cut_off(tmp_path):
    """Runs the command line in a process that cannot reach the network and prints TOUCHED where it tries."""

    def run(*arguments: object) -> subprocess.CompletedProcess:
        hub = {name: value for name, value in os.environ.items() if "HF_" not in name and "OFFLINE" not in name}
        environment = {**hub, "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "hub")}
        command = [sys.executable, "-c", UNREACHABLE, *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture
def hub_backbone(tiny_backbone, tmp_path):
    """The tiny backbone with a pipeline that has to be fetched."""
    data = yaml.safe_load(tiny_backbone.read_text())
    data["clip"] = str(tiny_backbone.parent / "clip")
    data["faces"]["pack"] = str(tiny_backbone.parent / "faces")
    data["fastcomposer"]["variants"] = {"random": str(tiny_backbone.parent / "fastcomposer")}
    file = tmp_path / "hub.yaml"
    file.write_text(yaml.safe_dump({**data, "pipeline": "hub:somebody/something"}))
    return file


def test_run_with_local_weights_never_touches_the_network(cut_off, tiny_backbone, suite, tmp_path):
    done = cut_off("run", suite, "--backbone", tiny_backbone, "-m", "text-only", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "TOUCHED" not in done.stdout


def test_offline_forbids_the_hub_and_says_what_is_missing(cut_off, hub_backbone, suite, tmp_path):
    arguments = ("run", suite, "--backbone", hub_backbone, "-m", "text-only", "--out", tmp_path / "run")
    done = cut_off(*arguments, "--offline")
    assert done.returncode == 2
    assert "TOUCHED" not in done.stdout
    assert "not in the local cache, and network access is disabled" in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2
    assert "hf download somebody/something" in lines[1]


def test_hub_that_cannot_be_reached_is_told_in_one_sentence(cut_off, hub_backbone, suite, tmp_path):
    done = cut_off("run", suite, "--backbone", hub_backbone, "-m", "text-only", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "TOUCHED" in done.stdout
    assert "could not be fetched from the hub repository somebody/something" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_library_reports_that_it_is_used(tmp_path):
    """Also where the hub may be used, and on a Ray cluster that the command starts."""
    told = """
import sys
from fc_bench.cli import main
try:
    main()
except SystemExit:
    from huggingface_hub import constants
    from ray._common.usage.usage_lib import usage_stats_enabled
    print("REPORTS", usage_stats_enabled() or not constants.HF_HUB_DISABLE_TELEMETRY)
"""
    names = ("TELEMETRY", "DO_NOT_TRACK", "OFFLINE", "USAGE_STATS")
    environment = {name: value for name, value in os.environ.items() if not any(part in name for part in names)}
    command = [sys.executable, "-c", told, "list", "suites"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.strip().endswith("REPORTS False"), done.stdout + done.stderr
