"""Ends of training steps, seen at torch's optimizers, in any process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def now() -> float:
    """Seconds: of the process on a CPU with one thread, which others do not disturb, else of the clock."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


@contextmanager
def ends_of_steps() -> Iterator[list[float]]:
    """Records the end of each update of an optimizer."""
    ends: list[float] = []
    hook = register_optimizer_step_post_hook(lambda *_: ends.append(now()))
    try:
        yield ends
    finally:
        hook.remove()
