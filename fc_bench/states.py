"""States that results come from: code, libraries and machines of the commands that made them, and how they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNKNOWN = "unknown"
COMPUTING = ("fc-bench", "torch", "diffusers", "transformers", "accelerate", "insightface", "onnxruntime", "numpy")
"""Packages whose version can change a number."""


@dataclass(frozen=True)
class State:
    """What computed a number: a commit, versions of the packages in `COMPUTING`, the machines."""

    code: str
    versions: tuple[tuple[str, str], ...]
    machines: tuple[str, ...]

    @classmethod
    def of(cls, command: Mapping[str, Any]) -> State:
        """The state of one command of a run, as run.json records it; what is not recorded is unknown."""
        versions = command.get("versions") or {}
        machines = command.get("workers") or [command.get("hardware") or {}]
        return cls(
            code_of(command),
            tuple((name, str(versions.get(name) or UNKNOWN)) for name in COMPUTING if name in versions),
            tuple(dict.fromkeys(_machine(machine) for machine in machines)),
        )

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions if name != "fc-bench")
        package = dict(self.versions).get("fc-bench", UNKNOWN)
        return f"fc-bench {package} from {self.code}; {versions or 'versions unknown'}; on {'; '.join(self.machines)}"


def code_of(command: Mapping[str, Any]) -> str:
    """The commit of a command in words."""
    code = command.get("code") or {}
    if not code.get("commit"):
        return "an unknown commit"
    changed = {True: " with uncommitted changes", False: "", None: ", changes unknown"}[code.get("dirty")]
    return f"commit {code['commit'][:12]}{changed}"


def states_of(commands: Iterable[Mapping[str, Any]]) -> dict[State, list[int]]:
    """The different states of a run's commands, in the order of their first one -> the commands' positions."""
    found: dict[State, list[int]] = {}
    for position, command in enumerate(commands):
        found.setdefault(State.of(command), []).append(position)
    return found


def differences(states: Sequence[State]) -> list[str]:
    """What differs between states, a phrase each: "torch 2.4.0 and 2.13.0"."""
    names = dict.fromkeys(name for state in states for name, _ in state.versions)
    phrases = [_differing("", [state.code for state in states])]
    phrases += [_differing(name, [dict(state.versions).get(name, UNKNOWN) for state in states]) for name in names]
    phrases.append(_differing("machines", ["; ".join(state.machines) for state in states]))
    return [phrase for phrase in phrases if phrase]


def _differing(name: str, values: Sequence[str]) -> str:
    different = list(dict.fromkeys(values))
    return f"{name} {' and '.join(different)}".strip() if len(different) > 1 else ""


def _machine(hardware: Mapping[str, Any]) -> str:
    cores = hardware.get("cores")
    parts = (hardware.get("processor"), None if cores is None else f"{cores} cores", *hardware.get("accelerators", ()))
    return ", ".join(part for part in parts if part) or "an unknown machine"
