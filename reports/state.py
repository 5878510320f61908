"""What a written report rests on, so that it is neither written again nor shown when it is outdated.

`.state.json` in the report's folder holds the states of the runs' files and of the code before they were read, of the
files that were written, and what was printed. A report is up to date while all of them are as they were.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from fc_bench.run_folder.file_states import code_state, digest_below, state_of
from fc_bench.run_folder.lock import LOCK
from fc_bench.run_folder.records import write_json

REPORT, FIGURES = "report", "figures"
"""Folders: of a run's report in the run folder, of the figures in the report's."""
STATE = ".state.json"
ALL = ("all",)
"""All families of figures, or all their formats."""
NOT_SHOWN = (REPORT, "attention", "artefacts", "checkpoints", "finished.json", LOCK)
"""Parts of a run folder that no report shows."""


@dataclass(frozen=True)
class Request:
    """What a report is to hold; `families` are the kinds of figures, `endings` their formats."""

    paths: Sequence[Path]
    out: Path
    layout: str
    families: Sequence[str]
    endings: Sequence[str]
    subjects: Sequence[str]
    grid_seed: int | None
    images: str

    def plain(self) -> dict[str, Any]:
        """As JSON, without the folder of the report and the figures."""
        own = {**asdict(self), "paths": [str(path.absolute()) for path in self.paths]}
        own["subjects"] = list(self.subjects)
        return {key: value for key, value in own.items() if key not in ("out", "families", "endings")}

    def inputs(self) -> str:
        """A hash of the states of everything that the report is made from: files of the runs, and the code."""
        parts = [digest_below(path, _not_shown(path, self.out)) for path in self.paths]
        return "-".join([*parts, code_state()])


def _not_shown(path: Path, out: Path) -> Sequence[str]:
    """The parts of a run folder that the report does not show, itself among them."""
    own = out.absolute()
    return (*NOT_SHOWN, own.relative_to(path.absolute()).parts[0]) if path.absolute() in own.parents else NOT_SHOWN


@dataclass(frozen=True)
class Written:
    """A report as it was written: its files, the page last, and the printed tables."""

    files: tuple[Path, ...]
    printed: str


def up_to_date(request: Request, inputs: str, console: Console, at_least: bool) -> Written | None:
    """The written report, if it is what was requested and nothing has changed since.

    With `at_least` it may hold further figures.
    """
    known, wanted = _known(request.out), {"families": request.families, "endings": request.endings}
    try:
        if (known["inputs"], known["request"], known["console"]) != (inputs, request.plain(), _kind(console)):
            return None
        if not all(_suffices(known[key], wanted[key], at_least) for key in wanted):
            return None
        if any(state_of(request.out / name) != state for name, state in known["files"].items()):
            return None
        return Written(tuple(request.out / name for name in known["files"]), str(known["printed"]))
    except (KeyError, TypeError, AttributeError):
        return None


def remember(request: Request, inputs: str, console: Console, written: Written) -> None:
    """Record a report that was just written, and remove figures that show an older state of the runs.

    Removed is only what a report of this folder wrote and nobody changed.
    """
    earlier = _known(request.out)
    names = [str(file.relative_to(request.out)) for file in written.files]
    figures: dict[str, Any] = {}
    if isinstance(earlier.get("files"), dict):
        figures = {**_figures(earlier.get("figures")), **_figures(earlier["files"])}
    if earlier.get("inputs") != inputs:
        _remove(request.out, {name: state for name, state in figures.items() if name not in names})
        figures = {}
    content = {
        "request": request.plain(),
        "families": list(request.families),
        "endings": list(request.endings),
        "inputs": inputs,
        "console": _kind(console),
        "printed": written.printed,
        "files": {name: state_of(request.out / name) for name in names},
        "figures": {name: state for name, state in figures.items() if name not in names},
    }
    with suppress(OSError):  # the next report is written again
        write_json(request.out / STATE, content)


def _suffices(drawn: Sequence[str], wanted: Sequence[str], at_least: bool) -> bool:
    """Whether the drawn families or formats are the wanted ones, or more of them."""
    return sorted(drawn) == sorted(wanted) or (at_least and (list(drawn) == list(ALL) or {*drawn} >= {*wanted}))


def _figures(files: Any) -> dict[str, Any]:
    """Those of the written files that are figures."""
    return {name: state for name, state in (files or {}).items() if Path(name).parent.name == FIGURES}


def _remove(folder: Path, files: Mapping[str, Any]) -> None:
    for name, state in files.items():
        file = folder / name
        if state_of(file) == state and file.resolve().is_relative_to(folder.resolve()):
            with suppress(OSError):
                file.unlink(missing_ok=True)


def _kind(console: Console) -> list[Any]:
    """What decides how text looks on a console."""
    return [console.width, console.is_terminal, console.color_system, console.encoding]


def _known(out: Path) -> dict[str, Any]:
    """The recorded state; empty without one."""
    try:
        known = json.loads((out / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}
