"""A table before it is rendered: titles with their direction, cells with value, interval and marks."""

from __future__ import annotations

from dataclasses import dataclass

NOTHING = "–"
"""Text of a cell without a value."""
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Cell:
    """The content of one cell; renderers decide on its form.

    `interval` are the ends as shown, `count` the number of values if it is below the row's, `mark` the number or sign
    of a footnote. `best` is set on the best value of a column, and on those that look the same. `value` is the sort key
    if the text does not begin with that number.
    """

    text: str
    interval: tuple[str, str] | None = None
    count: int | None = None
    mark: str = ""
    best: bool = False
    value: float | None = None

    @property
    def after(self) -> str:
        """Interval and count in brackets, empty if there are none."""
        parts = [f"[{self.interval[0]}, {self.interval[1]}]"] if self.interval else []
        return " ".join(parts + ([f"({self.count})"] if self.count is not None else []))

    @property
    def superscript(self) -> str:
        """The mark in superscript digits."""
        return self.mark.translate(_SUPERSCRIPT)

    @property
    def whole(self) -> str:
        """The whole cell as text, without the mark."""
        return f"{self.text} {self.after}".strip()


@dataclass(frozen=True)
class Heading:
    """A column's title; `better` is "higher" or "lower" if one is better; `number`: cells hold numbers."""

    text: str
    better: str = ""
    number: bool = True

    @property
    def arrow(self) -> str:
        """The arrow of the better direction."""
        return {"higher": "↑", "lower": "↓"}.get(self.better, "")

    @property
    def whole(self) -> str:
        """Title and arrow."""
        return f"{self.text} {self.arrow}".strip()


@dataclass(frozen=True)
class Table:
    """One table: `name` for labels and anchors, a title, columns, rows, and the number of separated last rows."""

    name: str
    title: str
    header: tuple[Heading, ...]
    rows: tuple[tuple[Cell, ...], ...]
    separated: int = 0
    caption: str = ""

    def texts(self) -> list[tuple[str, ...]]:
        """The rows as plain text."""
        return [tuple(cell.whole for cell in row) for row in self.rows]


def text_table(name: str, title: str, header: tuple[str, ...], rows: list[tuple[str, ...]], words: int = 1) -> Table:
    """A table of text alone; the first `words` columns are words, the others numbers."""
    headings = tuple(Heading(text, number=place >= words) for place, text in enumerate(header))
    return Table(name, title, headings, tuple(tuple(map(Cell, row)) for row in rows))
