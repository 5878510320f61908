"""Peak memory of a block of code."""

from __future__ import annotations

import threading

INTERVAL = 0.02
"""Seconds between two samples of the resident set size."""


class PeakMemory:
    """Context manager; afterwards `bytes` is the peak and `kind` says which memory.

    On an accelerator: the allocator's peak (`cuda allocated`). On a CPU: the resident set size of the process, sampled
    every 20 ms (`rss`). It includes the interpreter and all loaded libraries.
    """

    def __init__(self, device: str) -> None:
        self.kind = "cuda allocated" if device.startswith("cuda") else "rss"
        self.bytes = 0
        self._device = device

    def __enter__(self) -> PeakMemory:
        if self.kind == "rss":
            import psutil

            self._process = psutil.Process()
            self.bytes = self._process.memory_info().rss
            self._done = threading.Event()
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        else:
            import torch

            torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(self, *_: object) -> None:
        if self.kind == "rss":
            self._done.set()
            self._thread.join()
            self._look()
        else:
            import torch

            self.bytes = torch.cuda.max_memory_allocated(self._device)

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL):
            self._look()

    def _look(self) -> None:
        self.bytes = max(self.bytes, self._process.memory_info().rss)
