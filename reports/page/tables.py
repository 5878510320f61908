"""The page's tables: the results with their values kept beside the text, so that they sort and draw."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fc_bench.aggregate import COST_COLUMNS, OVERALL, Row
from fc_bench.protocols import Column
from fc_bench.reports.blocks import Block
from fc_bench.reports.summary import PairedDifferences
from fc_bench.reports.tables import NOTHING, Marks, number

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_CELL = re.compile(r"^(?P<text>[^\[]*?)(?: (?P<interval>\[[^\]]*\]))?(?: (?P<count>\(\d+\)))?$")


@dataclass(frozen=True)
class Bar:
    """Where mean and interval lie on their column's scale, from 0 to 100."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Cell:
    """A cell's text and what it sorts by; `count` where it rests on fewer values than its row.

    `best`: the best mean of the methods. `level`: not told apart from the best one by the paired difference.
    """

    text: str
    interval: str | None = None
    count: str | None = None
    value: float | None = None
    bar: Bar | None = None
    best: bool = False
    level: bool = False


@dataclass(frozen=True)
class Head:
    """A column's title, its meaning, and which end is better (`higher`, `lower`, None)."""

    title: str
    description: str = ""
    better: str | None = None


@dataclass(frozen=True)
class TableRow:
    """A method, or an anchor: the suite's own photographs, which no order moves between the methods."""

    name: str
    mark: str
    anchor: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class PageTable:
    """A table of a page; the first column holds the rows' names."""

    title: str
    first: str
    heads: tuple[Head, ...]
    rows: tuple[TableRow, ...]

    @property
    def has_best(self) -> bool:
        """Whether any value is marked as best."""
        return any(cell.best for row in self.rows for cell in row.cells)

    @property
    def has_level(self) -> bool:
        """Whether any value is marked as not told apart from the best."""
        return any(cell.level for row in self.rows for cell in row.cells)


def quality_table(
    results: Sequence[Row],
    columns: Sequence[Column],
    subjects: int,
    marks: Marks,
    differences: PairedDifferences | None,
) -> PageTable:
    """Methods and anchors on sets of `subjects` subjects; a column nobody has a value of is left out.

    With `differences`, intervals are drawn, and the best values and what is not told apart from them are marked.
    """
    part = [row for row in results if row["subjects"] == subjects and row["category"] == OVERALL]
    filled = _filled(part, columns)
    found = _by_label(part)
    names = {column.name for column in columns}
    rows = []
    for label, cells in found.items():
        most = max((cell for name, cell in cells.items() if name in names), key=lambda cell: cell["n_ok"])
        measured = Cell(f"{most['n_ok']} / {most['n_total']}", value=most["n_ok"])
        values = [_cell(cells.get(column.name), column, most["n_ok"]) for column in filled]
        rows.append(_row(label, cells, marks, subjects, [measured, *values]))
    if differences is None:
        rows = [replace(row, cells=tuple(replace(cell, bar=None) for cell in row.cells)) for row in rows]
    else:
        rows = _with_best(_with_bars(rows, filled), filled, list(found), subjects, differences)
    return PageTable(
        "One subject" if subjects == 1 else f"{subjects} subjects together",
        "method",
        (Head("n", "samples measured / planned"), *map(_head, filled)),
        tuple(rows),
    )


def cost_table(results: Sequence[Row], subjects: int, marks: Marks) -> PageTable | None:
    """What the methods cost on sets of `subjects` subjects; None where nothing was measured."""
    part = [row for row in results if row["subjects"] == subjects and row["column"] in {c.name for c in COST_COLUMNS}]
    filled = _filled(part, COST_COLUMNS)
    if not filled:
        return None
    found = _by_label(part)
    rows = []
    for label, cells in found.items():
        done = cells["customize_seconds"]
        count = Cell(f"{done['n_ok']} / {done['n_total']}", value=done["n_ok"])
        values = [_cell(cells.get(column.name), column) for column in filled]
        rows.append(_row(label, cells, marks, subjects, [count, *values]))
    return PageTable(
        "Cost, one subject" if subjects == 1 else f"Cost, {subjects} subjects",
        "method",
        (Head("n", "customizations finished / begun"), *map(_head, filled)),
        tuple(_with_best(rows, filled, list(found), subjects, None)),
    )


def text_table(block: Block) -> PageTable:
    """A table of text as it is printed; what begins with a number sorts by it."""
    rows = tuple(TableRow(row[0], "", False, tuple(map(_read_cell, row[1:]))) for row in block.rows)
    return PageTable(block.title, block.header[0], tuple(map(Head, block.header[1:])), rows)


def _read_cell(text: str) -> Cell:
    parts = _CELL.match(text)
    leading = _NUMBER.match(text)
    value = float(leading[0]) if leading else None
    if parts is None or leading is None:
        return Cell(text, value=value)
    return Cell(parts["text"], parts["interval"], parts["count"], value)


def _row(label: str, measured: Mapping[str, Row], marks: Marks, subjects: int, cells: Sequence[Cell]) -> TableRow:
    anchor = any(row["kind"] == "anchor" for row in measured.values())
    return TableRow(label, marks.get((label, subjects), ""), anchor, tuple(cells))


def _filled(rows: Sequence[Row], columns: Sequence[Column]) -> list[Column]:
    names = {row["column"] for row in rows if row["mean"] is not None}
    return [column for column in columns if column.name in names]


def _by_label(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Label -> column -> the row of results."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row["label"], {})[row["column"]] = row
    return found


def _head(column: Column) -> Head:
    better = {True: "higher", False: "lower", None: None}[column.higher_is_better]
    return Head(column.title, column.description, better)


def _cell(row: Row | None, column: Column, expected: int = 0) -> Cell:
    if row is None or row["mean"] is None:
        return Cell(NOTHING)
    interval = None
    if row["low"] is not None:
        interval = f"[{number(row['low'], column)}, {number(row['high'], column)}]"
    count = f"({row['n_ok']})" if row["n_ok"] < expected else None
    bar = None if row["low"] is None else Bar(row["mean"], row["low"], row["high"])
    return Cell(number(row["mean"], column), interval, count, row["mean"], bar)


def _with_bars(rows: Sequence[TableRow], columns: Sequence[Column]) -> list[TableRow]:
    """Bars in units become bars on their column's scale; a column without any spread has none.

    A scale reaches from the lowest end to the highest; the first cell is the count.
    """
    scales: list[tuple[float, float] | None] = [None]
    for position in range(1, len(columns) + 1):
        bars = [bar for row in rows if (bar := row.cells[position].bar) is not None]
        low, high = min((bar.low for bar in bars), default=0.0), max((bar.high for bar in bars), default=0.0)
        scales.append((low, high) if high > low else None)

    def placed(cell: Cell, scale: tuple[float, float] | None) -> Cell:
        if cell.bar is None or scale is None:
            return replace(cell, bar=None)
        start, width = scale[0], scale[1] - scale[0]
        mean, low, high = (100 * (end - start) / width for end in (cell.bar.mean, cell.bar.low, cell.bar.high))
        return replace(cell, bar=Bar(round(mean, 2), round(low, 2), round(high, 2)))

    return [replace(row, cells=tuple(map(placed, row.cells, scales))) for row in rows]


def _with_best(
    rows: Sequence[TableRow],
    columns: Sequence[Column],
    labels: Sequence[str],
    subjects: int,
    differences: PairedDifferences | None,
) -> list[TableRow]:
    """The best value of each column marked, and with `differences` those not told apart from it; anchors never.

    Nothing is best where all values look alike.
    """
    marked = [list(row.cells) for row in rows]
    for position, column in enumerate(columns, start=1):
        values: Mapping[int, float] = {
            place: value
            for place, row in enumerate(rows)
            if not row.anchor and (value := row.cells[position].value) is not None
        }
        if column.higher_is_better is None or len({rows[place].cells[position].text for place in values}) < 2:
            continue
        best = max(values.values()) if column.higher_is_better else min(values.values())
        first = next(place for place, value in values.items() if value == best)
        looks = rows[first].cells[position].text
        for place in values:
            cell = marked[place][position]
            is_best = cell.text == looks
            level = False
            if differences is not None and place != first and not is_best:
                level = differences.told_apart(labels[place], labels[first], subjects, column.name) == 0
            marked[place][position] = replace(cell, best=is_best, level=level)
    return [replace(row, cells=tuple(cells)) for row, cells in zip(rows, marked, strict=True)]
