"""The data of all figures: the frame's rows, the samples, and the style of each method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from fc_bench.analysis.aggregate import OVERALL, REFERENCES, Row
from fc_bench.protocols import Column
from fc_bench.reports.figures.style import Look, looks
from fc_bench.reports.frame import Run, columns, rows, samples

MEASURES = ("identity", "prompt_consistency")
"""The quality columns that figures show."""


@dataclass(frozen=True)
class Choice:
    """The samples of the image grids: of some subject sets (`p01+p02`), drawn at random, or by the rule."""

    sets: Sequence[str] = ()
    seed: int | None = None


@dataclass(frozen=True)
class Material:
    """Comparable runs, read once for all figures; `tell` receives a sentence for each figure that is left out.

    `everyone` are the methods of the whole report (label -> method), which look the same in all its parts.
    """

    runs: Sequence[Run]
    choice: Choice = Choice()
    tell: Callable[[str], None] = field(default=lambda _: None)
    everyone: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def rows(self) -> list[Row]:
        """The frame's rows."""
        return rows(self.runs)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row per planned sample, as `frame.samples`."""
        return samples(self.runs)

    @cached_property
    def methods(self) -> list[tuple[str, str, str]]:
        """Run, recorded method and label of every method with planned samples, in order."""
        named = self.samples[["run", "method", "label"]].drop_duplicates()
        return list(named.itertuples(index=False, name=None))

    @cached_property
    def labels(self) -> list[str]:
        """The methods' labels, in order."""
        return list(dict.fromkeys(label for _, _, label in self.methods))

    @cached_property
    def looks(self) -> dict[str, Look]:
        """The style of each method, the same in every figure."""
        return looks({**self.everyone, **{label: method for _, method, label in self.methods}})

    @cached_property
    def sizes(self) -> list[int]:
        """Numbers of subjects."""
        return sorted(self.samples["subjects"].unique().tolist())

    def of(self, label: str, subjects: int) -> pd.DataFrame:
        """The samples of one method on sets of this number of subjects."""
        return self.samples.loc[(self.samples["subjects"] == subjects) & (self.samples["label"] == label)]

    @cached_property
    def embedder(self) -> str | None:
        """The face models that identity was measured with."""
        return self.runs[0].settings["metrics"].get("identity", {}).get("embedder")

    def column(self, name: str) -> Column | None:
        """A quality column by its name, None if it was not measured."""
        return next((column for column in columns(self.runs) if column.name == name), None)

    def title(self, column: Column) -> str:
        """A column's title for an axis; that of identity names its face models."""
        return f"{column.title} ({self.embedder})" if column.name == "identity" and self.embedder else column.title

    def part(self, subjects: int, column: str, category: str | None = OVERALL) -> list[Row]:
        """The methods' rows of a column with a mean, over all prompts (or, with None, those of the categories)."""
        return [
            row
            for row in self.rows
            if (row["subjects"], row["column"], row["kind"]) == (subjects, column, "method")
            and (row["category"] == category if category else row["category"] != OVERALL)
            and row["mean"] is not None
        ]

    def incomplete(self, subjects: int) -> dict[str, str]:
        """Label -> `5 / 40`, measured and planned values, of methods with missing values."""
        found: dict[str, str] = {}
        for column in MEASURES:
            for row in self.part(subjects, column):
                if row["n_ok"] < row["n_total"]:
                    found.setdefault(row["label"], f"{row['n_ok']} / {row['n_total']}")
        return found

    def named(self, label: str, subjects: int) -> str:
        """A label for a legend, with the number of samples of an incomplete method."""
        count = self.incomplete(subjects).get(label)
        return label if count is None else f"{label} ({count})"

    def warning(self, subjects: int) -> str:
        """A sentence for captions that names incomplete methods, empty if there are none."""
        found = [f"{label} ({count})" for label, count in self.incomplete(subjects).items()]
        return f" Not all samples are there, of these methods: {', '.join(found)}." if found else ""

    def blind(self) -> set[str]:
        """Labels of text-only methods."""
        return {row["label"] for row in self.rows if row["column"] == REFERENCES.name and row["mean"] == 0}

    def image(self, sample: Row) -> Path | None:
        """The image file of a sample, None if it has none or the file lies outside the run folder."""
        if sample["image"] is None:
            return None
        try:
            path = self.run(sample).folder.image(sample)
        except ValueError:
            return None
        return path if path.is_file() else None

    def reference(self, sample: Row, subject: str) -> Path | None:
        """The copy of a subject's reference, None if it is missing."""
        path = self.run(sample).folder.reference(subject)
        return path if path.is_file() else None

    def run(self, sample: Row) -> Run:
        """The run that a sample belongs to."""
        return next(run for run in self.runs if run.name == sample["run"])
