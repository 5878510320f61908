"""The commands a run was made with, and the command that makes one method's samples again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

AGAIN = "runs/again"
"""Another folder than the run's: there everything is done already."""

_OF_METHODS = {"-m": "method", "--method": "method", "-o": "option", "--option": "option", "--out": "out"}


_WHOLE = ("run", "sweep", "cost", "score")
"""Verbs that fill a run folder."""


def repeat_command(settings: Mapping[str, Any], method: str | None = None, finished: str | None = None) -> str | None:
    """The recorded command into a new folder; only `method` (a label), as that command had it, when one is given.

    `finished` (ISO 8601) tells which of several commands on the folder is meant, the one then at work; the last one
    otherwise. A sweep is of one method, so it is repeated whole. None where no command made it: a run from Python, the
    images of a run that scored what was made elsewhere.
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
    """Which option a word of the command line is, and its value: `-m x`, `-mx`, `--method x`, `--method=x`."""
    flag, equals, value = word.partition("=")
    if equals and flag.startswith("--") and flag in _OF_METHODS:
        return _OF_METHODS[flag], value
    if word in _OF_METHODS:
        return _OF_METHODS[word], next(rest, "")
    if word[:2] in ("-m", "-o") and not word.startswith("--"):
        return _OF_METHODS[word[:2]], word[2:]
    return None, ""
