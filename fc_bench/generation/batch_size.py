"""How many images an accelerator's memory holds at once, from the memory that a few take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from fc_bench.generation.peak_memory import PeakMemory

FIRST = 8
"""Images at once where memory is not measured: on a CPU, and in small jobs."""
TRIED = 2
"""Images that are made to see what one takes, and thrown away; the device is warm after that."""
SHARE = 0.8
"""Of the memory that is free: allocators leave gaps, and other processes may grow."""
MOST_PIXELS = 1 << 22
"""Of all images at once (16 of 512 x 512): an accelerator is busy by then, and no tensor reaches 2^31 elements."""


def fills(device: str) -> bool:
    """Whether batches are filled up to the device's memory where no size is given: an accelerator's."""
    return device.startswith("cuda")


class DeviceMemory(Protocol):
    """The memory of the device that a method samples on, in bytes."""

    def in_use(self) -> int:
        """What this process has allocated."""
        ...

    def free(self) -> int:
        """What this process could allocate beside that."""
        ...

    def peak_of(self, work: Callable[[], Any]) -> int:
        """The most that was allocated while `work` ran."""
        ...


class AcceleratorMemory:
    """Of a CUDA device, as torch's allocator sees it."""

    def __init__(self, device: str) -> None:
        self._device = device

    def in_use(self) -> int:
        """Allocated tensors."""
        import torch

        return torch.cuda.memory_allocated(self._device)

    def free(self) -> int:
        """Free on the device, and what the allocator holds without using it."""
        import torch

        unused = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return torch.cuda.mem_get_info(self._device)[0] + unused

    def peak_of(self, work: Callable[[], Any]) -> int:
        """The allocator's peak."""
        with PeakMemory(self._device) as memory:
            work()
        return memory.bytes


class Filling:
    """The number of images one method makes at once: a power of two that fits into the memory there is.

    It is found once, before the first job of more than `FIRST` images, and made smaller when it turns out to be too
    many. What several images share counts as if each took it, so the first guess is rather too small.
    """

    def __init__(self, memory: DeviceMemory, resolution: int) -> None:
        self._memory = memory
        self._most = _power_of_two(MOST_PIXELS / resolution**2)
        self._found: int | None = None
        self.seconds = 0.0
        """Spent on finding it."""

    def size(self, samples: int, make: Callable[[int], Any]) -> int:
        """For a job of so many samples; `make` makes that many of its images and does not raise."""
        if self._found is None:
            if samples <= FIRST:
                return FIRST
            self._found = self._tried(make)
        return self._found

    def ran_out(self, most: int) -> None:
        """Memory was enough for `most` images only."""
        if self._found is not None:
            self._found = min(self._found, most)

    def _tried(self, make: Callable[[int], Any]) -> int:
        begun, before = time.perf_counter(), self._memory.in_use()
        peak = self._memory.peak_of(lambda: make(TRIED))
        each = max((peak - before) / TRIED, 1)
        self.seconds += time.perf_counter() - begun
        return min(self._most, _power_of_two(SHARE * self._memory.free() / each))


def _power_of_two(most: float) -> int:
    """The largest that is not above `most`; at least 1."""
    return 1 << max(0, int(most).bit_length() - 1)
