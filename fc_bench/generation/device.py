"""The device that generates the images."""

from __future__ import annotations

import re

from fc_bench.errors import UserError


def resolve_device(device: str) -> str:
    """`auto` becomes `cuda` if there is a CUDA device; raises UserError for an unknown or absent device."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    named = re.fullmatch(r"cuda(?::(\d{1,4}))?", device, re.ASCII)
    if named is None:
        raise UserError(f'"{device}" is not a device; give auto, cpu, cuda or cuda:N.')
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(named[1] or 0) >= count:
        there = f"cuda devices here: {count}" if count else "there is no cuda device"
        raise UserError(f'The device "{device}" is not available here, {there}; use --device cpu or auto.')
    return device
