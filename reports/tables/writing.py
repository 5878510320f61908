"""The tables of runs in every format: chosen by layout, printed, written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from fc_bench.aggregate import COST_COLUMNS, REFERENCES
from fc_bench.records import write_atomically
from fc_bench.reports.escaping import markdown, plain
from fc_bench.reports.frame import Run, columns, frame, incomparable_costs
from fc_bench.reports.literature import published_tables
from fc_bench.reports.tables.comma_separated import csv_frame, csv_tables
from fc_bench.reports.tables.contents import contents, differences
from fc_bench.reports.tables.html import html_document
from fc_bench.reports.tables.latex import latex_tables
from fc_bench.reports.tables.markdown import markdown_table
from fc_bench.reports.tables.model import Table
from fc_bench.reports.tables.notes import footnote_marks, footnotes, notes, provenance
from fc_bench.reports.tables.terminal import print_table

LAYOUTS = {"suite": "all the suite measures", "paper": "the tables of FastComposer's paper"}
"""Layouts by name."""


@dataclass(frozen=True)
class Tables:
    """The tables of runs that are alike: those for the terminal, those that fit on paper, and all of them."""

    runs: Sequence[Run]
    headline: Sequence[Table]
    printed: Sequence[Table]
    everything: Sequence[Table]

    @property
    def title(self) -> str:
        """Suite, version and backbone."""
        settings = self.runs[0].settings
        backbones = dict.fromkeys(str(run.settings["backbone"]) for run in self.runs)
        return f"{settings['suite']['name']} {settings['suite']['version']} on {' and '.join(backbones)}"

    def show(self, console: Console) -> None:
        """Print the headline tables and the notes."""
        for table in self.headline:
            print_table(table, console)
        for line in notes(self.runs):
            console.print(plain(line), markup=False, highlight=False, soft_wrap=True)


def tables_of(runs: Sequence[Run], layout: str = "suite") -> Tables:
    """The tables of runs that are alike, in one of `LAYOUTS`."""
    made = contents(runs, footnote_marks(runs), incomparable_costs(runs))
    published = published_tables(str(runs[0].settings["suite"]["name"]))
    if layout == "paper":
        shown = [*made.paper(), *published]
        return Tables(runs, shown, shown, shown)
    headline = [*made.quality(made.headlines), *published, made.cost()]
    details = [*differences(runs), *made.by_category(made.headlines)]
    everything = [*made.overview(), *made.quality(made.columns), *published, made.cost(), *details]
    return Tables(runs, headline, [*made.overview(), *headline, *details], everything)


def write_tables(tables: Tables, folder: Path, stem: str = "table") -> list[Path]:
    """Write `<stem>.md`, `.csv`, `.tex`, `.html` as shown, and `results.csv` with all digits, into the folder."""
    told = notes(tables.runs)
    files = {
        f"{stem}.md": _document(tables),
        f"{stem}.csv": csv_tables(tables.everything),
        f"{stem}.tex": latex_tables(tables.printed, footnotes(tables.runs), told),
        f"{stem}.html": html_document(tables.title, tables.everything, [*told, *provenance(tables.runs)]),
        "results.csv": csv_frame(frame(tables.runs)),
    }
    for name, content in files.items():
        write_atomically(folder / name, content.encode())
    return [folder / name for name in files]


def headline_markdown(runs: Sequence[Run]) -> str:
    """The measured tables of the terminal as Markdown without a title of its own."""
    made = contents(runs, footnote_marks(runs), incomparable_costs(runs))
    shown = [*made.quality(made.headlines), made.cost()]
    parts = [f"**{markdown(table.title)}**\n\n{markdown_table(table)}" for table in shown]
    return "\n\n".join([*parts, *map(markdown, notes(runs))]) + "\n"


def _document(tables: Tables) -> str:
    """The whole report as Markdown: tables, what the columns mean, provenance."""
    runs = tables.runs
    parts = [f"# {markdown(tables.title)}", markdown(runs[0].settings["suite"]["description"])]
    for table in tables.everything:
        parts += [f"## {markdown(table.title)}", markdown_table(table)]
    meanings = [*columns(runs), REFERENCES, *COST_COLUMNS]
    parts += [
        "## Reading the tables",
        "\n".join(f"- {markdown(line)}" for line in notes(runs)),
        "\n".join(f"- **{markdown(column.title)}**: {markdown(column.description)}" for column in meanings),
        "## Provenance",
        "\n".join(f"- {markdown(line)}" for line in provenance(runs)),
    ]
    return "\n\n".join(parts) + "\n"
