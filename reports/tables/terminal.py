"""Tables on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from fc_bench.reports.escaping import plain
from fc_bench.reports.tables.model import Cell, Table


def print_table(table: Table, console: Console) -> None:
    """Print a table; best values bold, intervals under their values."""
    shown = RichTable(title=Text(plain(table.title)), title_justify="left")
    for heading in table.header:
        shown.add_column(Text(plain(heading.whole)), justify="right" if heading.number else "left", overflow="fold")
    for number, row in enumerate(table.rows, start=1):
        shown.add_row(*map(_cell, row), end_section=number == len(table.rows) - table.separated or _intervals(table))
    console.print(shown)


def _intervals(table: Table) -> bool:
    """Whether rows take two lines, so that a rule between them helps."""
    return any(cell.interval for row in table.rows for cell in row)


def _cell(cell: Cell) -> Text:
    text = Text(f"{plain(cell.text)}{cell.superscript}", style="bold" if cell.best else "")
    return text.append(f"\n{cell.after}", style="not bold") if cell.after else text
