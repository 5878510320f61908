"""The process of a measurement: how it ends is told, it does not outlive its parent, waiting costs nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fc_bench.cost import launcher
from fc_bench.cost.launcher import launched

TASK = {"method": "m", "phase": "step"}


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Launches a program in the worker's place."""

    def launch(text: str) -> dict[str, Any]:
        monkeypatch.setattr(launcher, "COMMAND", (sys.executable, "-c", text))
        return launched(TASK, tmp_path / "log.txt")

    return launch


def test_the_answer_comes_back_with_what_the_system_saw(program, tmp_path):
    found = program(
        "import json, sys\n"
        "task = json.loads(sys.stdin.readline())\n"
        "block = bytearray(64 * 2**20)\n"
        "print('noted', file=sys.stderr)\n"
        "print(json.dumps({'status': 'ok', 'phase': task['phase'], 'path': task['path']}))"
    )
    assert (found["status"], found["phase"], found["path"]) == ("ok", "step", sys.path)
    assert found["process_seconds"] > 0
    assert found["process_peak_bytes"] > 64 * 2**20
    assert (tmp_path / "log.txt").read_text() == "== m step\nnoted\n"


def test_a_killed_process_is_out_of_memory(program):
    found = program("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert found["status"] == "out of memory"
    assert "killed (signal 9)" in found["error"]["message"]
    assert found["used_bytes"] == found["process_peak_bytes"] > 0


def test_a_process_that_dies_otherwise_is_an_error_with_its_last_words(program):
    found = program("import sys; print('no such kernel', file=sys.stderr); sys.exit(3)")
    assert found["status"] == "error"
    assert found["error"]["message"] == "the process ended without a result (exit code 3): no such kernel"
    found = program("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert (found["status"], "signal 11" in found["error"]["message"]) == ("error", True)


def test_waiting_takes_no_processor_time(program):
    before = time.process_time()
    found = program("import time; time.sleep(1)")
    assert found["process_seconds"] >= 1
    assert time.process_time() - before < 0.2 * found["process_seconds"]


def test_an_interrupted_wait_ends_the_process(program, monkeypatch):
    seen = []

    def interrupted(process):
        seen.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(launcher, "_ended", interrupted)
    with pytest.raises(KeyboardInterrupt):
        program("import os, time; os.close(1); time.sleep(600)")
    assert seen[0].returncode == -signal.SIGKILL


def test_the_worker_ends_with_its_parent():
    program = (
        "import sys, time\n"
        "from fc_bench.cost import worker\n"
        "worker.measure = lambda task: (print('begun', flush=True), time.sleep(600))\n"
        "worker.main()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stderr is not None
    with process.stderr:
        process.stdin.write(json.dumps({"path": sys.path, "memory_limit": 2**40}).encode() + b"\n")
        process.stdin.flush()
        assert process.stderr.readline() == b"begun\n"  # what is printed goes to standard error
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(timeout=60) == 1


def test_what_a_measurement_loads_holds_no_metric(tiny_backbone, tmp_path, monkeypatch):
    from fc_bench.model.backbones.backbone import read_backbone

    monkeypatch.setattr(
        launcher,
        "COMMAND",
        (
            sys.executable,
            "-c",
            "import sys\nfrom fc_bench.cost import worker\nworker.main()\n"
            "print('LOADED', sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)",
        ),
    )
    (tmp_path / "artefact").mkdir()
    sampler = read_backbone(str(tiny_backbone)).sampler
    found = launched(
        {
            "method": "text-only",
            "options": {},
            "phase": "first_image",
            "backbone": str(tiny_backbone),
            "sampler": {**sampler.model_dump(), "resolution": 64},
            "device": "cpu",
            "dtype": "float32",
            "kernels": {},
            "subject": {"id": "p01", "noun": "man", "photographs": []},
            "template": "a photo of a {subject}",
            "seed": 1,
            "artefact": str(tmp_path / "artefact"),
            "memory_limit": 2**40,
            "deadline": 0,
        },
        tmp_path / "log.txt",
    )
    assert found["status"] == "ok", found
    assert (len(found["calls"]), found["calls"][0]["steps"], found["warm_ups"]) == (1, 2, 0)
    assert found["process_seconds"] > found["startup_seconds"] + found["load"]["seconds"] + found["calls"][0]["seconds"]
    loaded = next(line for line in (tmp_path / "log.txt").read_text().splitlines() if line.startswith("LOADED"))
    assert "'torch'" in loaded
    assert not [name for name in ("onnxruntime", "insightface", "pandas") if f"'{name}'" in loaded]
