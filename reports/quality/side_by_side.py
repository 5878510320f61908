"""The same images under every published protocol that a run's records allow, with ranks and where they disagree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from fc_bench.analysis.aggregate import OVERALL, by_method, columns_of, result_rows
from fc_bench.analysis.measurements import Measurements, Row, read_measurements
from fc_bench.errors import UserError
from fc_bench.metrics.identity import Identity
from fc_bench.metrics.judged import OVERALL as WHOLE
from fc_bench.metrics.judged import PROTOCOLS, Aggregates, Judged, JudgedImage, marked, ratings_of
from fc_bench.metrics.published import DERIVED, FromSimilarities
from fc_bench.protocols import Column
from fc_bench.published import Trimmed
from fc_bench.reports.frame import Run, columns, rows, who
from fc_bench.reports.quality.contents import complete, heading, number
from fc_bench.reports.tables.model import NOTHING, Cell, Heading, Table
from fc_bench.run_folder.records import SCORES

OWN = Identity.columns[0]
"""The protocol of FastComposer, which is the suite's own."""
Read = TypeVar("Read")
MEASURED = (
    "mudi_detect_and_compare",
    "multiid_copy_paste",
    "target_copy_paste",
    "target_similarity",
    "clip_i_all",
    "dino_all",
    "customconcept101_text",
    "prompt_consistency",
)
"""Columns of published protocols that need the image; they are there if the run measured them."""
OF_TEXT = ("customconcept101_text", "prompt_consistency")
"""Those that say nothing of the people."""


@dataclass(frozen=True)
class ProtocolRun(Run):
    """A run whose columns are scores of published protocols: derived from `identity`'s records, measured, or judged."""

    derived: Sequence[type[FromSimilarities]] = field(default=DERIVED, compare=False)

    @cached_property
    def columns(self) -> list[Column]:
        """FastComposer's identity preservation, each protocol's columns, and measured or judged ones with any value."""
        recorded = {column.name: column for column in columns_of(self.folder)}
        judged = [marked(column.name, judge) for protocol, judge in self.judged for column in protocol.scores]
        values = self._recorded.samples
        found = [recorded[name] for name in (*MEASURED, *judged) if name in recorded and values[name].notna().any()]
        every = [OWN, *(column for protocol in self.derived for column in protocol.columns), *found]
        return [replace(column, headline=True) for column in every]

    @cached_property
    def judged(self) -> list[tuple[type[Judged], str]]:
        """Protocol and judge of the judges' answers that the run has."""
        made = self.settings.get("judged", {}).values()
        return [(PROTOCOLS[one["protocol"]], one["judge"]) for one in made if one["protocol"] in PROTOCOLS]

    @cached_property
    def of_text(self) -> set[str]:
        """The columns that say nothing of the people."""
        return {*OF_TEXT, *(marked(name, judge) for protocol, judge in self.judged for name in protocol.of_text)}

    @cached_property
    def _recorded(self) -> Measurements:
        return read_measurements(self.folder)

    @cached_property
    def measured(self) -> Measurements:
        """The run's records with the derived columns; raises UserError if `identity` was not measured."""
        recorded = self._recorded
        if OWN.name not in recorded.samples:
            raise UserError(
                f'{self.folder.path} has no scores of the metric "identity", from which the protocols are computed; '
                "add it to the suite's metrics and repeat the command that made the run."
            )
        names = [column.name for protocol in self.derived for column in protocol.columns]
        values = np.full((len(names), len(recorded.samples)), np.nan)
        finished = (recorded.samples["status"] == "ok").to_numpy()
        chosen = np.flatnonzero(finished)
        for row, record in zip(chosen.tolist(), recorded.score_records("identity", chosen), strict=True):
            if record is not None and record["status"] == "ok":
                found = self._read(record, self._derive)
                values[:, row] = [np.nan if found[name] is None else found[name] for name in names]
        derived = pd.DataFrame(dict(zip(names, values, strict=True)))
        other = [column for column in names if column in recorded.samples]
        samples = pd.concat([recorded.samples.drop(columns=other), derived], axis=1)
        anchors = [self._anchor(record) for record in recorded.anchors if OWN.name in record["values"]]
        anchors += [record for record in recorded.anchors if any(name in record["values"] for name in MEASURED)]
        return replace(recorded, samples=samples, anchors=anchors)

    @cached_property
    def results(self) -> list[Row]:
        """The results, one row per value."""
        return result_rows(self.folder, self.measured, self.columns)

    def as_published(self, subjects: int) -> dict[tuple[str, str], dict[str, Trimmed]]:
        """(method, column) -> the means as the benchmark's own code takes them, over all images of so many subjects.

        They are named by the benchmark's groups of images, `WHOLE` for all of them.
        """
        how = {column.name: protocol for protocol in self.derived for column in protocol.columns}
        found: dict[tuple[str, str], dict[str, Trimmed]] = {}
        for method, own in by_method(self.samples, subjects):
            for name, protocol in how.items():
                mean = protocol.as_published(own[name].dropna().tolist())
                found[method, name] = {} if mean is None else {WHOLE: mean}
            for protocol, judge in self.judged:
                for (name, group), mean in self._of_judge(protocol, judge, own).items():
                    found.setdefault((method, marked(name, judge)), {})[group] = mean
        return found

    def _of_judge(self, protocol: type[Judged], judge: str, samples: pd.DataFrame) -> Aggregates:
        """The means of a method's images that have answers of a judge, as the benchmark's own code takes them."""
        prompts = {key: list(own["template"].unique()) for key, own in samples.groupby("set", observed=True)}
        images = []
        records = self.measured.score_records(marked(protocol.name, judge), samples.index.to_numpy())
        places = zip(*(samples[name] for name in ("set", "category", "template", "index", "status")), strict=True)
        for (key, category, template, index, status), record in zip(places, records, strict=True):
            if record is not None and status == "ok":
                own = prompts[key]
                ratings = self._read(record, ratings_of)
                images.append(JudgedImage(key, category, own.index(template), len(own), index, ratings))
        return protocol.as_published(images)

    def _derive(self, details: Mapping[str, Any]) -> dict[str, float | None]:
        return {name: value for one in self.derived for name, value in one.derive(details).values.items()}

    def _anchor(self, record: Row) -> Row:
        found = self._read(record, self._derive_anchor)
        return {**record, "values": {**record["values"], **found}}

    def _derive_anchor(self, details: Mapping[str, Any]) -> dict[str, float | None]:
        return {name: value for one in self.derived for name, value in one.derive_anchor(details).values.items()}

    def _read(self, record: Row, reader: Callable[[Any], Read]) -> Read:
        """What follows from the details of a score; raises UserError if they are damaged."""
        try:
            return reader(record["details"])
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.folder.path / SCORES}: the details of the score {record['metric']} of {record['sample']} are "
                f"damaged ({type(error).__name__}: {error}); restore the file, or remove the line and score again."
            ) from None


def side_by_side(runs: Sequence[Run], as_published: bool = False) -> list[Table]:
    """For each number of subjects a line for each score of a protocol: the methods' values, and their ranks.

    With `as_published` each score is followed by the mean as the benchmark's own code takes it.
    """
    made = list(map(_under_protocols, runs))
    tables = []
    for size, cells in _by_size(made).items():
        shown = [column for column in columns(made) if any(column.name in found for found in cells.values())]
        published = {run.name: run.as_published(size) for run in made} if as_published else {}
        tables.append(_values(size, cells, shown, published))
        methods = _methods(cells)
        if len(methods) > 1:
            tables.append(_ranks(size, methods, shown))
    return tables


def beside_the_first(runs: Sequence[Run]) -> list[Table]:
    """For each number of subjects a line for each method, whose columns are the scores' means.

    Bold are the values that a score ranks at least as high as that of the first method.
    """
    made = list(map(_under_protocols, runs))
    tables = []
    for size, cells in _by_size(made).items():
        methods = _methods(cells)
        shown = [column for column in columns(made) if any(column.name in found for found in methods.values())]
        first, *_ = methods.values()
        lines = []
        for label, found in methods.items():
            line = [Cell(label)]
            for column in shown:
                reaches = found is not first and _reaches(found[column.name], first[column.name], column)
                line.append(replace(complete(found[column.name], column, reaches), interval=None))
            lines.append(tuple(line))
        header = (Heading("images", number=False), *map(heading, shown))
        tables.append(Table(f"beside-{size}", f"Published protocols, {who(size)}", header, tuple(lines)))
    return tables


def _reaches(row: Row, other: Row, column: Column) -> bool:
    """Whether a score ranks a value, as shown, at least as high as another one."""
    if column.higher_is_better is None or None in (row["mean"], other["mean"]):
        return False
    sign = 1 if column.higher_is_better else -1
    value, least = (float(number(one["mean"], column)) for one in (row, other))
    return sign * value >= sign * least


def disagreements(runs: Sequence[Run]) -> list[str]:
    """A sentence for each score that orders methods otherwise than FastComposer's protocol, with the pairs."""
    made = list(map(_under_protocols, runs))
    lines = []
    for size, cells in _by_size(made).items():
        methods = _methods(cells)
        own = _ranked(methods, OWN)
        for column in columns(made)[1:]:
            ranks = {} if any(column.name in run.of_text for run in made) else _ranked(methods, column)
            pairs = [
                pair for pair in combinations(methods, 2) if all(label in ranks and label in own for label in pair)
            ]
            otherwise = [
                (one, other) if ranks[one] < ranks[other] else (other, one)
                for one, other in pairs
                if (ranks[one] - ranks[other]) * (own[one] - own[other]) < 0
            ]
            if otherwise:
                named = ", ".join(f"{first} before {second}" for first, second in otherwise)
                lines.append(
                    f"{column.title}, {who(size)}: {len(otherwise)} of {len(pairs)} pairs of methods stand otherwise "
                    f"than under {OWN.title} ({named})."
                )
    return lines


def _under_protocols(run: Run) -> ProtocolRun:
    """The run with the protocols' columns; its records are read once."""
    if "protocols" not in run.kept:
        run.kept["protocols"] = ProtocolRun(run.folder, run.name)
    return run.kept["protocols"]


Cells = Mapping[str, Mapping[str, Row]]
"""Label -> column -> its row."""


def _by_size(runs: Sequence[ProtocolRun]) -> dict[int, Cells]:
    """Number of subjects -> the rows over all prompts, methods first, then ceiling and floor."""
    found: dict[int, dict[str, dict[str, Row]]] = {}
    for row in sorted(rows(runs), key=lambda row: (row["subjects"], row["kind"] == "anchor")):
        if row["category"] == OVERALL:
            found.setdefault(row["subjects"], {}).setdefault(row["label"], {})[row["column"]] = row
    return dict(found)


def _methods(cells: Cells) -> Cells:
    return {label: found for label, found in cells.items() if found[OWN.name]["kind"] == "method"}


def _values(
    size: int,
    cells: Cells,
    columns: Sequence[Column],
    published: Mapping[str, Mapping[tuple[str, str], Mapping[str, Trimmed]]],
) -> Table:
    made: list[tuple[Cell, ...]] = []
    for column in columns:
        title = heading(column).whole
        made.append((Cell(title), *(complete(found.get(column.name), column) for found in cells.values())))
        if any(name == column.name for own in published.values() for _, name in own):
            means = [_means(published, found[OWN.name], column) for found in cells.values()]
            for group in dict.fromkeys([WHOLE, *(name for own in means for name in own)]):
                line = [Cell(f"{title}, as published{f' ({group})' if group else ''}")]
                for found, own in zip(cells.values(), means, strict=True):
                    total = found[OWN.name]["n_total"] if group == WHOLE else 0
                    line.append(_published(own[group], column, total) if group in own else Cell(NOTHING))
                made.append(tuple(line))
    title = f"The same images under published protocols, {who(size)}"
    header = (Heading("score", number=False), *map(Heading, cells))
    return Table(f"protocols-{size}", title, header, tuple(made))


def _means(
    published: Mapping[str, Mapping[tuple[str, str], Mapping[str, Trimmed]]], row: Row, column: Column
) -> Mapping[str, Trimmed]:
    """The means of a method's images as the benchmark's own code takes them, by group; none of ceiling and floor."""
    return published[row["run"]].get((row["method"], column.name), {}) if row["kind"] == "method" else {}


def _published(mean: Trimmed, column: Column, total: int) -> Cell:
    return Cell(number(mean.mean, column), count=mean.used if mean.used < total else None, value=mean.mean)


def _ranks(size: int, cells: Cells, columns: Sequence[Column]) -> Table:
    """The rank of each method under each protocol, and the agreement of this order with that of the first column."""
    own = _ranked(cells, OWN)
    made: list[tuple[Cell, ...]] = []
    for column in (column for column in columns if column.higher_is_better is not None):
        ranks = _ranked(cells, column)
        shown = [Cell(str(ranks[label]) if label in ranks else NOTHING) for label in cells]
        both = [label for label in cells if label in own and label in ranks]
        made.append(
            (Cell(column.title), *shown, _agreement([own[name] for name in both], [ranks[name] for name in both]))
        )
    header = (Heading("score", number=False), *map(Heading, cells), Heading("Kendall's tau"))
    title = f"Ranks under these protocols, {who(size)}, and their agreement with {OWN.title}"
    return Table(f"protocol-ranks-{size}", title, header, tuple(made))


def _agreement(ranks: Sequence[int], others: Sequence[int]) -> Cell:
    from scipy.stats import kendalltau

    if len(set(ranks)) < 2 or len(set(others)) < 2:  # no order to agree with
        return Cell(NOTHING)
    found: Any = kendalltau(ranks, others)
    return Cell(f"{float(found.statistic):.2f}")


def _ranked(cells: Cells, column: Column) -> dict[str, int]:
    """Label -> rank, 1 for the best; equal values share the better rank, methods without a value have none.

    Empty for a column of which neither direction is better.
    """
    if column.higher_is_better is None:
        return {}
    sign = -1 if column.higher_is_better else 1
    values = {
        label: sign * row["mean"]
        for label, found in cells.items()
        if (row := found.get(column.name)) is not None and row["mean"] is not None
    }
    return {label: 1 + sum(other < value for other in values.values()) for label, value in values.items()}


def reading(runs: Sequence[Run]) -> list[str]:
    """What the columns are: whose arithmetic, with whose embedder."""
    judged = dict.fromkeys(own for run in map(_under_protocols, runs) for own in run.judged)
    embedders = dict.fromkeys(str(run.settings["metrics"].get("identity", {}).get("embedder")) for run in runs)
    return [
        f"Every column is the arithmetic of its benchmark's code with the embedder {' or '.join(embedders)}: what the "
        "protocol rewards in these images, not what the authors' script prints. A number in brackets says how many of "
        "the planned images the protocol takes into its mean.",
        *(f"{one.columns[0].title}: {one.description}, {one.source}" for one in DERIVED),
        *(
            f"{one.scores[0].title} ({judge}): answers of {judge}, {one.description}, {one.source}"
            for one, judge in judged
        ),
    ]
