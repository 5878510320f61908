"""The scores of published benchmarks, as their own code computes them: arithmetic alone, a module a benchmark.

Matrices of similarities are [subjects, faces], cosines; each function states what its benchmark leaves out of a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trimmed:
    """A mean, the number of values that it rests on, and how many were left out as outliers."""

    mean: float
    used: int
    left_out: int = 0


def cosines(ones: Sequence[np.ndarray] | np.ndarray, others: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """The cosines of all pairs of embeddings [ones, others]."""
    left, right = (np.asarray(group, dtype=np.float64) for group in (ones, others))
    left, right = (group / np.linalg.norm(group, axis=1, keepdims=True) for group in (left, right))
    return left @ right.T
