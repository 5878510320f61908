"""The largest batch size that fits into an accelerator's memory, estimated from the memory of a few images."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from fc_bench.generation.peak_memory import PeakMemory

FIRST = 8
"""Batch size where memory is not measured: on a CPU, and in small jobs."""
TRIED = 2
"""Images generated and discarded to measure the memory of one; they also warm up the device."""
SHARE = 0.8
"""Share of the free memory that may be used; allocators leave gaps, and other processes may grow."""
MOST_PIXELS = 1 << 22
"""Largest batch size (16 images of 512 x 512); it keeps an accelerator busy, and no tensor reaches 2^31 elements."""


def fills(device: str) -> bool:
    """Whether batches without a given size fill the device's memory; true for accelerators."""
    return device.startswith("cuda")


class DeviceMemory(Protocol):
    """Memory of the device that a method samples on, in bytes."""

    def in_use(self) -> int:
        """Bytes that this process has allocated."""
        ...

    def free(self) -> int:
        """Bytes that this process could allocate in addition."""
        ...

    def peak_of(self, work: Callable[[], Any]) -> int:
        """The largest number of allocated bytes while `work` ran."""
        ...


class AcceleratorMemory:
    """Memory of a CUDA device, as torch's allocator reports it."""

    def __init__(self, device: str) -> None:
        self._device = device

    def in_use(self) -> int:
        """Bytes of allocated tensors."""
        import torch

        return torch.cuda.memory_allocated(self._device)

    def free(self) -> int:
        """Bytes that are free on the device, plus those that the allocator holds unused."""
        import torch

        unused = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return torch.cuda.mem_get_info(self._device)[0] + unused

    def peak_of(self, work: Callable[[], Any]) -> int:
        """Peak bytes of the allocator."""
        with PeakMemory(self._device) as memory:
            work()
        return memory.bytes


class Filling:
    """The batch size of one method: a power of two that fits into the available memory.

    It is determined once, before the first job of more than `FIRST` images, and reduced if it turns out too large.
    Memory shared by several images counts for each of them, so the first estimate is rather too small.
    """

    def __init__(self, memory: DeviceMemory, resolution: int) -> None:
        self._memory = memory
        self._most = _power_of_two(MOST_PIXELS / resolution**2)
        self._found: int | None = None
        self.seconds = 0.0
        """Seconds spent on the search."""

    def size(self, samples: int, make: Callable[[int], Any]) -> int:
        """The batch size for a job of `samples` images; `make` generates that many of them and does not raise."""
        if self._found is None:
            if samples <= FIRST:
                return FIRST
            self._found = self._tried(make)
        return self._found

    def ran_out(self, most: int) -> None:
        """Record that memory was enough for only `most` images."""
        if self._found is not None:
            self._found = min(self._found, most)

    def _tried(self, make: Callable[[int], Any]) -> int:
        begun, before = time.perf_counter(), self._memory.in_use()
        peak = self._memory.peak_of(lambda: make(TRIED))
        each = max((peak - before) / TRIED, 1)
        self.seconds += time.perf_counter() - begun
        return min(self._most, _power_of_two(SHARE * self._memory.free() / each))


def _power_of_two(most: float) -> int:
    """The largest power of two up to `most`; at least 1."""
    return 1 << max(0, int(most).bit_length() - 1)
