"""The clocks show known times, and see the steps that a method takes without its help."""

from __future__ import annotations

import time

import pytest
import torch

from fc_bench.cost import nvml
from fc_bench.cost.instruments import StepEnds, sampler_steps, timed, training_steps
from fc_bench.cost.surroundings import Surroundings, contention, numerics, provider

NAP = 0.05


@pytest.fixture
def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(3))


def test_a_known_sleep_takes_what_it_takes():
    result, seconds = timed(lambda: time.sleep(NAP) or "done", "cpu")
    assert result == "done"
    assert NAP <= seconds < 10 * NAP


def test_an_accelerator_is_idle_before_and_after_the_clock_is_read(monkeypatch):
    events: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append(f"idle {device}"))
    timed(lambda: events.append("work"), "cuda:1")
    assert events == ["idle cuda:1", "work", "idle cuda:1"]


def test_steps_are_the_stretches_between_their_ends_and_the_first_one_is_left_out():
    steps = StepEnds("cpu")
    steps.ends = [10.0, 11.0, 13.0]
    assert steps.seconds() == [1.0, 2.0]


def test_nothing_before_an_irregular_step_counts():
    steps = StepEnds("cpu")
    for regular in (True, False, True, True):
        steps.end(regular)
    steps.ends = [1.0, 2.0, 5.0, 9.0]
    assert steps.seconds() == [3.0, 4.0]


def test_every_update_of_an_optimizer_ends_a_training_step(parameter):
    optimizer = torch.optim.AdamW([parameter])
    with training_steps("cpu") as found:
        for _ in range(3):
            parameter.sum().backward()
            time.sleep(NAP)
            optimizer.step()
    assert len(found.ends) == 3
    assert all(NAP <= seconds < 10 * NAP for seconds in found.seconds())
    optimizer.step()
    assert len(found.ends) == 3


def test_a_step_that_the_gradient_scaler_leaves_out_is_a_step_that_does_not_count(parameter):
    optimizer, scaler = torch.optim.SGD([parameter], lr=0.1), torch.amp.GradScaler("cpu", init_scale=2.0)
    with training_steps("cpu") as found:
        for factor in (1.0, float("inf"), 1.0, 1.0):
            scaler.scale((parameter * factor).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    assert (len(found.ends), found.irregular, len(found.seconds())) == (4, 2, 2)


def test_every_step_of_a_scheduler_is_a_sampler_step_once_whatever_it_inherits():
    from diffusers import DDIMScheduler, PNDMScheduler

    class Derived(DDIMScheduler):
        def step(self, *arguments, **named):
            return super().step(*arguments, **named)

    kept = DDIMScheduler.step
    with sampler_steps("cpu") as found:
        for scheduler in (Derived(), PNDMScheduler(skip_prk_steps=True)):
            scheduler.set_timesteps(4)
            for timestep in scheduler.timesteps:
                scheduler.step(torch.zeros(1, 4, 2, 2), timestep, torch.ones(1, 4, 2, 2))
    assert len(found.ends) == 4 + 5  # PNDM takes the first of its steps twice
    assert DDIMScheduler.step is kept


def test_a_sampler_of_another_kind_shows_no_step():
    with sampler_steps("cpu") as found:
        pass
    assert found.seconds() == []


def test_surroundings_tell_own_work_from_others():
    with Surroundings("cpu") as around:
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
    record = around.record
    assert record["own_cpu_seconds"] >= 0.15
    assert record["seconds"] >= 0.15
    assert record["others_cpu_seconds"] >= 0
    assert record["load_average_before"] >= 0
    assert record["energy_joules"] is None


QUIET = {
    "seconds": 10.0,
    "cores": 2,
    "others_cpu_seconds": 0.1,
    "steal_seconds": 0.0,
    "throttled_periods": 0,
    "device_throttle_reasons": None,
    "device_other_processes": None,
}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"others_cpu_seconds": 4.0}, "other processes used 20%"),
        ({"steal_seconds": 1.0}, "hypervisor took 5%"),
        ({"throttled_periods": 3}, "stopped it in 3 periods"),
        ({"device_throttle_reasons": 0x8}, "throttled"),
        ({"device_other_processes": 2}, "2 other processes"),
    ],
)
def test_whatever_disturbs_is_named(change, word):
    assert contention(QUIET) == []
    assert contention({**QUIET, "device_throttle_reasons": 1, "steal_seconds": None}) == []
    (found,) = contention({**QUIET, **change})
    assert word in found
    assert contention({**QUIET, "others_cpu_seconds": 4.0, "seconds": 0.1, "steal_seconds": 0.0}) == []


def test_provider_and_numerics_are_plain_data():
    import json

    found = json.loads(json.dumps([provider(), numerics()]))
    assert found[0]["torch_cpu_capability"]
    assert found[1]["attention_kernels"]


class FakeNvml:
    """A device that has used 5 kJ and on which process 7 holds 3 bytes."""

    NVML_CLOCK_SM = 1
    opened = 0

    def __getattr__(self, name):
        answers = {
            "nvmlDeviceGetTotalEnergyConsumption": 5_000_000,
            "nvmlDeviceGetComputeRunningProcesses": [
                type("Process", (), {"pid": 7, "usedGpuMemory": 3}),
                type("Process", (), {"pid": 8, "usedGpuMemory": 4}),
            ],
            "nvmlSystemGetDriverVersion": "550.1",
        }
        if name in ("nvmlInit", "nvmlShutdown"):
            self.opened += 1 if name == "nvmlInit" else -1
            return lambda: None
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in answers:
            raise RuntimeError("not supported")
        return lambda *_: answers[name]


def test_nvml_is_asked_where_it_is_and_missing_counters_are_none(monkeypatch):
    library = FakeNvml()
    monkeypatch.setattr(nvml, "_handle", lambda library, device: "handle")
    monkeypatch.setitem(__import__("sys").modules, "pynvml", library)
    assert nvml.energy_joules("cuda") == 5000
    assert nvml.process_bytes("cuda", 7) == 3
    assert nvml.process_bytes("cuda", 9) is None
    assert nvml.other_processes("cuda", 7) == 1
    assert nvml.driver() == "550.1"
    assert nvml.throttle_reasons("cuda") is None
    assert library.opened == 0
    assert nvml.energy_joules("cpu") is None


def test_without_nvml_nothing_is_known(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert nvml.energy_joules("cuda") is None
