"""A cost run, as a report reads it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fc_bench.cost.records import KIND
from fc_bench.cost.results import MethodCost, method_costs
from fc_bench.run_folder.records import RunFolder


@dataclass(frozen=True)
class CostRun:
    """The folder of a cost run, each part read once; `name` distinguishes it from the other runs of the report."""

    folder: RunFolder
    name: str

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Content of run.json."""
        return self.folder.settings(KIND)

    @cached_property
    def costs(self) -> list[MethodCost]:
        """The cost of each method, in the order of the settings."""
        return method_costs(self.folder)

    @property
    def title(self) -> str:
        """The title of the run, in one line."""
        return f"Cost on {self.settings['backbone']}{' with random weights' if self.settings['random_weights'] else ''}"
