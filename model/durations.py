"""Durations as people write them."""

import re

from fc_bench.model.errors import ModelInputError


def parse_duration(text: str) -> float:
    """Seconds in "90s", "30m", "2h" or "1.5h". Raises ModelInputError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text.strip())
    if not match or not float(match[1]):
        raise ModelInputError(f"'{text}' is no duration: write it like 90s, 30m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
