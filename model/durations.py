"""Durations written like 90s, 30m or 2h."""

import re

from fc_bench.model.errors import ModelInputError
from fc_bench.model.settings import LARGEST_WHOLE


def parse_duration(text: str) -> float:
    """Seconds in "90s", "30m", "2h" or "1.5h". Raises ModelInputError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text.strip())
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not seconds:
        raise ModelInputError(f"'{text}' is not a duration: write it like 90s, 30m or 2h")
    if seconds > LARGEST_WHOLE:
        raise ModelInputError(f"the duration '{text[:40]}' is too long: write it like 90s, 30m or 2h")
    return seconds
