"""Detect-and-Compare of MuDI (agwmon/MuDI, commit 5a23723): do the crops resemble the subjects as these each other?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fc_bench.published import cosines


def subject_matrix(photographs: Sequence[np.ndarray]) -> np.ndarray:
    """Mean cosine of each two subjects' photographs [subjects, subjects], from embeddings [photographs, dim] a subject.

    The diagonal includes the pairs of a photograph with itself, as theirs does.
    """
    return np.array([[float(cosines(one, other).mean()) for other in photographs] for one in photographs])


def detect_and_compare(crops: np.ndarray, subjects: np.ndarray) -> float:
    """1 minus the spectral distance of the crops' matrix to the subjects' own, from the mean cosines [crops, subjects].

    The crops are ordered greedily: the first subject takes the crop that resembles it most. 0 if there are not as many
    crops as subjects. The value has no lower bound (detect_and_compare/demo.ipynb, cell 2).
    """
    if len(crops) != len(subjects):
        return 0.0
    left = list(range(len(crops)))
    order = []
    for subject in range(len(subjects)):
        best = max(left, key=lambda crop: crops[crop, subject])
        left.remove(best)
        order.append(best)
    return 1.0 - float(np.linalg.norm(crops[order] - subjects, ord=2))


def two_subjects(crops: np.ndarray) -> tuple[float, float]:
    """The linear and the maximum score of two crops and two subjects [2, 2] (utils/eval.py, `IdentityMetric`).

    Linear: how differently the crops choose between the subjects. Maximum: sum of each crop's largest similarity. Both
    are 0 unless there are two crops.
    """
    if len(crops) != 2:
        return 0.0, 0.0
    one, other = (float(row[0] - row[1]) for row in crops)
    linear = abs(one - other) if one * other > 0 else abs(one) + abs(other)
    return linear, float(crops.max(axis=1).sum())
