"""Tables of a run: one frame of results, shown on the terminal and written as Markdown and CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fc_bench.aggregate import COST_COLUMNS, OVERALL, results_frame
from fc_bench.records import RunFolder, write_atomically

NOTHING = "–"
ANCHORS = {"ceiling": "ceiling (own photographs)", "floor": "floor (somebody else)"}


@dataclass(frozen=True)
class Block:
    """One table: its title, column titles and rows of text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def blocks(results: pd.DataFrame, columns: Sequence[Mapping[str, Any]]) -> list[Block]:
    """One table per number of subjects, methods as rows and columns as given, plus one of values by prompt category.

    Columns nobody has a value in are left out.
    """
    tables = []
    for subjects in sorted(results["subjects"].unique()):
        part = results[(results["subjects"] == subjects) & (results["category"] == OVERALL)]
        filled = [column for column in columns if part[part["column"] == column["name"]]["mean"].notna().any()]
        rows = []
        for method in dict.fromkeys(part["method"]):
            cells = {row["column"]: row for row in part[part["method"] == method].to_dict("records")}
            rows.append((ANCHORS.get(method, method), _counts(cells), *(_cell(cells, column) for column in filled)))
        title = "One subject" if subjects == 1 else f"{subjects} subjects together"
        tables.append(Block(title, ("method", "n", *(column["title"] for column in filled)), tuple(rows)))
    return tables


def by_category(results: pd.DataFrame, columns: Sequence[Mapping[str, Any]]) -> list[Block]:
    """For each number of subjects and leading column: methods as rows, prompt categories as columns."""
    tables = []
    for subjects in sorted(results["subjects"].unique()):
        part = results[(results["subjects"] == subjects) & (results["category"] != OVERALL)]
        categories = list(dict.fromkeys(part["category"]))
        for column in columns:
            rows = []
            for method in dict.fromkeys(part["method"]):
                chosen = part[(part["method"] == method) & (part["column"] == column["name"])]
                found = {row["category"]: {column["name"]: row} for row in chosen.to_dict("records")}
                rows.append((method, *(_cell(found.get(category, {}), column) for category in categories)))
            who = "one subject" if subjects == 1 else f"{subjects} subjects"
            tables.append(Block(f"{column['title']} by category, {who}", ("method", *categories), tuple(rows)))
    return tables


def write_report(folder: RunFolder) -> list[Path]:
    """Write `report/results.csv` (long), `report/table.csv` and `report/table.md`; returns their paths."""
    results = results_frame(folder)
    settings = folder.settings()
    measured = _columns(settings)
    tables = blocks(results, [*measured, *COST_COLUMNS])
    report = folder.path / "report"
    long, wide, text = report / "results.csv", report / "table.csv", report / "table.md"
    write_atomically(long, results.to_csv(index=False).encode())
    write_atomically(wide, _csv(tables).encode())
    write_atomically(text, markdown(folder, tables, by_category(results, _leading(settings))).encode())
    return [text, wide, long]


def print_report(folder: RunFolder, console: Console) -> None:
    """Show the tables on the console."""
    settings = folder.settings()
    for block in blocks(results_frame(folder), [*_columns(settings), *COST_COLUMNS]):
        table = Table(title=block.title, title_justify="left")
        for number, title in enumerate(block.header):
            table.add_column(escape(title), justify="left" if number == 0 else "right", overflow="fold")
        for row in block.rows:
            table.add_row(*(escape(cell) for cell in row))
        console.print(table)
    for line in notes(folder):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def markdown(folder: RunFolder, tables: Sequence[Block], detail: Sequence[Block]) -> str:
    """The whole report as Markdown: tables, what the columns mean, provenance."""
    settings = folder.settings()
    suite, command = settings["suite"], settings["commands"][-1]
    parts = [f"# {suite['name']} {suite['version']} on {settings['backbone']}", suite["description"]]
    for block in [*tables, *detail]:
        parts += [f"## {block.title}", _markdown_table(block)]
    parts += ["## Reading the tables", "\n".join(f"- {line}" for line in notes(folder))]
    parts += [
        "\n".join(
            f"- **{column['title']}**: {column['description']}" for column in [*_columns(settings), *COST_COLUMNS]
        )
    ]
    sampler = settings["sampler"]
    hardware = command["hardware"]
    code = command["code"]
    revision = f"{code['commit'][:12]}{' with changes' if code['dirty'] else ''}" if code["commit"] else "a release"
    accelerators = ", ".join(hardware["accelerators"]) or "no accelerator"
    parts += [
        "## Provenance",
        f"`{command['command']}`, started {command['started']}, from {revision}; {sampler['scheduler']}, "
        f"{sampler['steps']} steps, guidance {sampler['guidance_scale']}, {sampler['resolution']} pixels, "
        f"{settings['dtype']} on {settings['device']} ({hardware['processor']}, {hardware['cores']} cores, "
        f"{accelerators}); torch {command['versions']['torch']}, diffusers {command['versions']['diffusers']}.",
    ]
    return "\n\n".join(parts) + "\n"


def notes(folder: RunFolder) -> list[str]:
    """What a reader has to know beside the numbers."""
    settings = folder.settings()
    lines = [
        "Mean over subjects (or sets of subjects) with its 95 % interval (bootstrap over subjects); n = samples "
        "measured / planned."
    ]
    embedder = settings["metrics"].get("identity", {}).get("embedder")
    if embedder:
        lines.append(f"Identity is measured with the face models {embedder}.")
    samples = folder.samples().values()
    shared = sum(1 for record in samples if record.get("same_image_as"))
    if shared:
        lines.append(
            f"{shared} samples share their image with another, because subject and photograph do not enter it."
        )
    failed = sum(1 for record in samples if record["status"] == "error")
    if failed:
        lines.append(f"{failed} samples failed; samples.jsonl has the reasons, --retry-errors tries them again.")
    return [*lines, *settings["left_out"]]


def _columns(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [column for columns in settings["columns"].values() for column in columns]


def _leading(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The first column of each metric."""
    return [columns[0] for columns in settings["columns"].values() if columns]


def _counts(cells: Mapping[str, Mapping[str, Any]]) -> str:
    quality = [cell for name, cell in cells.items() if name not in {column["name"] for column in COST_COLUMNS}]
    if not quality:
        return NOTHING
    best = max(quality, key=lambda cell: cell["n_ok"])
    return f"{best['n_ok']} / {best['n_total']}"


def _cell(cells: Mapping[str, Mapping[str, Any]], column: Mapping[str, Any]) -> str:
    cell = cells.get(column["name"])
    if cell is None or _absent(cell["mean"]):
        return NOTHING
    digits = column["digits"]
    value = f"{cell['mean']:.{digits}f}"
    if _absent(cell["low"]):
        return value
    return f"{value} [{cell['low']:.{digits}f}, {cell['high']:.{digits}f}]"


def _absent(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _markdown_table(block: Block) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|---|" + "---:|" * (len(block.header) - 1)
    return "\n".join([line(block.header), rule, *(line(row) for row in block.rows)])


def _csv(tables: Sequence[Block]) -> str:
    header = list(dict.fromkeys(title for block in tables for title in block.header))
    frame = pd.DataFrame(
        [{"table": block.title, **dict(zip(block.header, row, strict=True))} for block in tables for row in block.rows],
        columns=["table", *header],
    )
    return frame.to_csv(index=False)
