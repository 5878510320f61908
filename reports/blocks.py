"""A table as text, before it is printed or written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

NOTHING = "–"
"""What stands for a value that there is not."""


@dataclass(frozen=True)
class Block:
    """One table: its title, column titles and rows of text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def markdown_table(block: Block) -> str:
    """A block as a Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|---|" + "---:|" * (len(block.header) - 1)
    return "\n".join([line(block.header), rule, *(line(row) for row in block.rows)])


def print_blocks(blocks: Iterable[Block], console: Console) -> None:
    """Show tables on the console; intervals stand below their values."""
    for block in blocks:
        table = Table(title=block.title, title_justify="left")
        for number, title in enumerate(block.header):
            table.add_column(escape(title), justify="left" if number == 0 else "right", overflow="fold")
        for row in block.rows:
            table.add_row(*(escape(cell.replace(" [", "\n[")) for cell in row), end_section=True)
        console.print(table)


def significant(value: float, digits: int) -> str:
    """A number with so many significant digits, its whole part always in full."""
    before = math.floor(math.log10(abs(value))) + 1 if value else digits
    return f"{value:.{max(digits - before, 0)}f}"
