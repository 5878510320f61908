"""One-to-one matching, of subjects with the faces in a picture or of phrases with segments."""

import numpy as np


def greedy_matching(matrix: np.ndarray) -> dict[int, int]:
    """Row -> column, one to one; takes the largest entry of the free rows and columns until none is left."""
    left = np.array(matrix, dtype=np.float64)
    matched: dict[int, int] = {}
    for _ in range(min(left.shape)):
        row, column = np.unravel_index(int(np.argmax(left)), left.shape)
        matched[int(row)] = int(column)
        left[row, :] = -np.inf
        left[:, column] = -np.inf
    return matched


def optimal_matching(matrix: np.ndarray) -> dict[int, int]:
    """Row -> column, one to one, with the largest sum; adding a constant to a row or column does not change it."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(np.asarray(matrix, dtype=np.float64), maximize=True)
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))
