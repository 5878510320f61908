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
