"""Why two runs, or columns of them, cannot be compared: other samples, other scorers, other machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fc_bench.analysis.states import UNKNOWN, machine_text, machines_of
from fc_bench.model.kernels import Kernels
from fc_bench.protocols import Column

DETERMINISTIC = ("steps", "artefact_mib")
"""Cost columns that do not depend on the machine."""


class Obstacles:
    """Why columns of two runs cannot be compared, from their settings (run.json)."""

    def __init__(self, base: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self._base, self._new = base, new
        requested = {"name": "suite", "version": "version of the suite", "photograph_digests": "photographs"}
        self._requested = [what for key, what in requested.items() if base["suite"][key] != new["suite"][key]]

    def to_quality(self, column: Column) -> str:
        """The reason for a quality column; empty if both runs have the same samples and measurements."""
        different = list(self._requested)
        metric = next(name for name, columns in self._base["columns"].items() if column.name in _names(columns))
        theirs = {item["name"]: Column(**item).definition() for item in self._new["columns"].get(metric, [])}
        if column.name not in theirs:
            return "the new run did not measure it"
        if theirs[column.name] != column.definition():
            different.append("definition of the column")
        parts = ("clip", "faces", *self._base["metrics"].get(metric, {}).get("scorers", ()))
        before, after = (run.get("scorers", {}) for run in (self._base, self._new))
        if any(before.get(part) != after.get(part) for part in parts):
            different.append("scoring weights")
        if self._base.get("faces") != self._new.get("faces"):
            different.append("settings of the face models")
        return _listed(different)

    def to_cost(self, column: str) -> str:
        """The reason for a cost column; empty if both were measured on equal machines under equal conditions."""
        different = list(self._requested)
        if self._base["dtype"] != self._new["dtype"]:
            different.append("number format")
        if any(run.get("reported_costs") for run in (self._base, self._new)):
            different.append("measurements, as reported by a manifest")
        elif column not in DETERMINISTIC:
            if self._base["device"] != self._new["device"] or _machines(self._base) != _machines(self._new):
                different.append("hardware, torch or number of threads")
            elif any(map(_has_unknown_machine, (self._base, self._new))):
                different.append("or unknown hardware")
            if self._base["sampler"] != self._new["sampler"]:
                different.append("sampler")
            if self._base.get("compiled") != self._new.get("compiled"):
                different.append("compilation of the models")
            if _kernels(self._base) != _kernels(self._new):
                different.append("attention or memory formats")
        return _listed(different)

    def to_shared_prefixes(self, base: str, new: str) -> str:
        """The reason for seconds of methods with text-only prefixes; empty if both runs shared them or neither did."""
        shared = [
            any(label in command.get("shared_prefixes", ()) for command in settings["commands"])
            for label, settings in ((base, self._base), (new, self._new))
        ]
        return "text-only prefixes were shared in only one run" if shared[0] != shared[1] else ""

    def notes(self) -> Iterator[str]:
        """Differences that leave quality comparable."""
        if self._base["suite"]["seed"] != self._new["suite"]["seed"]:
            yield "The runs have different seeds: pairs share the subject and prompt but not the noise."
        if self._base["sampler"] != self._new["sampler"]:
            yield "The runs have different sampler settings."
        if self._base["dtype"] != self._new["dtype"]:
            yield "The runs have different number formats."
        if _kernels(self._base) != _kernels(self._new):
            yield "The runs have different attention or memory formats, which change the last bits of an image."
        if self._base["backbone"] != self._new["backbone"]:
            yield f"The runs have different backbones: {self._base['backbone']} and {self._new['backbone']}."


def _kernels(settings: Mapping[str, Any]) -> Kernels:
    """The recorded choice; runs of earlier versions have the default."""
    return Kernels(**(settings.get("kernels") or {}))


def _has_unknown_machine(settings: Mapping[str, Any]) -> bool:
    return any(UNKNOWN in machine_text(machine) for command in settings["commands"] for machine in machines_of(command))


def _machines(settings: Mapping[str, Any]) -> set[tuple[Any, ...]]:
    keys = ("processor", "cores", "torch_threads")
    return {
        (
            *(machine.get(key) for key in keys),
            *(machine.get("accelerators") or ()),
            (command.get("versions") or {}).get("torch"),
        )
        for command in settings["commands"]
        for machine in machines_of(command)
    }


def _names(columns: Sequence[Mapping[str, Any]]) -> list[str]:
    return [column["name"] for column in columns]


def _listed(different: Sequence[str]) -> str:
    return f"different {', '.join(different)}" if different else ""
