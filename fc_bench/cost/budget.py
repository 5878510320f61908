"""A budget of seconds, given out to the measurements that are still to be made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from fc_bench.cost.records import Phase

SHARES: dict[Phase, float] = {"customize": 6, "step": 2, "first_image": 3, "image": 5}
"""Of a method's part of the budget."""


@dataclass(frozen=True)
class Budget:
    """Seconds of a command from its first measurement on."""

    seconds: float
    begun: float

    @classmethod
    def from_now(cls, seconds: float) -> Budget:
        """A budget that begins to be spent."""
        return cls(seconds, time.monotonic())

    @property
    def left(self) -> float:
        """Seconds not spent yet, 0 when more than all are."""
        return max(self.seconds - (time.monotonic() - self.begun), 0.0)

    def allowance(self, pending: Sequence[Phase]) -> float:
        """Seconds of the first of the measurements still to be made: its share of what is left.

        What one leaves over, or takes beyond its share, is thereby spread over all that follow.
        """
        return self.left * SHARES[pending[0]] / sum(SHARES[phase] for phase in pending)


@dataclass(frozen=True)
class Prediction:
    """Seconds of a process that draws images, from what was measured: before the first, of a full and a short one."""

    before: float
    full: float
    short: float


def fits_in_full(left: float, own: Prediction, others: Sequence[Prediction]) -> bool:
    """Whether an image may be drawn in full, so that every other one still to be drawn can be, with few steps."""
    return own.before + own.full + sum(other.before + other.short for other in others) <= left
