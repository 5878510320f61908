"""A budget of seconds that is divided among the missing measurements."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from fc_bench.cost.records import Phase

SHARES: dict[Phase, float] = {"customize": 6, "step": 2, "first_image": 3, "image": 5}
"""Share of a method's part of the budget."""


@dataclass(frozen=True)
class Budget:
    """Seconds of a command from its first measurement on."""

    seconds: float
    begun: float

    @classmethod
    def from_now(cls, seconds: float) -> Budget:
        """Start the budget."""
        return cls(seconds, time.monotonic())

    @property
    def left(self) -> float:
        """Remaining seconds, at least 0."""
        return max(self.seconds - (time.monotonic() - self.begun), 0.0)

    def allowance(self, pending: Sequence[Phase]) -> float:
        """Seconds for the next of the missing measurements: its share of the remaining budget.

        Time that one measurement saves or overruns is thereby distributed over all later ones.
        """
        return self.left * SHARES[pending[0]] / sum(SHARES[phase] for phase in pending)


@dataclass(frozen=True)
class Prediction:
    """Measured seconds of a process that generates images: before the first image, of a full and of a short one."""

    before: float
    full: float
    short: float


def fits_in_full(left: float, own: Prediction, others: Sequence[Prediction]) -> bool:
    """Whether a full image fits, so that every other missing method can still be measured with few steps."""
    return own.before + own.full + sum(other.before + other.short for other in others) <= left
