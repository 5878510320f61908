"""Disturbances of a measurement: other processes, the hypervisor, throttling limits, the clock rate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fc_bench.cost import nvml

BUSY_SHARE = 0.05
"""Share of the machine's processor time that other processes may use before a measurement counts as contended."""
STOLEN_SHARE = 0.01
SHORTEST_SHARE = 0.5
"""Shortest reliable period in seconds; systems count processor time in hundredths."""
IDLE_REASON = 1
"""NVML's bit for a low clock rate because the device is idle."""
FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")


class Surroundings:
    """Context manager; afterwards `record` holds the disturbances, None if the system does not report them.

    `others_cpu_seconds` and `steal_seconds` are processor time of other processes and of the hypervisor, over all
    `cores`; `throttled_periods` are those in which the limit of the control group stopped the process.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self.record: dict[str, Any] = {}

    def __enter__(self) -> Surroundings:
        self._before = self._look()
        return self

    def __exit__(self, *_: object) -> None:
        import psutil

        before, after = self._before, self._look()
        spent = {
            key: _difference(before[key], after[key]) for key in ("wall", "own", "busy", "steal", "throttled", "joules")
        }
        self.record = {
            "seconds": spent["wall"],
            "cores": psutil.cpu_count(),
            "load_average_before": before["load"],
            "own_cpu_seconds": spent["own"],
            "others_cpu_seconds": max(spent["busy"] - spent["own"], 0.0),
            "steal_seconds": spent["steal"],
            "throttled_periods": spent["throttled"],
            "cpu_mhz": [before["mhz"], after["mhz"]],
            "device_mhz": [before["device_mhz"], after["device_mhz"]],
            "device_throttle_reasons": after["reasons"],
            "device_other_processes": after["neighbors"],
            "energy_joules": spent["joules"],
        }

    def _look(self) -> dict[str, Any]:
        import time

        import psutil

        cpu, own = psutil.cpu_times(), os.times()
        frequency = None
        with suppress(Exception):  # not every machine tells
            frequency = psutil.cpu_freq()
        return {
            "wall": time.perf_counter(),
            "own": own.user + own.system + own.children_user + own.children_system,
            "busy": sum(getattr(cpu, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq")),
            "steal": getattr(cpu, "steal", None),
            "throttled": _throttled_periods(),
            "load": os.getloadavg()[0],
            "mhz": frequency.current if frequency else None,
            "device_mhz": nvml.clock_mhz(self._device),
            "reasons": nvml.throttle_reasons(self._device),
            "neighbors": nvml.other_processes(self._device, os.getpid()),
            "joules": nvml.energy_joules(self._device),
        }


def contention(record: Mapping[str, Any]) -> list[str]:
    """The disturbances in a record of `Surroundings`, in words; empty if there were none."""
    time_there = record["seconds"] * record["cores"]
    found = []
    if others_share(record) > BUSY_SHARE:
        found.append(f"other processes used {others_share(record):.0%} of the processors")
    if time_there and (record["steal_seconds"] or 0) / time_there > STOLEN_SHARE:
        found.append(f"the hypervisor took {record['steal_seconds'] / time_there:.0%} of the processors")
    if record["throttled_periods"]:
        found.append(f"the limit of the control group stopped it in {record['throttled_periods']} periods")
    if (record["device_throttle_reasons"] or 0) & ~IDLE_REASON:
        found.append(f"the device was throttled (NVML reasons {record['device_throttle_reasons']:#x})")
    if record["device_other_processes"]:
        found.append(f"{record['device_other_processes']} other processes on the device")
    return found


def others_share(record: Mapping[str, Any]) -> float:
    """Share of the processors' time that other processes used; 0 for a period that is too short."""
    if record["seconds"] < SHORTEST_SHARE:
        return 0.0
    return record["others_cpu_seconds"] / (record["seconds"] * record["cores"])


def provider() -> dict[str, Any]:
    """The machine and its processor: vendor, whether it is virtual, instruction sets, torch's kernels."""
    import torch

    flags = _cpu_flags()
    return {
        "vendor": _text(Path("/sys/class/dmi/id/sys_vendor")),
        "product": _text(Path("/sys/class/dmi/id/product_name")),
        "virtual_machine": "hypervisor" in flags if flags else None,
        "instruction_sets": [name for name in FEATURES if name in flags],
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": torch.backends.mkldnn.is_available(),
        "cuda": torch.version.cuda,
        "driver": nvml.driver(),
    }


def numerics() -> dict[str, Any]:
    """Settings of torch that affect computations beyond the number format: TF32 and the available attention kernels."""
    import torch

    cuda = torch.backends.cuda
    kernels = {
        "flash": cuda.flash_sdp_enabled(),
        "memory-efficient": cuda.mem_efficient_sdp_enabled(),
        "math": cuda.math_sdp_enabled(),
        "cudnn": cuda.cudnn_sdp_enabled(),
    }
    return {
        "matmul_tf32": cuda.matmul.allow_tf32,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "attention": "scaled_dot_product_attention",
        "attention_kernels": [name for name, enabled in kernels.items() if enabled],
        "compiled": False,
    }


def _difference(before: Any, after: Any) -> Any:
    return None if before is None or after is None else after - before


def _throttled_periods() -> int | None:
    """`nr_throttled` of this process's control group, version 2 or 1."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for _, controllers, group in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        roots = ("", "unified") if not controllers else (controllers, *controllers.split(","))
        if controllers and "cpu" not in controllers.split(","):
            continue
        for root in roots:
            text = _text(Path("/sys/fs/cgroup") / root / group.lstrip("/") / "cpu.stat") or ""
            for line in text.splitlines():
                if line.startswith("nr_throttled "):
                    return int(line.split()[1])
    return None


def _cpu_flags() -> set[str]:
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    return set()


def _text(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None
