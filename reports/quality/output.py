"""The tables of runs in every format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from rich.console import Console

from fc_bench.analysis.aggregate import COST_COLUMNS, REFERENCES
from fc_bench.reports.cost.beside import Beside
from fc_bench.reports.escaping import markdown, plain
from fc_bench.reports.frame import Run, columns, frame, incomparable_costs
from fc_bench.reports.literature import published_tables
from fc_bench.reports.quality.contents import Contents, contents, differences
from fc_bench.reports.quality.notes import footnote_marks, footnotes, notes, provenance
from fc_bench.reports.quality.side_by_side import disagreements, reading, side_by_side
from fc_bench.reports.tables.comma_separated import csv_frame, csv_tables
from fc_bench.reports.tables.html import html_document
from fc_bench.reports.tables.latex import latex_tables
from fc_bench.reports.tables.markdown import markdown_table, titled_table
from fc_bench.reports.tables.model import Table
from fc_bench.reports.tables.terminal import print_table
from fc_bench.run_folder.records import write_atomically

Layout = Literal["suite", "paper", "protocols", "as-published"]
"""All measures of the suite, the tables of FastComposer's paper, or the scores of published protocols, "as-published"
with the means of their own code, too."""


@dataclass(frozen=True)
class Tables:
    """The tables of comparable runs in a layout; `beside`: their costs from a cost run."""

    runs: Sequence[Run]
    layout: Layout = "suite"
    beside: Beside | None = None

    @property
    def title(self) -> str:
        """Suite, version and backbone."""
        settings = self.runs[0].settings
        backbones = dict.fromkeys(str(run.settings["backbone"]) for run in self.runs)
        return f"{settings['suite']['name']} {settings['suite']['version']} on {' and '.join(backbones)}"

    @property
    def names(self) -> list[str]:
        """The runs' names."""
        return [run.name for run in self.runs]

    @cached_property
    def contents(self) -> Contents:
        """The contents of the tables."""
        return contents(self.runs, footnote_marks(self.runs), incomparable_costs(self.runs), self.beside)

    @cached_property
    def differences(self) -> list[Table]:
        """Paired differences of each method to a common one."""
        return differences(self.runs)

    @cached_property
    def published(self) -> list[Table]:
        """The published values of the suite."""
        return published_tables(str(self.runs[0].settings["suite"]["name"]))

    @cached_property
    def side_by_side(self) -> list[Table]:
        """The methods under every published protocol."""
        return side_by_side(self.runs, as_published=self.layout == "as-published")

    @cached_property
    def headline(self) -> list[Table]:
        """The tables for the terminal."""
        if self.layout in ("protocols", "as-published"):
            return self.side_by_side
        if self.layout == "paper":
            return [*self.contents.paper(), *self.published]
        made = self.contents
        first = made.overview()[:1] if self.beside else []
        return [*first, *made.quality(made.headlines), *self.published, made.cost()]

    @cached_property
    def printed(self) -> list[Table]:
        """The tables in a width for paper."""
        if self.layout != "suite":
            return self.headline
        made = self.contents
        headline = [*made.quality(made.headlines), *self.published, made.cost()]
        return [*made.overview(), *headline, *self.differences, *made.by_category(made.headlines)]

    @cached_property
    def everything(self) -> list[Table]:
        """All tables, with all columns."""
        if self.layout != "suite":
            return self.headline
        made = self.contents
        first = [*made.overview(), *made.quality(made.columns), *self.published, made.cost()]
        return [*first, *self.differences, *made.by_category(made.headlines)]

    def notes(self, options: bool = True) -> list[str]:
        """The notes for the reader."""
        if self.layout in ("protocols", "as-published"):
            return [*disagreements(self.runs), *reading(self.runs), *notes(self.runs, options=False, best=False)]
        return [*notes(self.runs, options), *(self.beside.notes if self.beside else ())]

    def show(self, console: Console) -> None:
        """Print the headline tables and the notes."""
        for table in self.headline:
            print_table(table, console)
        for line in self.notes():
            console.print(plain(line), markup=False, highlight=False, soft_wrap=True)


def write_tables(tables: Tables, folder: Path) -> list[Path]:
    """Write `table.md`, `.csv`, `.tex`, `.html` as shown, and `results.csv` with all digits, into the folder.

    The files of another layout are named after it.
    """
    notes, results, stem = tables.notes(), frame(tables.runs), "table" if tables.layout == "suite" else tables.layout
    files = {
        f"{stem}.md": _document(tables),
        f"{stem}.csv": csv_tables(tables.everything),
        f"{stem}.tex": latex_tables(tables.printed, footnotes(tables.runs), notes),
        f"{stem}.html": html_document(tables.title, tables.everything, [*notes, *provenance(tables.runs)]),
        "results.csv": csv_frame(results if len(tables.runs) > 1 else results.drop(columns="run")),
    }
    for name, content in files.items():
        write_atomically(folder / name, content.encode())
    return [folder / name for name in files]


def headline_markdown(runs: Sequence[Run]) -> str:
    """The measured tables of the terminal as Markdown without a title."""
    made = Tables(runs).contents
    shown = [*made.quality(made.headlines), made.cost()]
    parts = map(titled_table, shown)
    return "\n\n".join([*parts, *map(markdown, notes(runs, options=False))]) + "\n"


def overview_markdown(runs: Sequence[Run]) -> str:
    """The overview of the fewest subjects as Markdown: quality and cost of each method in one small table."""
    return markdown_table(Tables(runs).contents.overview()[0]) + "\n"


def effects_markdown(runs: Sequence[Run]) -> str:
    """The quality tables of the terminal and the paired differences as Markdown, for the effect of an option."""
    tables = Tables(runs)
    made = tables.contents
    shown = [*made.quality(made.headlines), *tables.differences]
    return "\n\n".join(map(titled_table, shown)) + "\n"


def _document(tables: Tables) -> str:
    """The whole report as Markdown: tables, descriptions of the columns, provenance."""
    runs = tables.runs
    parts = [f"# {markdown(tables.title)}", markdown(runs[0].settings["suite"]["description"])]
    for table in tables.everything:
        parts += [
            f"## {markdown(table.title)}",
            markdown_table(table),
            *([markdown(table.caption)] if table.caption else []),
        ]
    meanings = [*columns(runs), REFERENCES, *COST_COLUMNS]
    parts += [
        "## Reading the tables",
        "\n".join(f"- {markdown(line)}" for line in tables.notes()),
        "\n".join(f"- **{markdown(column.title)}**: {markdown(column.description)}" for column in meanings),
        "## Provenance",
        "\n".join(f"- {markdown(line)}" for line in provenance(runs)),
    ]
    return "\n\n".join(parts) + "\n"
