"""Memory of a measuring process: its peaks, and a limit that protects the machine."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from fc_bench.cost import nvml
from fc_bench.generation.peak_memory import INTERVAL, PeakMemory

RESERVE = 1 << 30
"""Bytes of the machine's memory that a measuring process must leave free."""


class Peaks:
    """Context manager; afterwards `record` holds the peaks in bytes, None if not available.

    `rss_bytes` is the resident set size; on an accelerator `allocated_bytes` and `reserved_bytes` are those of torch's
    allocator, and `device_bytes` is the process's memory on the device at the end (NVML).
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._watched: dict[str, PeakMemory] = {}
        self.record: dict[str, int | None] = {}

    def __enter__(self) -> Peaks:
        free_memory()
        self._open = ExitStack()
        self._watched["rss_bytes"] = self._open.enter_context(PeakMemory("cpu"))
        if self._device.startswith("cuda"):
            self._watched["allocated_bytes"] = self._open.enter_context(PeakMemory(self._device))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self.record = {"allocated_bytes": None, "reserved_bytes": None, "device_bytes": None}
        self.record |= {name: watched.bytes for name, watched in self._watched.items()}
        if self._device.startswith("cuda"):
            import torch

            self.record["reserved_bytes"] = torch.cuda.max_memory_reserved(self._device)
            self.record["device_bytes"] = nvml.process_bytes(self._device, os.getpid())


def free_memory() -> None:
    """Run the garbage collector and release the memory that allocators hold unused."""
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def available_bytes() -> int:
    """Memory that a new process can use: the machine's available memory, within the limit of its control group."""
    import psutil

    free = psutil.virtual_memory().available
    for limit, usage in _control_group_files():
        with suppress(OSError, ValueError):
            free = min(free, int(limit.read_text()) - int(usage.read_text()))
    return max(free - RESERVE, 0)


def _control_group_files() -> list[tuple[Path, Path]]:
    """Files of the limit and the usage of this process's control groups, versions 2 and 1; they may be absent."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for _, controllers, group in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        own = group.lstrip("/")
        if not controllers:
            for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
                found.append((root / own / "memory.max", root / own / "memory.current"))
        elif "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup/memory")
            found.append((root / own / "memory.limit_in_bytes", root / own / "memory.usage_in_bytes"))
    return found


def watch_memory(limit: int, give_up: Callable[[int], None]) -> None:
    """Call `give_up` once with the bytes in use if this process exceeds `limit` from now on.

    The measure is the resident set without pages of files, which the system can drop. It is checked every 20 ms in a
    separate thread, which works as long as the main thread releases the interpreter lock now and then, as torch does.
    """
    import psutil

    process = psutil.Process()

    def watch() -> None:
        waiting = threading.Event()
        while not waiting.wait(INTERVAL):
            memory = process.memory_info()
            used = memory.rss - getattr(memory, "shared", 0)
            if used > limit:
                give_up(used)
                return

    threading.Thread(target=watch, daemon=True).start()


def die_first() -> None:
    """Make this process the first one that Linux kills when the machine's memory is short."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception or its cause says that memory is short."""
    cause: BaseException | None = error
    while cause is not None:
        torch: Any = sys.modules.get("torch")
        if isinstance(cause, MemoryError) or (torch is not None and isinstance(cause, torch.OutOfMemoryError)):
            return True
        message = str(cause).lower()
        if isinstance(cause, RuntimeError) and any(
            words in message for words in ("can't allocate memory", "out of memory")
        ):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
