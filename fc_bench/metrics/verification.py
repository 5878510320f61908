"""Verification: whether a subject's face passes the threshold at which the embedder counts faces as one person's."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fc_bench.metrics.published import FromSimilarities
from fc_bench.model.matching import greedy_matching
from fc_bench.protocols import Column

NAME = "verification"
"""Name of the metric in records; no suite requests it, a threshold of the embedder does."""


def verification(threshold: float) -> type[FromSimilarities]:
    """The metric with the column `verified`, for a cosine threshold; it is derived from the record of `identity`."""

    class Verification(FromSimilarities):
        description: ClassVar[str] = "share of the subjects whose face passes the embedder's threshold"
        source: ClassVar[str] = "fc-bench"
        columns: ClassVar[tuple[Column, ...]] = (
            Column(
                "verified",
                "verified",
                True,
                "share of the subjects whose matched face has a cosine of at least "
                f"{threshold:g} with the reference, the embedder's threshold; no face counts 0",
                digits=2,
                headline=True,
                bounds=(0.0, 1.0),
            ),
        )

        @staticmethod
        def values(similarities: np.ndarray) -> dict[str, float | None]:
            """Matched as for `identity`: as many of the largest faces as subjects."""
            count = len(similarities)
            matched = greedy_matching(similarities[:, :count])
            passed = [row for row, column in matched.items() if similarities[row, column] >= threshold]
            return {"verified": len(passed) / count}

    return Verification
