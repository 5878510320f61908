"""What a finished command rested on: the same command has nothing left to do while all of it is as it was.

`finished.json` in the run folder says so. It is no result: without it, the command looks at everything again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from fc_bench.commands.session import Outcome
from fc_bench.model.user_cache import expanded
from fc_bench.protocols import Method, Metric
from fc_bench.run_folder.file_states import State, code_state, states_of, unchanged
from fc_bench.run_folder.lock import LOCK
from fc_bench.run_folder.records import RunFolder, write_json
from fc_bench.suites.suite import Suite, digest

FINISHED = "finished.json"
NO_RECORDS = ("report", "images", "attention", "artefacts", "checkpoints", LOCK, FINISHED)
"""What a command that has nothing to do does not look at in a run folder."""
ENVIRONMENT = ("FC_BENCH_", "HF_", "HOME")
"""Beginnings of the variables that say where weights are."""


def finished_outcome(path: Path, verb: str, options: Any, console: Console, further: str = "") -> Outcome | None:
    """The outcome of the command that finished this run folder, if the same one has nothing left to do.

    `further` is a hash of what the command reads besides, which has to be the same. What the finished command said of
    the folder is printed again.
    """
    try:
        known = json.loads((path / FINISHED).read_text(encoding="utf-8"))
        request = _request(verb, options, known["packages"], further)
        if known["request"] != request or not unchanged(known["files"]):
            return None
        if states_of([path], NO_RECORDS) != known["records"]:
            return None
        outcome, lines = Outcome(RunFolder(path), **known["outcome"]), list(map(str, known["lines"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return outcome


def remember_finished(
    outcome: Outcome,
    verb: str,
    options: Any,
    inputs: Mapping[str, State],
    kinds: Iterable[type[Method] | type[Metric]],
    lines: Sequence[str],
    further: str = "",
) -> None:
    """Record that a command has finished its folder, where a repetition would do nothing.

    `inputs` are the states of the files outside the folder before they were read, `kinds` the classes of the methods
    and metrics, `lines` what a repetition prints.
    """
    path = outcome.folder.path
    if options.retry_errors and not outcome.complete:
        return
    packages = sorted({kind.__module__.partition(".")[0] for kind in kinds} - {"fc_bench"})
    content = {
        "request": _request(verb, options, packages, further),
        "packages": packages,
        "outcome": {key: value for key, value in vars(outcome).items() if key != "folder"},
        "lines": list(lines),
        "files": dict(inputs),
        "records": states_of([path], NO_RECORDS),
    }
    with suppress(OSError):  # the next command looks at everything again
        write_json(path / FINISHED, content)


def input_files(suite: Suite, backbone: str) -> list[Path]:
    """The files of a suite and of a backbone's declaration; those of built-in ones belong to the code as well."""
    photographs = [path for subject in suite.sources for path in subject.photographs]
    return [suite.path, *photographs, *([expanded(backbone)] if "/" in backbone or Path(backbone).exists() else [])]


def _request(verb: str, options: Any, packages: Iterable[str], further: str) -> str:
    """A hash of what was requested, where, and of the code that does it."""
    environment = {name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT)}
    asked = json.loads(json.dumps(asdict(options), default=str))
    return digest([verb, asked, os.getcwd(), environment, code_state(packages), further])
