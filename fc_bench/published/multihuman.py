"""MultiHuman-Testbench (Qualcomm-AI-research/MultiHuman-Testbench, commit ff9f120)."""

from __future__ import annotations

import numpy as np

from fc_bench.model.matching import optimal_matching


def face_similarity(similarities: np.ndarray) -> float:
    """Sum of the matched cosines by the number of subjects, matched as their code does; an unmatched subject counts 0.

    Their assignment (utils/util.py) is not the optimum, see `their_matching`. 0 without a face.
    """
    return _mean_of_matched(similarities, their_matching(similarities) if similarities.size else {})


def optimal_face_similarity(similarities: np.ndarray) -> float:
    """The same with the assignment of the largest sum."""
    return _mean_of_matched(similarities, optimal_matching(similarities) if similarities.size else {})


def _mean_of_matched(similarities: np.ndarray, matched: dict[int, int]) -> float:
    subjects, faces = similarities.shape
    return sum(float(similarities[row, column]) for row, column in matched.items() if column < faces) / subjects


def their_matching(similarities: np.ndarray) -> dict[int, int]:
    """Subject -> face as their `hungarian_algorithm` assigns them; a face beyond the last one stands for none.

    The matrix is filled up with zeros to a square one, so that a subject with negative cosines alone may get no face.
    After the reduction by rows and columns, zeros are picked greedily; it ends when rows and columns of the picked ones
    are together as many as the side, that is after half of them, and the others follow in the order of their numbers.
    """
    subjects, faces = similarities.shape
    side = max(subjects, faces)
    square = np.zeros((side, side))
    square[:subjects, :faces] = similarities
    cost = square.max() - square
    cost -= cost.min(axis=1, keepdims=True)
    cost -= cost.min(axis=0, keepdims=True)
    while True:
        picked = _greedy_zeros(cost)
        if 2 * len(picked) >= side:
            break
        free = np.setdiff1d(np.arange(side), list(picked))
        taken = list(picked.values())
        least = np.delete(cost[free], taken, axis=1).min()
        cost[free] -= least
        cost[:, taken] += least
    rows = [row for row in range(side) if row not in picked]
    columns = [column for column in range(side) if column not in picked.values()]
    picked |= dict(zip(rows, columns, strict=True))
    return {row: picked[row] for row in range(subjects)}


def _greedy_zeros(cost: np.ndarray) -> dict[int, int]:
    """Row -> column of zeros, the first free one of each row in turn."""
    picked: dict[int, int] = {}
    for row, zeros in enumerate(cost == 0):
        column = next((column for column in np.flatnonzero(zeros).tolist() if column not in picked.values()), None)
        if column is not None:
            picked[row] = column
    return picked
