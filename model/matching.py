"""Matching one to one: subjects with the faces found in a picture, phrases with segments."""

import numpy as np


def greedy_matching(matrix: np.ndarray) -> dict[int, int]:
    """Row -> column, one to one: the largest entry first, then the largest of the rows and columns still free."""
    left = np.array(matrix, dtype=np.float64)
    matched: dict[int, int] = {}
    for _ in range(min(left.shape)):
        row, column = np.unravel_index(int(np.argmax(left)), left.shape)
        matched[int(row)] = int(column)
        left[row, :] = -np.inf
        left[:, column] = -np.inf
    return matched


def optimal_matching(matrix: np.ndarray) -> dict[int, int]:
    """Row -> column, one to one, with the largest sum: what is high in a whole row or column decides nothing."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(np.asarray(matrix, dtype=np.float64), maximize=True)
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))
