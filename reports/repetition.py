"""The commands of a run, and the command that generates one method's samples again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

AGAIN = "runs/again"
"""Another folder than the run's, in which everything is already done."""

_OF_METHODS = {"-m": "method", "--method": "method", "-o": "option", "--option": "option", "--out": "out"}


_WHOLE = ("run", "sweep", "cost", "score")
"""Verbs that fill a run folder."""


def repeat_command(settings: Mapping[str, Any], method: str | None = None, finished: str | None = None) -> str | None:
    """The recorded command with a new folder, and with only one `method` (a label) if given.

    `finished` (ISO 8601) selects the command that was running then, of several on the folder; the default is the last
    one. A sweep has one method, so it is repeated completely. None if no command made the run: a run from Python, or
    images that were only scored.
    """
    begun = [entry for entry in settings["commands"] if finished is None or entry["started"] <= finished]
    commands = begun or settings["commands"][:1]
    words = shlex.split(commands[-1]["command"])
    program, verb = (*words, "", "")[:2]
    if program != "fc-bench" or verb not in _WHOLE or (method is not None and verb not in ("run", "sweep")):
        return None
    name = settings["methods"][method]["name"] if method is not None and verb == "run" else None
    kept, options = [program, verb], list[str]()
    rest = iter(words[2:])
    for word in rest:
        flag, value = _split(word, rest)
        if flag is None:
            kept.append(word)
        elif flag == "method" and name is None:
            kept += ["-m", value]
        elif flag == "option" and (name is None or value.rpartition(".")[0].strip() == name):
            options += ["-o", value]
    if name is not None:
        kept += ["-m", name]
    return shlex.join([*kept, *options, "--out", AGAIN])


def _split(word: str, rest: Any) -> tuple[str | None, str]:
    """The option that a word of the command line sets, and its value: `-m x`, `-mx`, `--method x`, `--method=x`."""
    flag, equals, value = word.partition("=")
    if equals and flag.startswith("--") and flag in _OF_METHODS:
        return _OF_METHODS[flag], value
    if word in _OF_METHODS:
        return _OF_METHODS[word], next(rest, "")
    if word[:2] in ("-m", "-o") and not word.startswith("--"):
        return _OF_METHODS[word[:2]], word[2:]
    return None, ""
