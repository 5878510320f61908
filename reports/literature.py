"""Published values of a suite, beside the measured ones and never in one column with them."""

from __future__ import annotations

import csv
from pathlib import Path

from fc_bench.reports.tables.model import Cell, Heading, Table

PUBLISHED = Path(__file__).parent / "published"
RESULTS = PUBLISHED / "results.csv"
COST = PUBLISHED / "cost.csv"
ALPHA_SWEEP = PUBLISHED / "alpha_sweep.csv"
EMBEDDER = (
    "Published identity was measured with FaceNet (VGGFace2) after MTCNN, prompt consistency with CLIP ViT-L/14; "
    "identities of other embedders do not compare with it."
)


_WORDS = ("method", "hardware", "source", "status")


def published_rows(suite: str) -> list[dict[str, str]]:
    """The published values of a suite, as text as in the file: method, references, identity, ..., source, status."""
    return [row for row in _read(RESULTS) if row["suite"] == suite]


def published_tables(suite: str) -> list[Table]:
    """Published quality and cost of a suite; empty where nothing is published of it."""
    quality = [{key: value for key, value in row.items() if key != "suite"} for row in published_rows(suite)]
    if not quality:
        return []
    return [_table("published", "Published", quality), _table("published-cost", "Published cost", _read(COST))]


def published_alpha_sweep() -> list[dict[str, float]]:
    """Identity and prompt consistency against alpha, digitised from figure 5 of arXiv 2305.10431."""
    keys = ("alpha", "identity", "prompt_consistency")
    return [{key: float(row[key]) for key in keys} for row in _read(ALPHA_SWEEP)]


def _read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _table(name: str, title: str, rows: list[dict[str, str]]) -> Table:
    header = tuple(Heading(key.replace("_", " "), number=key not in _WORDS) for key in rows[0])
    return Table(name, title, header, tuple(tuple(map(Cell, row.values())) for row in rows))
