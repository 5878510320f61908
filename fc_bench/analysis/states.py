"""The states of code, libraries and machine that results come from, and whether they are the same.

The commands in run.json record them. A fact that is not recorded is unknown, and unknown states never count as equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

LIBRARIES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "onnxruntime",
    "insightface",
    "numpy",
    "opencv-python",
    "pillow",
)
"""Libraries that compute images or scores."""
UNKNOWN = "unknown"
CODE, FC_BENCH, MACHINE, PROVIDERS = "code", "fc-bench", "machine", "face models"

Command = Mapping[str, Any]


def state_of(command: Command) -> dict[str, str]:
    """Name -> text of each fact that results depend on."""
    versions = command.get("versions") or {}
    facts = {CODE: code_of(command), FC_BENCH: version_of(versions, FC_BENCH)}
    facts |= {name: version_of(versions, name) for name in LIBRARIES}
    facts[MACHINE] = "; ".join(dict.fromkeys(map(machine_text, machines_of(command))))
    if "face_providers" in command:
        facts[PROVIDERS] = ", ".join(map(str, command["face_providers"])) or "none"
    return facts


def code_of(command: Command) -> str:
    """The commit, and whether files differed from it."""
    code = command.get("code") or {}
    if not code.get("commit"):
        return f"commit {UNKNOWN}"
    if code.get("dirty") is None:
        return f"commit {code['commit'][:12]}, changes {UNKNOWN}"
    return f"commit {code['commit'][:12]}{' with changes' if code['dirty'] else ''}"


def version_of(versions: Mapping[str, Any], name: str) -> str:
    """The recorded version of a package."""
    if name not in versions:
        return UNKNOWN
    return "not installed" if versions[name] is None else str(versions[name])


def machines_of(command: Command) -> list[Mapping[str, Any]]:
    """The machines that did a command's work; one without facts if they are not recorded."""
    return command.get("workers") or [command.get("hardware") or {}]


def machine_text(machine: Mapping[str, Any]) -> str:
    """Processor, cores, threads of torch and accelerators, in words."""
    if not machine:
        return UNKNOWN
    accelerators = machine.get("accelerators")
    shown = UNKNOWN if accelerators is None else ", ".join(accelerators) or "no accelerator"
    counts = [
        f"{machine.get(key) or UNKNOWN} {what}" for key, what in (("cores", "cores"), ("torch_threads", "threads"))
    ]
    return ", ".join([str(machine.get("processor") or f"processor {UNKNOWN}"), *counts, shown])


def libraries_of(command: Command) -> str:
    """The libraries that compute, with their versions."""
    versions = command.get("versions") or {}
    return ", ".join(f"{name} {version_of(versions, name)}" for name in LIBRARIES)


@dataclass(frozen=True)
class State:
    """A state with the commands that ran in it."""

    facts: Mapping[str, str]
    commands: list[Command]

    @property
    def libraries(self) -> str:
        """`libraries_of` of each command."""
        return libraries_of(self.commands[0])


def states(commands: Sequence[Command]) -> list[State]:
    """The states of commands, in the order in which they first ran."""
    found: dict[str, State] = {}
    for command in commands:
        facts = state_of(command)
        idle = not command.get("added_results", True)
        found.setdefault(str([facts, idle]), State(facts, [])).commands.append(command)
    return list(found.values())


def contributing(commands: Sequence[Command]) -> list[Command]:
    """The commands that results come from: all except those that recorded that they added none."""
    return [command for command in commands if command.get("added_results", True)] or list(commands)


def doubts(settings: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Sentences on why results shown together may not be comparable; run name -> content of its run.json.

    None if all come from one known state.
    """
    made = [
        (name, {**state_of(command), "device": str(one["device"])})
        for name, one in settings.items()
        for command in contributing(one["commands"])
    ]
    facts = list(dict.fromkeys(fact for _, state in made for fact in state))
    different, unsure = [], []
    for fact in facts:
        found: dict[str, list[str]] = {}
        for name, state in made:
            found.setdefault(state.get(fact, UNKNOWN), []).append(name)
        if len(found) > 1:
            runs = {
                text: f" ({', '.join(dict.fromkeys(names))})" if len(settings) > 1 else ""
                for text, names in found.items()
            }
            different.append(f"{fact} {' and '.join(text + runs[text] for text in found)}")
        elif len(made) > 1 and any(UNKNOWN in text or text.endswith(" with changes") for text in found):
            unsure.append(f"{fact} {next(iter(found))}")
    what = "The results of these runs" if len(settings) > 1 else "The results of this run"
    if different:
        yield (
            f"{what} come from different states of code, libraries or machine, which may be what differs between "
            f"them: {'; '.join(different)}."
        )
    if unsure:
        yield f"Whether {what[0].lower()}{what[1:]} come from one state is not known: {'; '.join(unsure)}."


def weight_doubts(settings: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A sentence for each kind of weights that should be the same and is not.

    These are the pipelines of runs of one backbone, and all weights of a method with the same options.
    """
    rows = [
        (name, label, one["backbone"], row) for name, one in settings.items() for label, row in one["methods"].items()
    ]
    differing: dict[str, None] = {}
    for (_, _, backbone, one), (_, _, other_backbone, other) in combinations(rows, 2):
        same = one["name"] == other["name"] and one["options"] == other["options"]
        for part in one["weights"].keys() & other["weights"].keys():
            alike = same or part == "pipeline"
            if backbone == other_backbone and alike and one["weights"][part] != other["weights"][part]:
                differing[part] = None
    for part in sorted(differing):
        found: dict[str, list[str]] = {}
        for name, label, _, row in rows:
            if part in row["weights"]:
                found.setdefault(row["weights"][part], []).append(f"{name}: {label}" if len(settings) > 1 else label)
        listed = "; ".join(f"sha256 {sha256[:12]} of {', '.join(labels)}" for sha256, labels in found.items())
        yield f"The weights of the {part} differ: {listed}."
