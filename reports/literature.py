"""Published values of a suite, shown next to measured ones and never in the same column."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from fc_bench.reports.tables.model import Cell, Heading, Table

PUBLISHED = Path(__file__).parent / "published"
RESULTS = PUBLISHED / "results.csv"
COST = PUBLISHED / "cost.csv"
SPEED_UP = PUBLISHED / "speedup.csv"
ALPHA_SWEEP = PUBLISHED / "alpha_sweep.csv"
EMBEDDER = (
    "Published identity was measured with FaceNet (VGGFace2) after MTCNN, prompt consistency with CLIP ViT-L/14; "
    "identities of other embedders do not compare with it."
)
_METHOD = Heading("method", number=False)
_WORDS = ("method", "source", "status")


def published_rows(suite: str) -> list[dict[str, str]]:
    """The published values of a suite, as text as in the file: method, references, identity, ..., source, status."""
    return [row for row in _read(RESULTS) if row["suite"] == suite]


def published_tables(suite: str) -> list[Table]:
    """Published quality and cost of a suite; empty if nothing is published."""
    quality = [{key: value for key, value in row.items() if key != "suite"} for row in published_rows(suite)]
    if not quality:
        return []
    header = tuple(Heading(key.replace("_", " "), number=key not in _WORDS) for key in quality[0])
    rows = tuple(tuple(map(Cell, row.values())) for row in quality)
    return [Table("published", "Published", header, rows), published_cost()]


def published_cost() -> Table:
    """Published total seconds of customization and generation, and their ratio to FastComposer's."""
    rows = _read(COST)
    fast = next(float(row["total_time_s"]) for row in rows if row["method"] == "FastComposer")
    shown = []
    for row in rows:
        seconds = float(row["total_time_s"])
        numbers = (Cell(f"{seconds:,.0f}", value=seconds), Cell(f"{seconds / fast:,.0f}x", value=seconds / fast))
        words = (Cell(row[key]) for key in ("hardware", "source", "status"))
        shown.append((Cell(row["method"]), Cell(row["references"]), *numbers, *words))
    header = (
        _METHOD,
        Heading("references"),
        Heading("s in total", "lower"),
        Heading("of FastComposer's", "lower"),
        *(Heading(text, number=False) for text in ("hardware", "source", "status")),
    )
    return Table("published-cost", "Published cost", header, tuple(shown))


@dataclass(frozen=True)
class Claim:
    """The published speed-up of FastComposer over `against` with Stable Diffusion v1.5, from `low` to `high`."""

    low: float
    high: float
    against: str
    of: str
    source: str

    @property
    def words(self) -> str:
        """The two ends."""
        return f"{self.low:,.0f}x to {self.high:,.0f}x"

    def is_of(self, backbone: str) -> bool:
        """Whether it applies to models of this backbone's size."""
        return backbone == "sd15"


def published_speed_up() -> Claim:
    """The claim, as quoted from the paper."""
    (row,) = _read(SPEED_UP)
    return Claim(float(row["low"]), float(row["high"]), row["against"], row["of"], row["source"])


def published_alpha_sweep() -> list[dict[str, float]]:
    """Identity and prompt consistency against alpha, digitized from figure 5 of arXiv 2305.10431."""
    keys = ("alpha", "identity", "prompt_consistency")
    return [{key: float(row[key]) for key in keys} for row in _read(ALPHA_SWEEP)]


def _read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
