"""Silences libraries: no progress bars, notices or usage reports."""

import os
import warnings


def quiet_libraries() -> None:
    """Turn off the libraries' progress bars, notices and usage reports.

    Call it before any of them is imported.
    """
    os.environ |= {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning)
