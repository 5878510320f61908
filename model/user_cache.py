"""Where what can be made again lies: the user's cache folder."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`FC_BENCH_CACHE`, else `~/.cache/fc-bench`."""
    return Path(os.environ.get("FC_BENCH_CACHE") or "~/.cache/fc-bench").expanduser()
