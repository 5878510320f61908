"""The memory instrument sees a block of known size."""

from __future__ import annotations

import subprocess
import sys

from fc_bench.generation.peak_memory import PeakMemory

IN_A_PROCESS_OF_ITS_OWN = """
import time
import numpy as np
from fc_bench.generation.peak_memory import PeakMemory
with PeakMemory("cpu") as nothing:
    pass
with PeakMemory("cpu") as memory:
    block = np.ones(32 * 2**20)
    time.sleep(0.5)
    del block
print(memory.kind, memory.bytes - nothing.bytes)
"""


def test_peak_contains_a_block_that_is_gone_at_the_end():
    done = subprocess.run([sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN], capture_output=True, text=True, check=True)
    kind, block = done.stdout.split()
    assert kind == "rss"
    assert 230 * 2**20 <= int(block) <= 300 * 2**20


def test_on_an_accelerator_the_memory_of_the_device_in_use_is_read(monkeypatch):
    import torch

    asked = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7 if device == "cuda:1" else 0)
    with PeakMemory("cuda:1") as memory:
        pass
    assert (asked, memory.bytes, memory.kind) == (["cuda:1"], 7, "cuda allocated")
