"""The memory instrument sees a block of known size."""

from __future__ import annotations

import numpy as np

from fc_bench.memory import PeakMemory


def test_peak_contains_a_block_that_is_gone_at_the_end():
    import time

    with PeakMemory("cpu") as nothing:
        pass
    with PeakMemory("cpu") as memory:
        block = np.ones(32 * 2**20)
        time.sleep(0.1)
        del block
    assert memory.kind == "rss"
    assert 230 * 2**20 <= memory.bytes - nothing.bytes <= 300 * 2**20


def test_on_an_accelerator_the_memory_of_the_device_in_use_is_read(monkeypatch):
    import torch

    asked = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7 if device == "cuda:1" else 0)
    with PeakMemory("cuda:1") as memory:
        pass
    assert (asked, memory.bytes, memory.kind) == (["cuda:1"], 7, "cuda allocated")
