"""The gate of a regression check: tolerated differences, and the rate of false alarms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fc_bench.model.settings import Settings
from fc_bench.model.yaml_file import read_yaml


class QualityTolerance(Settings):
    """Tolerated difference of a quality column, in its own unit.

    `sides: both` also refuses a larger improvement: against a stored reference, an unexpected gain often means a
    changed measurement. `sides: worse` accepts every improvement.
    """

    tolerance: Annotated[float, Field(ge=0)] = 0.02
    sides: Literal["both", "worse"] = "both"


class CostTolerance(Settings):
    """Tolerated growth of a cost column as a share of the base's: 0.1 is ten percent. Savings are always accepted."""

    tolerance: Annotated[float, Field(ge=0)] = 0.1


class Gate(Settings):
    """The schema of a gate file.

    `false_alarms` is the probability that a comparison of two equal runs refuses anything: each of the m gated
    differences is judged by an interval at the level 1 - false_alarms / m (Bonferroni). `methods` names the gated rows
    of the base (None: all). `quality` names the gated columns (None: the headline columns for which higher is better).
    `cost` names the gated cost columns (default: none).
    """

    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.05
    methods: list[str] | None = None
    quality: dict[str, QualityTolerance] | None = None
    cost: dict[str, CostTolerance] = Field(default_factory=dict)


def read_gate(path: Path) -> Gate:
    """The gate in a YAML file; raises ModelInputError with `file:line` for any error in it."""
    return read_yaml(path, Gate)
