"""How far to trust a column: what the published audit of the built-in metrics found, in one sentence each."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PUBLISHED = Path(__file__).parent / "reference" / "audit"
COLUMNS, CARDS = "columns.csv", "index.html"


@dataclass(frozen=True)
class Trust:
    """The metric whose card has a column, the card in short, and what requests of a prompt leave of its scale."""

    metric: str
    in_short: str
    requests: str


@cache
def published_trust() -> dict[str, Trust]:
    """Name of a column -> what was found; empty where no audit is published."""
    file = PUBLISHED / COLUMNS
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as lines:
        return {row["column"]: Trust(row["metric"], row["in_short"], row["requests"]) for row in csv.DictReader(lines)}
