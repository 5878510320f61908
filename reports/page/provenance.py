"""Provenance on the page: commands, settings, code, versions, machine, options and weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fc_bench.analysis.states import FC_BENCH, LIBRARIES, code_of, machine_text, machines_of, version_of
from fc_bench.analysis.states import UNKNOWN as UNKNOWN_STATE
from fc_bench.cost.records import all_measurements
from fc_bench.reports.cost.notes import machine
from fc_bench.reports.cost.run import CostRun
from fc_bench.reports.frame import image_sizes
from fc_bench.reports.page.gallery import PageRun
from fc_bench.reports.page.parts import UNKNOWN
from fc_bench.reports.repetition import repeat_command


def quality_origin(run: PageRun) -> dict[str, Any]:
    """The template's data of one quality run."""
    settings = run.run.settings
    ends = [entry.get("finished") or "not finished" for entry in settings["commands"]]
    return _origin(run.run.name, settings, _provenance(settings), ends)


def cost_origin(run: CostRun) -> dict[str, Any]:
    """The template's data of a cost run."""
    settings = run.settings
    subject = settings["subject"]
    facts = [
        ["backbone", f"{settings['backbone']}{', random weights' if settings['random_weights'] else ''}"],
        ["sampler", _sampler(settings)],
        ["subject", f"{subject['id']}, {subject['photographs']} photographs, a {subject['noun']}"],
        ["prompt", subject["template"]],
        ["computed with", machine(settings)],
        ["numerics", _pairs(settings["numerics"])],
        ["provider", _pairs(settings["provider"])],
        *_states(settings["commands"]),
    ]
    return _origin(run.name, settings, facts, _ends(run))


def _ends(run: CostRun) -> list[str]:
    """When the last measurement of each command ended."""
    starts = [entry["started"] for entry in run.settings["commands"]]
    ends = [record["finished"] for record in all_measurements(run.folder) if "finished" in record]
    until = [*starts[1:], None]
    own = [
        [end for end in ends if start <= end and (later is None or end < later)]
        for start, later in zip(starts, until, strict=True)
    ]
    return [max(found, default="nothing measured") for found in own]


def _origin(name: str, settings: Mapping[str, Any], provenance: list[list[str]], ends: Sequence[str]) -> dict[str, Any]:
    return {
        "name": name,
        "provenance": provenance,
        "methods": [
            {
                "label": label,
                "options": [[key, _shown(value)] for key, value in row["options"].items()],
                "weights": [[part, sha256] for part, sha256 in row["weights"].items()],
            }
            for label, row in settings["methods"].items()
        ],
        "commands": [_command(entry, end) for entry, end in zip(settings["commands"], ends, strict=True)],
        "repeat": repeat_command(settings),
    }


def _provenance(settings: Mapping[str, Any]) -> list[list[str]]:
    """Names and texts of the provenance."""
    suite, faces = settings["suite"], settings["faces"]
    facts = [
        ["suite", f"{suite['name']}, version {suite['version']}"],
        ["license of the suite", suite["license"]],
        ["source", suite["source"]],
        ["citation", suite["citation"]],
        ["backbone", settings["backbone"]],
        ["sampler", _sampler(settings) if settings["sampler"] else UNKNOWN],
        ["number format", f"{settings['dtype'] or UNKNOWN} on {settings['device']}"],
        ["scorers, sha256", _pairs(settings.get("scorers", {}))],
        ["face models", "; ".join(map(_pairs, faces if isinstance(faces, list) else [faces]))],
        *([f"metric {name}", _pairs(own)] for name, own in settings["metrics"].items()),
        *([f"metric {name}", _judge(own)] for name, own in settings.get("judged", {}).items()),
        *_states(settings["commands"]),
    ]
    return [[name, text] for name, text in facts if text]


def _judge(judged: Mapping[str, Any]) -> str:
    """Whose answers a judged metric has, to which wording of the questions."""
    made_by, arithmetic = judged["made_by"], f"arithmetic: {judged['arithmetic']}"
    if made_by is None:
        return f"judge: {judged['judge']}, answers read from a file; {arithmetic}"
    model, prompts = made_by["model"], made_by["prompts"]
    return (
        f"judge: {judged['judge']}, {model['kind']} in {model['dtype']}, sha256 {model['sha256']}; "
        f"{prompts['whose']}; {arithmetic}"
    )


def _sampler(settings: Mapping[str, Any]) -> str:
    sampler = settings["sampler"]
    return (
        f"{sampler['scheduler']}, {sampler['steps']} steps, guidance scale {sampler['guidance_scale']}, "
        f"{image_sizes(settings)}"
    )


def _states(commands: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Code, versions and machine, for each state if there are several."""
    found: dict[str, list[int]] = {}
    for number, command in enumerate(commands):
        found.setdefault(str(_code_and_machine(command)), []).append(number)
    rows = []
    for numbers in found.values():
        listed = ", ".join(str(number + 1) for number in numbers)
        which = f" of command{'s' if len(numbers) > 1 else ''} {listed}" if len(found) > 1 else ""
        rows += [[f"{name}{which}", text] for name, text in _code_and_machine(commands[numbers[0]])]
    return rows


def _code_and_machine(command: Mapping[str, Any]) -> list[list[str]]:
    code, versions = command.get("code") or {}, command.get("versions") or {}
    names = dict.fromkeys([*versions, FC_BENCH, *LIBRARIES])
    facts = [
        ["code", code_of(command).replace(str(code.get("commit"))[:12], str(code.get("commit")))],
        ["versions", ", ".join(f"{name} {version_of(versions, name)}" for name in names)],
    ]
    for one in machines_of(command):
        memory, system = one.get("memory_bytes"), one.get("system")
        size = [f"{memory / 2**30:.1f} GiB"] if memory is not None else []
        facts.append(["machine", ", ".join([machine_text(one), *size, *([system] if system else [])])])
    return facts


def _pairs(data: Mapping[str, Any]) -> str:
    """Names and values in a line, nested ones in brackets."""
    shown = [
        f"{key} ({_pairs(value)})" if isinstance(value, Mapping) else f"{key} {_shown(value)}"
        for key, value in data.items()
        if value is not None
    ]
    return ", ".join(shown)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _command(entry: Mapping[str, Any], end: str) -> dict[str, str]:
    return {
        "command": entry["command"],
        "started": entry["started"],
        "finished": end,
        "commit": (entry.get("code") or {}).get("commit") or UNKNOWN_STATE,
    }
