"""Counters of a device from NVIDIA's management library, if its Python module (nvidia-ml-py) is installed.

Every function returns None if there is no such counter; all counters are optional.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def energy_joules(device: str) -> float | None:
    """Energy that the device has used since its driver was loaded."""
    millijoules = _query(device, lambda library, handle: library.nvmlDeviceGetTotalEnergyConsumption(handle))
    return None if millijoules is None else millijoules / 1000


def process_bytes(device: str, process: int) -> int | None:
    """Device memory of a process."""

    def ask(library: Any, handle: Any) -> int | None:
        running = library.nvmlDeviceGetComputeRunningProcesses(handle)
        return next((item.usedGpuMemory for item in running if item.pid == process), None)

    return _query(device, ask)


def other_processes(device: str, process: int) -> int | None:
    """Number of other processes that compute on the device."""

    def ask(library: Any, handle: Any) -> int:
        return sum(1 for item in library.nvmlDeviceGetComputeRunningProcesses(handle) if item.pid != process)

    return _query(device, ask)


def throttle_reasons(device: str) -> int | None:
    """NVML's bits for the reasons of reduced clocks; 1 is idling."""
    return _query(device, lambda library, handle: library.nvmlDeviceGetCurrentClocksThrottleReasons(handle))


def clock_mhz(device: str) -> int | None:
    """The clock rate of the multiprocessors."""
    return _query(device, lambda library, handle: library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_SM))


def driver() -> str | None:
    """The driver's version."""
    return _query("cuda", lambda library, _: library.nvmlSystemGetDriverVersion())


def _query(device: str, question: Callable[[Any, Any], Any]) -> Any:
    """The library's answer about a torch device; None without library, device or counter."""
    if not device.startswith("cuda"):
        return None
    try:
        library = importlib.import_module("pynvml")
        library.nvmlInit()
    except Exception:
        return None
    try:
        return question(library, _handle(library, device))
    except Exception:  # whatever NVML lacks here
        return None
    finally:
        library.nvmlShutdown()


def _handle(library: Any, device: str) -> Any:
    """The device by its UUID; torch numbers only the visible devices, NVML all of them."""
    import torch

    index = torch.device(device).index or 0
    uuid = str(torch.cuda.get_device_properties(index).uuid)
    return library.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
