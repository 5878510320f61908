"""The scores of published benchmarks, as their own code computes them: arithmetic alone, a module a benchmark.

Matrices of similarities are [subjects, faces], cosines; each function states what its benchmark leaves out of a mean.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trimmed:
    """A mean, the number of values that it rests on, and how many were left out as outliers."""

    mean: float
    used: int
    left_out: int = 0
