"""Where two things stand to each other, as PSRBench scores it (wang-shulei/PSR, commit c719168)."""

from __future__ import annotations

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""

NEAR = ("next to", "on side of", "near")
RIGHT, LEFT = ("on the right of", "to the right of"), ("on the left of", "to the left of")
BELOW, ABOVE = ("under", "below"), ("on top of", "above")
LARGEST_OVERLAP = 0.1
"""Intersection over union up to which two boxes do not overlap."""
LARGEST_DISTANCE = 150.0
"""Pixels between centers, along one axis, up to which two things are near."""


def position_score(relation: str, box: Box | None, other: Box | None) -> float:
    """How well the first box stands in this relation to the second, from 0 to 1.

    0 for an unknown relation, where one of the two was not found, and for boxes without an area.

    Overlap lowers a right position (eval/semantic-alignment/position-alignment.py, `determine_position`).
    """
    if box is None or other is None or not (_area(box) or _area(other)):
        return 0.0
    right, down = ((other[axis] + other[axis + 2] - box[axis] - box[axis + 2]) / 2 for axis in (0, 1))
    if relation in NEAR:
        if min(abs(right), abs(down)) < LARGEST_DISTANCE:
            return 1.0
        return LARGEST_DISTANCE / max(abs(right), abs(down))
    beside = abs(right) > abs(down)
    fits = (
        (relation in RIGHT and right < 0 and beside)
        or (relation in LEFT and right > 0 and beside)
        or (relation in BELOW and down < 0)
        or (relation in ABOVE and down > 0)
    )
    if not fits:
        return 0.0
    overlap = _overlap(box, other)
    return 1.0 if overlap < LARGEST_OVERLAP else LARGEST_OVERLAP / overlap


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _overlap(box: Box, other: Box) -> float:
    """Intersection over union."""
    sides = [max(0.0, min(box[axis + 2], other[axis + 2]) - max(box[axis], other[axis])) for axis in (0, 1)]
    both = sides[0] * sides[1]
    return both / (_area(box) + _area(other) - both)
