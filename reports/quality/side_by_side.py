"""The same images under every published protocol that a run's records allow, with ranks and where they disagree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from fc_bench.analysis.aggregate import OVERALL, by_method, result_rows
from fc_bench.analysis.measurements import Measurements, Row, read_measurements
from fc_bench.errors import UserError
from fc_bench.metrics.identity import Identity
from fc_bench.metrics.published import DERIVED, FromSimilarities
from fc_bench.protocols import Column
from fc_bench.published import Trimmed
from fc_bench.reports.frame import Run, rows, who
from fc_bench.reports.quality.contents import complete, heading, number
from fc_bench.reports.tables.model import NOTHING, Cell, Heading, Table

OWN = Identity.columns[0]
"""The protocol of FastComposer, which is the suite's own."""


@dataclass(frozen=True)
class ProtocolRun(Run):
    """A run whose columns are the scores of the published protocols, derived from its records of `identity`."""

    derived: Sequence[type[FromSimilarities]] = field(default=DERIVED, compare=False)

    @cached_property
    def columns(self) -> list[Column]:
        """FastComposer's identity preservation and the columns of each protocol."""
        every = [OWN, *(column for protocol in self.derived for column in protocol.columns)]
        return [replace(column, headline=True) for column in every]

    @cached_property
    def measured(self) -> Measurements:
        """The run's records with the derived columns; raises UserError if `identity` was not measured."""
        recorded = read_measurements(self.folder)
        if OWN.name not in recorded.samples:
            raise UserError(
                f'{self.folder.path} has no scores of the metric "identity", from which the protocols are computed; '
                "add it to the suite's metrics and repeat the command that made the run."
            )
        names = [column.name for column in self.columns[1:]]
        values = np.full((len(names), len(recorded.samples)), np.nan)
        finished = (recorded.samples["status"] == "ok").to_numpy()
        chosen = np.flatnonzero(finished)
        for row, record in zip(chosen.tolist(), recorded.score_records("identity", chosen), strict=True):
            if record is not None and record["status"] == "ok":
                found = self._derive(record["details"])
                values[:, row] = [np.nan if found[name] is None else found[name] for name in names]
        derived = pd.DataFrame(dict(zip(names, values, strict=True)))
        other = [column for column in names if column in recorded.samples]
        samples = pd.concat([recorded.samples.drop(columns=other), derived], axis=1)
        anchors = [self._anchor(record) for record in recorded.anchors if OWN.name in record["values"]]
        return replace(recorded, samples=samples, anchors=anchors)

    @cached_property
    def results(self) -> list[Row]:
        """The results, one row per value."""
        return result_rows(self.folder, self.measured, self.columns)

    def as_published(self, subjects: int) -> dict[tuple[str, str], Trimmed | None]:
        """(method, column) -> the mean as the benchmark's own code takes it, over all images of so many subjects."""
        how = {column.name: protocol for protocol in self.derived for column in protocol.columns}
        found = {}
        for method, own in by_method(self.samples, subjects):
            for name, protocol in how.items():
                found[method, name] = protocol.as_published(own[name].dropna().tolist())
        return found

    def _derive(self, details: Mapping[str, Any]) -> dict[str, float | None]:
        return {name: value for one in self.derived for name, value in one.derive(details).values.items()}

    def _anchor(self, record: Row) -> Row:
        found = {
            name: value for one in self.derived for name, value in one.derive_anchor(record["details"]).values.items()
        }
        return {**record, "values": {**record["values"], **found}}


def side_by_side(runs: Sequence[Run], as_published: bool = False) -> list[Table]:
    """For each number of subjects the methods under every protocol, and their ranks.

    With `as_published` each column is followed by the mean as the benchmark's own code takes it.
    """
    made = [ProtocolRun(run.folder, run.name) for run in runs]
    every = [row for row in rows(made) if row["category"] == OVERALL]
    columns = made[0].columns
    tables = []
    for size in sorted({row["subjects"] for row in every}):
        cells: dict[str, dict[str, Row]] = {}
        for row in sorted((row for row in every if row["subjects"] == size), key=lambda row: row["kind"] == "anchor"):
            cells.setdefault(row["label"], {})[row["column"]] = row
        published = {run.name: run.as_published(size) for run in made} if as_published else {}
        there = [column for column in columns if any(column.name in found for found in cells.values())]
        tables.append(_values(size, cells, there, published))
        methods = {label: found for label, found in cells.items() if found[OWN.name]["kind"] == "method"}
        if len(methods) > 1:
            tables.append(_ranks(size, methods, there))
    return tables


def _values(
    size: int,
    cells: Mapping[str, Mapping[str, Row]],
    columns: Sequence[Column],
    published: Mapping[str, Mapping[tuple[str, str], Trimmed | None]],
) -> Table:
    header = [Heading("method", number=False), Heading("n")]
    for column in columns:
        header.append(heading(column))
        if published and column is not columns[0]:
            header.append(Heading(f"{column.title}, as published", heading(column).better))
    made = []
    for label, found in cells.items():
        own = found[OWN.name]
        line = [Cell(label), Cell(f"{own['n_ok']} / {own['n_total']}")]
        for column in columns:
            row = found.get(column.name)
            line.append(complete(row, column))
            if published and column is not columns[0]:
                mean = published[own["run"]].get((own["method"], column.name)) if own["kind"] == "method" else None
                total = own["n_total"]
                line.append(Cell(NOTHING) if mean is None else _published(mean, column, total))
        made.append(tuple(line))
    separated = sum(found[OWN.name]["kind"] == "anchor" for found in cells.values())
    title = f"The same images under published protocols, {who(size)}"
    return Table(f"protocols-{size}", title, tuple(header), tuple(made), separated)


def _published(mean: Trimmed, column: Column, total: int) -> Cell:
    return Cell(number(mean.mean, column), count=mean.used if mean.used < total else None, value=mean.mean)


def _ranks(size: int, cells: Mapping[str, Mapping[str, Row]], columns: Sequence[Column]) -> Table:
    """The rank of each method under each protocol, and the agreement of its order with that of the first column."""
    from scipy.stats import kendalltau

    ranks = {column.name: _ranked(cells, column) for column in columns}
    made: list[tuple[Cell, ...]] = []
    for label in cells:
        own = [ranks[column.name].get(label) for column in columns]
        made.append((Cell(label), *(Cell(NOTHING if rank is None else str(rank)) for rank in own)))
    agreement = []
    first = ranks[columns[0].name]
    for other in ranks.values():
        both = [label for label in cells if label in first and label in other]
        found: Any = kendalltau([first[label] for label in both], [other[label] for label in both])
        tau = float(found.statistic)
        agreement.append(Cell(NOTHING if math.isnan(tau) else f"{tau:.2f}"))
    made.append((Cell(f"agreement with {columns[0].title} (Kendall's tau)"), *agreement))
    header = (Heading("method", number=False), *(Heading(column.title) for column in columns))
    return Table(f"protocol-ranks-{size}", f"Ranks under these protocols, {who(size)}", header, tuple(made), 1)


def _ranked(cells: Mapping[str, Mapping[str, Row]], column: Column) -> dict[str, int]:
    """Label -> rank, 1 for the best; equal values share the better rank, methods without a value have none."""
    sign = -1 if column.higher_is_better else 1
    values = {
        label: sign * row["mean"]
        for label, found in cells.items()
        if (row := found.get(column.name)) is not None and row["mean"] is not None
    }
    return {label: 1 + sum(other < value for other in values.values()) for label, value in values.items()}


def disagreements(runs: Sequence[Run]) -> list[str]:
    """A sentence for each two methods that the protocols order differently, with the protocols on either side."""
    made = [ProtocolRun(run.folder, run.name) for run in runs]
    columns, lines = made[0].columns, []
    every = [row for row in rows(made) if row["category"] == OVERALL and row["kind"] == "method"]
    for size in sorted({row["subjects"] for row in every}):
        means = {(row["label"], row["column"]): row["mean"] for row in every if row["subjects"] == size}
        labels = list(dict.fromkeys(label for label, _ in means))
        for one, other in combinations(labels, 2):
            ahead: dict[bool, list[str]] = {True: [], False: []}
            for column in columns:
                left, right = means.get((one, column.name)), means.get((other, column.name))
                if left is not None and right is not None and left != right:
                    ahead[(left > right) == bool(column.higher_is_better)].append(column.title)
            if ahead[True] and ahead[False]:
                lines.append(
                    f"{who(size)}: {one} is ahead of {other} under {', '.join(ahead[True])}, "
                    f"behind under {', '.join(ahead[False])}"
                )
    return lines


def reading(runs: Sequence[Run]) -> list[str]:
    """What the columns are: whose arithmetic, with whose embedder."""
    embedders = dict.fromkeys(str(run.settings["metrics"].get("identity", {}).get("embedder")) for run in runs)
    return [
        f"Every column is the arithmetic of its benchmark's code with the embedder {' or '.join(embedders)}: what the "
        "protocol rewards in these images, not what the authors' script prints. A number in brackets says how many of "
        "the planned images the protocol takes into its mean.",
        *(f"{one.columns[0].title}: {one.description}, {one.source}" for one in DERIVED),
    ]
