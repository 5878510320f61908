"""What the page says of runs that are alike, and of a cost run: summary, facts, tables, figures, notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from fc_bench.analysis.aggregate import COST_COLUMNS, REFERENCES
from fc_bench.analysis.states import machines_of
from fc_bench.reports import frame
from fc_bench.reports.cost import beside
from fc_bench.reports.cost.notes import cost_notes
from fc_bench.reports.cost.summary import cost_summary
from fc_bench.reports.cost.writing import CostTables
from fc_bench.reports.figures import Drawing
from fc_bench.reports.frame import Run
from fc_bench.reports.page.figures import page_figure
from fc_bench.reports.page.tables import Level, PageTable, page_table
from fc_bench.reports.quality.writing import Tables
from fc_bench.reports.summary import PairedDifferences, summary
from fc_bench.reports.tables.model import Table

UNKNOWN = "not known"
"""Said of how images were made elsewhere."""


def quality_part(tables: Tables, drawings: Sequence[Drawing]) -> dict[str, Any]:
    """What the template says about runs that are alike together."""
    runs, made = tables.runs, tables.contents
    paired = PairedDifferences(runs)
    spent = [*(beside.COLUMNS if tables.beside else ()), *COST_COLUMNS]
    columns = [*made.columns, REFERENCES]
    names = {column.title: column.name for column in made.columns}

    def level(size: int) -> Level:
        return lambda label, best, title: paired.sign(label, best, size, names[title]) == 0

    def shown(table: Table) -> PageTable:
        apart = tables.beside is not None and table.name == f"overview-{beside.SUBJECTS}"
        return page_table(table, [*columns, *(beside.COLUMNS if apart else COST_COLUMNS)])

    overview = list(map(shown, made.overview()))
    first = overview[:1] if tables.beside else []
    quality = [
        page_table(table, columns, level(size))
        for size, table in zip(made.sizes, made.quality(made.headlines), strict=True)
    ]
    every = [replace(table, title=f"{table.title}: all measures") for table in made.quality(made.columns)]
    return {
        "title": ", ".join(tables.names),
        "description": runs[0].settings["suite"]["description"],
        "summary": summary(runs, paired, costs=tables.beside is None),
        "facts": _facts(runs),
        "shown": [_table(table) for table in [*first, *quality, *map(shown, tables.published), shown(made.cost())]],
        "legend": _legend(quality),
        "folded": [
            {"title": title, "tables": [_table(table) for table in group]}
            for title, group in (
                ("Overview", overview[len(first) :]),
                ("All measures", list(map(shown, every))),
                ("Paired differences", list(map(shown, tables.differences))),
                ("By prompt category", list(map(shown, made.by_category(made.headlines)))),
            )
            if group
        ],
        "figures": list(map(page_figure, drawings)),
        "notes": tables.notes(options=False),
        "columns": [asdict(column) for column in [*columns, *spent]],
    }


def cost_part(tables: CostTables, drawings: Sequence[Drawing]) -> dict[str, Any]:
    """What the template says about a cost run."""
    run = tables.run
    headline = {table.name for table in tables.headline}
    folded = [table for table in tables.everything if table.name not in headline or table.name == "break-even"]
    return {
        "title": run.name,
        "description": tables.title,
        "summary": cost_summary(run),
        "facts": _cost_facts(tables),
        "shown": [_table(page_table(table, [])) for table in tables.headline],
        "legend": ["Click a title to sort. ≈: extrapolated. Bold: the lowest seconds, and what their interval meets."],
        "folded": [
            {
                "title": "All pairs of methods, percentiles, published seconds",
                "tables": [_table(page_table(replace(table, title=_of_all(table)), [])) for table in folded],
            }
        ],
        "figures": list(map(page_figure, drawings)),
        "notes": cost_notes(run, options=False),
        "columns": [],
    }


def _of_all(table: Table) -> str:
    return f"{table.title}: all pairs" if table.name == "break-even" else table.title


def _legend(quality: Sequence[PageTable]) -> list[str]:
    sentences = [
        "Mean over subjects with its 95 % interval; click a title to sort.",
        "Bold: the best of the methods that see the subject and have all values.",
    ]
    if any(table.has_level for table in quality):
        sentences.append(
            "=: not significantly different from the best, the interval of the paired difference contains 0."
        )
    if any(table.apart for table in quality):
        sentences.append("Ceiling and floor are the suite's own photographs.")
    return sentences


def _table(table: PageTable) -> dict[str, Any]:
    return {**asdict(table), "has_level": table.has_level}


def _facts(runs: Sequence[Run]) -> list[list[str]]:
    """The numbers beside the summary; where runs differ, of all of them."""
    finished = sum(int((run.samples["status"] == "ok").sum()) for run in runs)
    subjects = {subject for run in runs for key in run.samples["set"].unique() for subject in key.split("+")}
    names = frame.labels(runs)
    methods = {names[run.name, method] for run in runs for method in run.samples["method"].unique()}
    settings = [run.settings for run in runs]
    samplers = [one["sampler"] for one in settings]

    def each(texts: Iterable[str]) -> str:
        return ", ".join(dict.fromkeys(texts))

    return [
        ["suite", f"{settings[0]['suite']['name']} {settings[0]['suite']['version']}"],
        ["backbone", each(one["backbone"] for one in settings)],
        ["samples", f"{finished} / {sum(len(run.samples) for run in runs)}"],
        ["methods", str(len(methods))],
        ["subjects", str(len(subjects))],
        ["image side", each(f"{one['resolution']} px" if one else UNKNOWN for one in samplers)],
        ["sampler", each(f"{one['scheduler']}, {one['steps']} steps" if one else UNKNOWN for one in samplers)],
        [
            "on",
            each(
                ", ".join(machine.get("accelerators") or ()) or one["device"]
                for one in settings
                for command in one["commands"]
                for machine in machines_of(command)
            ),
        ],
        ["started", each(one["commands"][0]["started"][:10] for one in settings)],
    ]


def _cost_facts(tables: CostTables) -> list[list[str]]:
    """The numbers beside a cost run's summary."""
    settings, sampler = tables.run.settings, tables.run.settings["sampler"]
    hardware = settings["machine"]
    return [
        ["backbone", settings["backbone"]],
        ["weights", "random" if settings["random_weights"] else "trained"],
        ["methods", str(len(settings["methods"]))],
        ["image side", f"{sampler['resolution']} px"],
        ["sampler", f"{sampler['scheduler']}, {sampler['steps']} steps"],
        ["number format", settings["dtype"]],
        ["on", ", ".join(hardware["accelerators"]) or settings["device"]],
        ["threads", str(hardware["torch_threads"])],
        ["started", settings["commands"][0]["started"][:10]],
    ]
