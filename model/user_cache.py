"""Where what can be made again lies: the user's cache folder, and what is made there once."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fc_bench.model.errors import ModelInputError
from fc_bench.model.whole import made_in_whole


def cache_folder() -> Path:
    """`FC_BENCH_CACHE`, else `~/.cache/fc-bench`."""
    return Path(os.environ.get("FC_BENCH_CACHE") or "~/.cache/fc-bench").expanduser()


def made_once(kind: str, stem: str, decides: Any, make: Callable[[Path], None]) -> Path:
    """The folder of that kind in the cache, named by a hash of everything that decides it; made where it is not there.

    Raises OSError when it cannot be written.
    """
    name = f"{stem}-{hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]}"
    folder = cache_folder() / kind / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with made_in_whole(folder) as part:
            make(part)
    return folder


@contextmanager
def writing_to_cache(kind: str, told: str) -> Iterator[None]:
    """Turns an OSError into a ModelInputError: `told` (in) the folder of that kind, and what to do."""
    try:
        yield
    except OSError as error:
        raise ModelInputError(
            f"{told} {cache_folder() / kind} ({error.strerror or error}); make room or set FC_BENCH_CACHE to another "
            "folder."
        ) from None
