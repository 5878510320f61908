"""The tables of a cost run in every format, and its cost figures with all digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from fc_bench.cost.amortisation import IMAGES, SUBJECTS, seconds_per_image, stored_bytes
from fc_bench.cost.results import MethodCost
from fc_bench.reports.cost.notes import cost_notes, cost_provenance, footnotes
from fc_bench.reports.cost.run import CostRun
from fc_bench.reports.cost.tables import (
    FIGURES,
    QUALITY,
    REFERENCE,
    STEPS,
    amortised,
    break_evens,
    percentiles,
    phases,
    speed_ups,
    storage,
)
from fc_bench.reports.escaping import markdown, plain
from fc_bench.reports.literature import published_cost
from fc_bench.reports.tables.comma_separated import csv_frame, csv_tables
from fc_bench.reports.tables.html import html_document
from fc_bench.reports.tables.latex import latex_tables
from fc_bench.reports.tables.markdown import markdown_table
from fc_bench.reports.tables.model import Table
from fc_bench.reports.tables.terminal import print_table
from fc_bench.run_folder.records import write_atomically


@dataclass(frozen=True)
class CostTables:
    """The tables of a cost run: those for the terminal and the page, and all of them."""

    run: CostRun

    @property
    def title(self) -> str:
        """The title of the run."""
        return self.run.title

    @property
    def names(self) -> list[str]:
        """The run's name."""
        return [self.run.name]

    @cached_property
    def headline(self) -> list[Table]:
        """The tables with the plotted numbers of images, and break-even points with FastComposer, if not empty."""
        costs = self.run.costs
        shared = amortised(costs, shared=True)
        return _filled([self._phases, amortised(costs), shared, *self._totals(REFERENCE)])

    @cached_property
    def everything(self) -> list[Table]:
        """All tables, with all pairs of methods and the published costs."""
        costs = self.run.costs
        curves = [amortised(costs), amortised(costs, shared=True)]
        return _filled([self._phases, *curves, *self._totals(None), percentiles(costs), published_cost()])

    @property
    def _phases(self) -> Table:
        return phases(self.run.costs, self.run.settings["dtype"])

    def _totals(self, against: str | None) -> list[Table]:
        return [break_evens(self.run.costs, against), speed_ups(self.run.costs), storage(self.run.costs)]

    @cached_property
    def printed(self) -> list[Table]:
        """All tables in a width for paper: steps in a separate table, without the empty quality columns."""
        whole = _without(self._phases, ("dtype", *QUALITY))
        times = replace(_without(whole, STEPS), caption=f"Number format: {self.run.settings['dtype']}.")
        others = [head.text for head in whole.header if head.text not in ("method", *STEPS)]
        steps = replace(_without(whole, others), name="steps", title="Cost of steps")
        return [times, steps, *self.everything[1:]]

    def show(self, console: Console) -> None:
        """Print the headline tables and the notes; a sentence replaces the empty quality columns."""
        first, *others = self.headline
        for table in [replace(_without(first, QUALITY), title=self.title), *others]:
            print_table(table, console)
        for line in cost_notes(self.run, options=False):
            console.print(plain(line), markup=False, highlight=False, soft_wrap=True)


def write_cost_tables(tables: CostTables, folder: Path) -> list[Path]:
    """Write `cost.md`, `.csv`, `.tex`, `.html` as shown; with all digits `results`, `amortised` and `storage.csv`."""
    run, notes = tables.run, cost_notes(tables.run)
    provenance = cost_provenance(run)
    files = {
        "cost.md": _document(tables),
        "cost.csv": csv_tables(tables.everything),
        "cost.tex": latex_tables(tables.printed, footnotes(run.costs), notes),
        "cost.html": html_document(tables.title, tables.everything, [*notes, *provenance]),
        "results.csv": csv_frame(_results(run)),
        "amortised.csv": csv_frame(_amortised(run.costs)),
        "storage.csv": csv_frame(_storage(run.costs)),
    }
    for name, content in files.items():
        write_atomically(folder / name, content.encode())
    return [folder / name for name in files]


def cost_headline(run: CostRun) -> str:
    """Cost of each method, FastComposer's speed-up, storage and the notes, as Markdown without a title.

    The curves and break-even points of the terminal are shown as a figure instead.
    """
    tables = CostTables(run)
    cost = _without(tables.headline[0], ("dtype", *QUALITY))
    shown = [cost, *(table for table in tables.headline if table.name in ("speed-up", "storage"))]
    parts = [f"**{markdown(table.title)}**\n\n{markdown_table(table)}" for table in shown]
    return "\n\n".join([*parts, *map(markdown, cost_notes(run, options=False))]) + "\n"


def _without(table: Table, names: Sequence[str]) -> Table:
    kept = [place for place, head in enumerate(table.header) if head.text not in names]
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return replace(table, header=tuple(table.header[place] for place in kept), rows=rows)


def _filled(tables: Sequence[Table]) -> list[Table]:
    return [table for table in tables if table.rows]


def _document(tables: CostTables) -> str:
    parts = [f"# {markdown(tables.title)}"]
    for table in tables.everything:
        parts += [f"## {markdown(table.title)}", markdown_table(table)]
    parts += [
        "## Reading the tables",
        "\n".join(f"- {markdown(line)}" for line in cost_notes(tables.run)),
        "## Provenance",
        "\n".join(f"- {markdown(line)}" for line in cost_provenance(tables.run)),
    ]
    return "\n\n".join(parts) + "\n"


def _results(run: CostRun) -> pd.DataFrame:
    """One row for each method and cost figure: seconds, interval, percentiles, peak memory, disturbances."""
    rows: list[dict[str, Any]] = []
    for cost in run.costs:
        for name in FIGURES:
            figure = getattr(cost, name)
            if figure is not None:
                shares = {f"p{100 * share:.0f}": value for share, value in figure.percentiles}
                rows.append(
                    {
                        "method": cost.method,
                        "dtype": run.settings["dtype"],
                        "what": name,
                        "seconds": figure.value,
                        "low": figure.low,
                        "high": figure.high,
                        "n": figure.n,
                        "extrapolated": figure.extrapolated,
                        **{key: shares.get(key) for key in ("p90", "p95", "p99")},
                        "peak_bytes": cost.peak_bytes.get(name),
                        "contended": "; ".join(cost.contended.get(name, ())),
                    }
                )
    return pd.DataFrame(rows)


def _amortised(costs: Sequence[MethodCost]) -> pd.DataFrame:
    rows = []
    for cost in costs:
        for shared in (False, True) if cost.class_images is not None else (False,):
            for images in IMAGES:
                figure = seconds_per_image(cost, images, shared)
                if figure is not None:
                    rows.append(
                        {
                            "method": cost.method,
                            "class_images_included": shared,
                            "images_per_subject": images,
                            "seconds_per_image": figure.value,
                            "low": figure.low,
                            "high": figure.high,
                            "extrapolated": figure.extrapolated,
                        }
                    )
    return pd.DataFrame(rows)


def _storage(costs: Sequence[MethodCost]) -> pd.DataFrame:
    rows = [
        {
            "method": cost.method,
            "subjects": subjects,
            "bytes": stored_bytes(cost, subjects),
            "shared_weights_bytes": cost.shared_weights_bytes,
        }
        for cost in costs
        if cost.personalizes and cost.artefact_bytes is not None
        for subjects in SUBJECTS
    ]
    return pd.DataFrame(rows)
