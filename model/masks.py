"""Geometry of segment masks."""

import numpy as np


def bounding_box(mask: np.ndarray) -> list[int]:
    """Left, top, right and bottom of a mask [height, width], in pixels; right and bottom are exclusive."""
    rows, columns = np.nonzero(mask)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
