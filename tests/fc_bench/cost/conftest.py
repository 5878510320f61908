"""Cost runs without their processes: measured in this one, or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fc_bench.cost import measurement, worker

QUIET = {
    "seconds": 10.0,
    "cores": 2,
    "others_cpu_seconds": 0.0,
    "steal_seconds": 0.0,
    "throttled_periods": 0,
    "device_throttle_reasons": None,
    "device_other_processes": None,
    "energy_joules": None,
}
MEMORY = {"rss_bytes": 2**30, "allocated_bytes": None, "reserved_bytes": None, "device_bytes": None}


def told(task: dict[str, Any]) -> dict[str, Any]:
    """A measurement that nobody made: a step takes 0.1 s, everything else of an image or a customization 1 s."""
    tuning = task["phase"] == "customize"
    steps = task["options"].get("steps") if tuning else task["sampler"]["steps"]
    taken = min(steps, 4) if tuning and steps and task["deadline"] - time.time() < 5 else steps
    call = {"seconds": 1.0 + 0.1 * (taken or 0), "steps": taken, "step_seconds": [0.1] * ((taken or 1) - 1)}
    found = {
        "status": "ok",
        "startup_seconds": 0.1,
        "load": {"seconds": 2.0, "memory": MEMORY},
        "restore": None,
        "calls": [{**call, "shared_seconds": 0.0, "seconds_per_step": None} if tuning else call],
        "warm_ups": 0,
        "memory": MEMORY,
        "surroundings": QUIET,
    }
    artefact = {"bytes": 1000, "files": 1, "dtypes": ["F32"]}
    more = {"steps_asked": steps, "step_period": 1, "class_images": None, "artefact": artefact}
    return {**found, **more} if tuning else found


class Launches:
    """What was launched, in order; `replies` maps (method, phase) to what answers, `reply` answers the rest."""

    def __init__(self) -> None:
        self.reply: Callable[[dict[str, Any]], dict[str, Any]] = told
        self.tasks: list[dict[str, Any]] = []
        self.replies: dict[tuple[str, str], Callable[[dict[str, Any]], dict[str, Any]]] = {}

    def __call__(self, task: dict[str, Any], log: Path) -> dict[str, Any]:
        self.tasks.append(task)
        reply = self.replies.get((task["method"], task["phase"]), self.reply)
        return {**reply(task), "process_seconds": 1.0, "process_peak_bytes": 2**20}

    @property
    def made(self) -> list[tuple[str, str]]:
        """(method, phase) of every launch."""
        return [(task["method"], task["phase"]) for task in self.tasks]


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Launches:
    """Launched processes are noted and not started: answers are those of `told`."""
    found = Launches()
    monkeypatch.setattr(measurement, "launched", found)
    return found


@pytest.fixture
def measured_here(launches: Launches) -> Launches:
    """Launched processes are noted, and what they would do is done in this one."""
    launches.reply = worker.measure
    return launches


@pytest.fixture
def cost(fc_bench: Any, tiny_backbone: Path, tmp_path: Path) -> Callable[..., Any]:
    """`fc-bench cost` on the tiny backbone, into `tmp_path / "cost"`."""

    def invoke(*arguments: object, backbone: object = tiny_backbone) -> Any:
        return fc_bench("cost", "--backbone", backbone, "--out", tmp_path / "cost", *arguments)

    return invoke


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leaves out all phases but those named."""
    return lambda *phases: monkeypatch.setattr(measurement, "PHASES", phases)


SHORT = {"steps": 9, "photographs": 2}
TUNED: dict[str, dict[str, Any]] = {
    "textual-inversion": {**SHORT, "initializer": "x"},
    "dreambooth": {**SHORT, "rare_tokens": ["x", "y"], "class_images": 6},
    "dreambooth-lora": {**SHORT, "rare_tokens": ["x", "y"], "class_images": 6, "rank": 2},
    "custom-diffusion": {**SHORT, "initializers": ["x", "y"], "class_images": 6},
}


@pytest.fixture
def tuned() -> Callable[..., list[str]]:
    """Arguments that measure a method that tunes, with options for the tiny backbone."""

    def arguments(name: str, **changes: Any) -> list[str]:
        options = {**TUNED[name], **changes}
        return ["-m", name, *(word for key, value in options.items() for word in ("-o", f"{name}.{key}={value}"))]

    return arguments
