"""Peaks show tensors of known size; a process that takes more than it may ends, and says so."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from fc_bench.cost.memory_guard import RESERVE, Peaks, available_bytes, is_out_of_memory

MIB = 2**20


def test_a_tensor_of_known_size_is_in_the_peak_also_when_it_is_gone():
    import time

    with Peaks("cpu") as nothing:
        pass
    with Peaks("cpu") as peaks:
        block = torch.ones(256, MIB // 4)
        time.sleep(0.1)
        del block
    added = (peaks.record["rss_bytes"] or 0) - (nothing.record["rss_bytes"] or 0)
    assert 250 * MIB <= added <= 300 * MIB
    assert peaks.record["allocated_bytes"] is None


def test_on_an_accelerator_the_allocator_and_the_device_are_asked(monkeypatch):
    from fc_bench.cost import nvml

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 6)
    monkeypatch.setattr(nvml, "process_bytes", lambda device, process: 7)
    with Peaks("cuda:0") as peaks:
        pass
    record = peaks.record
    assert (record["allocated_bytes"], record["reserved_bytes"], record["device_bytes"]) == (5, 6, 7)
    assert record["rss_bytes"]


def test_a_process_that_takes_more_than_it_may_ends_before_the_machine_s_memory_does():
    program = """
import json, os, sys, numpy, psutil
from fc_bench.cost.memory_guard import watch_memory
def give_up(used):
    os.write(1, json.dumps({"used": used, "limit": limit}).encode())
    os._exit(1)
memory = psutil.Process().memory_info()
limit = memory.rss - memory.shared + 200 * 2**20
watch_memory(limit, give_up)
blocks = []
for _ in range(400):
    blocks.append(numpy.ones(2 * 2**20))
print("never stopped")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["limit"] < told["used"] < told["limit"] + 2000 * MIB


def test_what_is_available_leaves_the_machine_its_reserve():
    import psutil

    assert 0 <= available_bytes() <= psutil.virtual_memory().total - RESERVE


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_is_recognized_also_behind_another_exception(error):
    assert is_out_of_memory(error)
    behind = ValueError("training failed")
    behind.__cause__ = error
    assert is_out_of_memory(behind)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_torch_s_own_refusal_is_recognized():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(10**15)
    assert is_out_of_memory(refused.value)
