"""Published values of a suite, beside the measured ones and never in one column with them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fc_bench.reports.blocks import Block

RESULTS = Path(__file__).parent / "published" / "results.csv"
EMBEDDER = (
    "Published identity was measured with FaceNet (VGGFace2) after MTCNN, prompt consistency with CLIP ViT-L/14; "
    "identities of other embedders do not compare with it."
)


def published_block(suite: str) -> Block | None:
    """The published rows of a suite, as text as in the file; None where there are none."""
    rows = pd.read_csv(RESULTS, dtype=str)
    rows = rows[rows["suite"] == suite].drop(columns="suite")
    if rows.empty:
        return None
    header = tuple(column.replace("_", " ") for column in rows.columns)
    return Block("Published", header, tuple(tuple(map(str, row)) for row in rows.itertuples(index=False)))
