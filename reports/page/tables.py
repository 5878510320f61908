"""The tables of the page: those of the report, with sort keys, drawn intervals and significance marks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fc_bench.protocols import Column
from fc_bench.reports.tables.model import Cell, Heading, Table

Level = Callable[[str, str, str], bool]
"""Whether a label is not significantly different from another one (the best) in a column, by its title."""
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Bar:
    """Positions of mean and interval on their column's scale, from 0 to 100."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PageCell:
    """A cell with its sort key (None: text); `words`: left-aligned text.

    `level`: the value is not significantly different from the column's best.
    """

    text: str
    after: str
    mark: str
    best: bool
    value: float | None
    bar: Bar | None = None
    level: bool = False
    words: bool = False


@dataclass(frozen=True)
class Head:
    """A column's title, its description, and which end is better ("higher", "lower" or ""); `words`: of text."""

    title: str
    description: str
    better: str
    words: bool = False


@dataclass(frozen=True)
class PageTable:
    """A table: the rows of methods, and the last ones, which stay below them in any order."""

    title: str
    caption: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[PageCell, ...], ...]
    separated: tuple[tuple[PageCell, ...], ...]

    @property
    def has_level(self) -> bool:
        """Whether any value is marked as not significantly different from the best."""
        return any(cell.level for row in self.rows for cell in row)


def page_table(table: Table, columns: Sequence[Column], level: Level | None = None) -> PageTable:
    """A table of the report for the page; `columns` give titles their description.

    With `level`, intervals are drawn and values that are not significantly different from the best of their column are
    marked.
    """
    meanings = {column.title: column.description for column in columns}
    heads = tuple(Head(head.text, meanings.get(head.text, ""), head.better, not head.number) for head in table.header)
    rows = [tuple(map(_cell, row, table.header)) for row in table.rows]
    methods = len(rows) - table.separated
    if level is not None:
        scales = [_scale([row[place] for row in table.rows]) for place in range(len(heads))]
        rows = [
            tuple(
                replace(cell, bar=_bar(source, scale)) for cell, source, scale in zip(row, sources, scales, strict=True)
            )
            for row, sources in zip(rows, table.rows, strict=True)
        ]
        rows = [*_leveled(rows[:methods], heads, level), *rows[methods:]]
    return PageTable(table.title, table.caption, heads, tuple(rows[:methods]), tuple(rows[methods:]))


def _cell(cell: Cell, head: Heading) -> PageCell:
    leading = _NUMBER.match(cell.text)
    value = cell.value if cell.value is not None else float(leading[0]) if leading else None
    return PageCell(cell.text, cell.after, cell.mark, cell.best, value, words=not head.number)


def _scale(cells: Sequence[Cell]) -> tuple[float, float] | None:
    """From the lowest end of the column's intervals to the highest; None without a range."""
    ends = [float(end) for cell in cells if cell.interval is not None for end in cell.interval]
    return (min(ends), max(ends)) if ends and max(ends) > min(ends) else None


def _bar(cell: Cell, scale: tuple[float, float] | None) -> Bar | None:
    if cell.interval is None or scale is None:
        return None
    start, width = scale[0], scale[1] - scale[0]
    mean, low, high = (round(100 * (float(end) - start) / width, 1) for end in (cell.text, *cell.interval))
    return Bar(mean, low, high)


def _leveled(rows: Sequence[tuple[PageCell, ...]], heads: Sequence[Head], level: Level) -> list[tuple[PageCell, ...]]:
    """The rows, with marks on values not significantly different from the best; the first cells are the labels."""
    best: Mapping[int, str] = {
        place: row[0].text for row in reversed(rows) for place, cell in enumerate(row) if cell.best
    }
    return [
        tuple(
            replace(cell, level=level(row[0].text, best[place], heads[place].title))
            if place in best and not cell.best and cell.value is not None
            else cell
            for place, cell in enumerate(row)
        )
        for row in rows
    ]
