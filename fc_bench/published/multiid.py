"""MultiID-Bench of WithAnyone (Doby-Xu/WithAnyone, commit 996d152, MultiID-Bench)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fc_bench.model.matching import optimal_matching
from fc_bench.published import Trimmed, cosines

EPSILON = 1e-6
"""Added to norms; a smaller angle between target and reference gives no direction (metrics/arcface_metric.py)."""


@dataclass(frozen=True)
class Agreement:
    """Cosines of the matched pairs, and the mean of all other entries of the matrix (None: there is none)."""

    matched: tuple[float, ...]
    non_matched: float | None

    @property
    def mean(self) -> float:
        """The item's similarity."""
        return float(np.mean(self.matched))


def agreement(similarities: np.ndarray) -> Agreement | None:
    """Sim(Ref) or Sim(GT) of one image, from the cosines with each person [people, faces]; None without a face.

    People and faces are assigned one to one with the largest sum; those left over enter no mean, negatives are kept.
    """
    if not similarities.size:
        return None
    matched = optimal_matching(similarities)
    others = np.ones(similarities.shape, dtype=bool)
    for row, column in matched.items():
        others[row, column] = False
    return Agreement(
        tuple(float(similarities[pair]) for pair in matched.items()),
        float(similarities[others].mean()) if others.any() else None,
    )


def copy_paste(generated: np.ndarray, target: np.ndarray, reference: np.ndarray) -> float:
    """How much nearer a face is to the reference than to the target, by the angle between these two.

    1: the reference itself, -1: the target itself. The arguments are embeddings [dim].
    """
    face, aim, given = (vector / (np.linalg.norm(vector) + EPSILON) for vector in (generated, target, reference))

    def angle(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.arccos(np.clip(np.dot(one, other), -1.0, 1.0)))

    between = angle(aim, given)
    return 0.0 if between < EPSILON else (angle(face, aim) - angle(face, given)) / between


def copy_paste_of_image(
    generated: Sequence[np.ndarray], target: Sequence[np.ndarray], references: Sequence[np.ndarray]
) -> list[float] | None:
    """`copy_paste` of every face of an image; None unless image, target and references have equally many faces.

    Faces are matched with the target and with the references separately, so that a triple may hold two people.
    """
    if not generated or not len(generated) == len(target) == len(references):
        return None
    aims, given = (optimal_matching(cosines(generated, others)) for others in (target, references))
    return [copy_paste(face, target[aims[place]], references[given[place]]) for place, face in enumerate(generated)]


def trimmed_mean(values: Sequence[float]) -> Trimmed | None:
    """The mean that the benchmark reports: without values farther than 1.5 interquartile ranges from the quartiles.

    The median of all values if that leaves less than half of them (eval.py, `_compute_statistics`); None of no values.
    """
    if not len(values):
        return None
    every = np.asarray(values, dtype=np.float64)
    lower, upper = np.percentile(every, [25, 75])
    margin = 1.5 * (upper - lower)
    kept = every[(every >= lower - margin) & (every <= upper + margin)]
    if 2 * len(kept) < len(every):
        return Trimmed(float(np.median(every)), len(every))
    return Trimmed(float(kept.mean()), len(kept), len(every) - len(kept))
