"""Whether files are as they were, by their size and times, without reading them, as version control does it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator
from importlib.machinery import PathFinder
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

State = list[int] | None
"""Size, and the times of the last change of content and of the file (ns); None: there is no such file."""
PACKAGES = ("fc_bench", "fc_bench.model", "fc_bench.baselines", "fc_bench.datasets", "fc_bench.reports")
SOURCES = (".py", ".yaml", ".csv", ".j2", ".js", ".css")
"""Files of the packages that decide what a command does."""


def state_of(path: Path | str) -> State:
    """The state of a file; a program that restores the time of its content cannot restore that of the file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def states_of(paths: Iterable[Path], without: Collection[str] = ()) -> dict[str, State]:
    """Absolute path -> state of each file; of a folder, of all files below it but those in its entries `without`."""
    return dict(chain.from_iterable(_states(path, without) for path in paths))


def digest_below(folder: Path, without: Collection[str] = ()) -> str:
    """A hash of `states_of` a folder, however many files it has."""
    found = hashlib.sha256()
    for path, state in _states(folder, without):
        found.update(f"{path}\0{state}\0".encode(errors="surrogateescape"))
    return found.hexdigest()


def unchanged(states: Any) -> bool:
    """Whether every file has its recorded state."""
    return isinstance(states, dict) and all(state_of(path) == state for path, state in states.items())


def code_state(packages: Iterable[str] = ()) -> str:
    """A hash of the states of this program's sources, of those of further packages, and of what is installed.

    What is installed is known by the names of distributions, which have their versions.
    """
    places = [place for name in (*PACKAGES, *packages) for place in _places(name)]
    sources = {path: state for path, state in states_of(places, ("__pycache__",)).items() if path.endswith(SOURCES)}
    installed = [
        name
        for place in dict.fromkeys(sys.path)
        if os.path.isdir(place)
        for name in sorted(os.listdir(place))
        if name.endswith((".dist-info", ".egg-info"))
    ]
    return hashlib.sha256(json.dumps([sources, sys.version, installed]).encode()).hexdigest()


def _places(package: str) -> list[Path]:
    """The file of a module, or the first folder of a package; nothing of it is imported."""
    parent = package.rpartition(".")[0]
    spec = find_spec(package) if not parent else PathFinder.find_spec(package, sys.modules[parent].__path__)
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [Path(next(iter(spec.submodule_search_locations)))]
    return [Path(spec.origin)] if spec.origin else []


def _states(path: Path, without: Collection[str]) -> Iterator[tuple[str, State]]:
    """The states of a file, or of the files below a folder in a stable order."""
    if not path.is_dir():
        yield str(path.absolute()), state_of(path)
        return
    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(path.absolute(), followlinks=True):
        there = os.stat(folder)
        if (there.st_dev, there.st_ino) in seen:
            folders.clear()  # links in a circle
            continue
        seen.add((there.st_dev, there.st_ino))
        folders[:] = sorted(name for name in folders if name not in without)
        for name in sorted(names):
            if name not in without:
                yield os.path.join(folder, name), state_of(os.path.join(folder, name))
        without = ()
