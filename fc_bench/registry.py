"""Methods, metrics and suites by name, from entry points; nothing is imported before its use.

Built-in ones are registered like those of a plug-in: an entry point of the group `fc_bench.methods`, `fc_bench.metrics`
(value `module:Class`) or `fc_bench.suites` (value `module:ATTRIBUTE`, the path of the suite's YAML file).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from fc_bench.errors import UserError
from fc_bench.model.user_cache import expanded
from fc_bench.model.yaml_file import nearest

Kind = Literal["methods", "metrics", "suites"]


@dataclass(frozen=True)
class Registered:
    """A registered name: the object it refers to, and the distribution that provides it."""

    name: str
    target: str
    distribution: str


def registered(kind: Kind) -> dict[str, Registered]:
    """All registered names of a kind, sorted; imports nothing."""
    return {
        name: Registered(name, point.value, point.dist.name if point.dist else "?")
        for name, point in sorted(_points(kind).items())
    }


def load(kind: Kind, name: str) -> Any:
    """The registered object; raises UserError if the name is unknown or its plug-in cannot be imported."""
    points = _points(kind)
    if name not in points:
        raise UserError(f'Unknown {kind[:-1]} "{name}", {nearest(name, points)} `fc-bench list` shows all.')
    try:
        return points[name].load()
    except Exception as error:
        source = registered(kind)[name].distribution
        raise UserError(
            f'The {kind[:-1]} "{name}" ({points[name].value}, from the package {source}) cannot be imported: '
            f"{type(error).__name__}: {error}."
        ) from error


def suite_file(name_or_path: str) -> Path:
    """The file of a registered suite, or the given path."""
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        return expanded(name_or_path)
    points = _points("suites")
    if name_or_path not in points:
        raise UserError(
            f'Unknown suite "{name_or_path}", {nearest(name_or_path, points)} Or give the path of a suite.yaml.'
        )
    return Path(load("suites", name_or_path))


def _points(kind: Kind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"fc_bench.{kind}")}
