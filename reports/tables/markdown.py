"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from fc_bench.reports.escaping import markdown
from fc_bench.reports.tables.model import Cell, Table


def markdown_table(table: Table) -> str:
    """A table as Markdown, best values bold, without its title."""
    rule = "|---|" + "---:|" * (len(table.header) - 1)
    rows = [_line(map(_cell, row)) for row in table.rows]
    return "\n".join([_line(markdown(heading.whole) for heading in table.header), rule, *rows])


def titled_table(table: Table) -> str:
    """A table as Markdown below its title in bold."""
    return f"**{markdown(table.title)}**\n\n{markdown_table(table)}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(cell: Cell) -> str:
    text = markdown(cell.text)
    strong = f"**{text}**" if cell.best else text
    return f"{strong}{cell.superscript} {cell.after}".strip()
