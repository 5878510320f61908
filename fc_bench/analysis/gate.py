"""The gate of a regression check: which differences are tolerated, and how often an unchanged method may be accused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fc_bench.model.settings import Settings
from fc_bench.model.yaml_file import read_yaml


class QualityTolerance(Settings):
    """Tolerated difference of a quality column, in its own unit.

    `sides: both` also refuses what became better by more: against a kept reference an unexpected gain is as often a
    changed measurement as a better method. `sides: worse` lets every gain pass.
    """

    tolerance: Annotated[float, Field(ge=0)] = 0.02
    sides: Literal["both", "worse"] = "both"


class CostTolerance(Settings):
    """Tolerated growth of a cost column as a share of the base's: 0.1 is ten percent. Savings always pass."""

    tolerance: Annotated[float, Field(ge=0)] = 0.1


class Gate(Settings):
    """The schema of a gate file.

    `false_alarms` is the chance that a comparison of two runs of the same thing accuses any method of anything: each of
    the m gated differences is judged by an interval at the level 1 - false_alarms / m (Bonferroni). `methods` names the
    gated rows of the base (None: all); `quality` the gated columns (None: the headline columns that are better higher);
    `cost` gates nothing unless it is asked to.
    """

    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.05
    methods: list[str] | None = None
    quality: dict[str, QualityTolerance] | None = None
    cost: dict[str, CostTolerance] = Field(default_factory=dict)


def read_gate(path: Path) -> Gate:
    """The gate in a YAML file; raises ModelInputError with `file:line` for anything that is wrong with it."""
    return read_yaml(path, Gate)
