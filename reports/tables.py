"""Tables of a run: the same rows of results shown on the terminal and written as Markdown and CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fc_bench.aggregate import COST_COLUMNS, OVERALL, Row, columns_of, shared_seconds
from fc_bench.differences import paired_rows
from fc_bench.measurements import Measurements
from fc_bench.protocols import Column
from fc_bench.records import RunFolder, write_atomically
from fc_bench.reports.blocks import Block, markdown_table
from fc_bench.reports.literature import EMBEDDER, published_block

NOTHING = "–"
ANCHORS = {"ceiling": "ceiling (own photographs)", "floor": "floor (somebody else)"}
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

Marks = Mapping[tuple[str, int], str]
"""Footnote mark by (method, number of subjects)."""
NO_MARKS: Marks = {}


def quality(results: Sequence[Row], columns: Sequence[Column], marks: Marks = NO_MARKS) -> list[Block]:
    """One table per number of subjects, methods as rows and `columns` as columns; a column nobody has is left out."""
    tables = []
    for subjects in sorted({row["subjects"] for row in results}):
        part = [row for row in results if row["subjects"] == subjects and row["category"] == OVERALL]
        filled = [column for column in columns if any(row["column"] == column.name and _has(row) for row in part)]
        rows = []
        for method in dict.fromkeys(row["method"] for row in part):
            cells = {row["column"]: row for row in part if row["method"] == method}
            most = _most(cells)
            rows.append(
                (
                    str(ANCHORS.get(method, method)) + marks.get((method, subjects), ""),
                    f"{most['n_ok']} / {most['n_total']}",
                    *(_cell(cells, column, most["n_ok"]) for column in filled),
                )
            )
        title = "One subject" if subjects == 1 else f"{subjects} subjects together"
        tables.append(Block(title, ("method", "n", *(column.title for column in filled)), tuple(rows)))
    return tables


def cost(results: Sequence[Row], marks: Marks = NO_MARKS) -> Block:
    """What each method costs, a row per number of subjects; n = customizations finished / begun."""
    names = {column.name for column in COST_COLUMNS}
    cells: dict[tuple[str, int], dict[str, Row]] = {}
    for row in results:
        if row["column"] in names:
            cells.setdefault((row["method"], row["subjects"]), {})[row["column"]] = row
    rows = tuple(
        (
            method + marks.get((method, subjects), ""),
            str(subjects),
            f"{found['customize_seconds']['n_ok']} / {found['customize_seconds']['n_total']}",
            *(_cell(found, column) for column in COST_COLUMNS),
        )
        for (method, subjects), found in cells.items()
    )
    return Block("Cost", ("method", "subjects", "n", *(column.title for column in COST_COLUMNS)), rows)


def by_category(results: Sequence[Row], columns: Sequence[Column], marks: Marks = NO_MARKS) -> list[Block]:
    """For each number of subjects and each column: methods as rows, prompt categories as columns."""
    tables = []
    for subjects in sorted({row["subjects"] for row in results}):
        part = [row for row in results if row["subjects"] == subjects and row["category"] != OVERALL]
        categories = list(dict.fromkeys(row["category"] for row in part))
        who = "one subject" if subjects == 1 else f"{subjects} subjects"
        for column in columns:
            if not any(row["column"] == column.name and _has(row) for row in part):
                continue
            rows = []
            for method in dict.fromkeys(row["method"] for row in part):
                own = [row for row in part if row["method"] == method and row["column"] == column.name]
                found = {row["category"]: row for row in own}
                cells = [
                    _cell({column.name: found[category]}, column, found[category]["n_total"])
                    if category in found
                    else NOTHING
                    for category in categories
                ]
                rows.append((method + marks.get((method, subjects), ""), *cells))
            tables.append(Block(f"{column.title} by category, {who}", ("method", *categories), tuple(rows)))
    return tables


def differences(folder: RunFolder, measured: Measurements, columns: Sequence[Column]) -> list[Block]:
    """Each method minus a common one, paired: FastComposer where it was run, else the run's first method."""
    labels = list(folder.settings()["methods"])
    if len(labels) < 2:
        return []
    against = "fastcomposer" if "fastcomposer" in labels else labels[0]
    rows = paired_rows(measured.samples, columns, against)
    blocks = []
    for subjects in sorted({row["subjects"] for row in rows}):
        cells = []
        for row in rows:
            column = next((column for column in columns if column.name == row["column"]), None)
            if column is not None and row["subjects"] == subjects:
                shown = _cell({column.name: {**row, "n_ok": row["n_pairs"]}}, column)
                tests = ["–" if row[key] is None else f"{row[key]:.4f}" for key in ("p", "p_holm")]
                cells.append((row["method"], column.title, shown, str(row["n_sets"]), str(row["n_pairs"]), *tests))
        who = "one subject" if subjects == 1 else f"{subjects} subjects"
        header = ("method", "measure", f"minus {against}", "sets", "pairs", "p, sign flips", "p, Holm over methods")
        if cells:
            blocks.append(Block(f"Paired differences, {who}", header, tuple(cells)))
    return blocks


def write_report(folder: RunFolder, measured: Measurements, results: Sequence[Row]) -> list[Path]:
    """Write `report/table.md`, `report/table.csv` and `report/results.csv` (long); returns their paths."""
    report = folder.path / "report"
    text, wide, long = report / "table.md", report / "table.csv", report / "results.csv"
    write_atomically(text, markdown(folder, measured, results).encode())
    write_atomically(wide, _csv([*quality(results, columns_of(folder)), cost(results)]).encode())
    write_atomically(long, pd.DataFrame(results).to_csv(index=False).encode())
    return [text, wide, long]


def print_report(folder: RunFolder, measured: Measurements, results: Sequence[Row], console: Console) -> None:
    """Show the headline columns and the costs on the console."""
    headlines = [column for column in columns_of(folder) if column.headline]
    marks = footnote_marks(folder)
    for block in [*quality(results, headlines, marks), *_published(folder), cost(results, marks)]:
        table = Table(title=block.title, title_justify="left")
        for number, title in enumerate(block.header):
            table.add_column(escape(title), justify="left" if number == 0 else "right", overflow="fold")
        for row in block.rows:
            table.add_row(*(escape(cell.replace(" [", "\n[")) for cell in row), end_section=True)
        console.print(table)
    for line in notes(folder, measured):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def markdown(folder: RunFolder, measured: Measurements, results: Sequence[Row]) -> str:
    """The whole report as Markdown: tables, what the columns mean, provenance."""
    settings = folder.settings()
    suite, command = settings["suite"], settings["commands"][-1]
    columns, marks = columns_of(folder), footnote_marks(folder)
    tables = [*quality(results, columns, marks), *_published(folder), cost(results, marks)]
    tables += differences(folder, measured, [column for column in columns if column.headline])
    tables += by_category(results, [column for column in columns if column.headline], marks)
    parts = [f"# {suite['name']} {suite['version']} on {settings['backbone']}", suite["description"]]
    for block in tables:
        parts += [f"## {block.title}", markdown_table(block)]
    parts += [
        "## Reading the tables",
        "\n".join(f"- {line}" for line in notes(folder, measured)),
        "\n".join(f"- **{column.title}**: {column.description}" for column in [*columns, *COST_COLUMNS]),
    ]
    hardware, code, versions = command["hardware"], command["code"], command["versions"]
    revision = (
        f"commit {code['commit'][:12]}{' with changes' if code['dirty'] else ''}" if code["commit"] else "a release"
    )
    accelerators = ", ".join(hardware["accelerators"]) or "no accelerator"
    parts += [
        "## Provenance",
        f"`{command['command']}`, started {command['started']}, fc-bench {versions['fc-bench']} from {revision}; "
        f"{_sampling(settings)} on {settings['device']} "
        f"({hardware['processor']}, {hardware['cores']} cores, {accelerators}); torch {versions['torch']}, "
        f"diffusers {versions['diffusers']}, transformers {versions['transformers']}.",
    ]
    return "\n\n".join(parts) + "\n"


def _sampling(settings: Mapping[str, Any]) -> str:
    """How the images were made."""
    sampler = settings["sampler"]
    if sampler is None:
        return "images made elsewhere, scored"
    return (
        f"{sampler['scheduler']}, {sampler['steps']} steps, guidance {sampler['guidance_scale']}, "
        f"{sampler['resolution']} x {sampler['resolution']} pixels, {settings['dtype']}"
    )


def headline_markdown(folder: RunFolder, measured: Measurements, results: Sequence[Row]) -> str:
    """The tables of the terminal, headline columns and costs, as Markdown without a title of its own."""
    headlines = [column for column in columns_of(folder) if column.headline]
    marks = footnote_marks(folder)
    tables = [
        f"**{block.title}**\n\n{markdown_table(block)}"
        for block in [*quality(results, headlines, marks), cost(results, marks)]
    ]
    return "\n\n".join([*tables, *notes(folder, measured)]) + "\n"


def notes(folder: RunFolder, measured: Measurements) -> list[str]:
    """What a reader has to know beside the numbers."""
    settings = folder.settings()
    lines = [f"{mark} {text}" for text, mark in _footnotes(settings.get("remarks", [])).items()]
    lines += [
        "Mean over subjects (or sets of subjects) with its 95 % interval (expanded percentile bootstrap over them, "
        "from three independent ones on), given the suite's prompts and seeds; n = samples measured / planned, in "
        "brackets behind a value where it rests on fewer; under Cost, customizations finished / begun."
    ]
    identity = settings["metrics"].get("identity", {})
    if identity.get("embedder"):
        models = identity.get("models", {}).values()
        providers = dict.fromkeys(provider for model in models for provider in model["providers"])
        ran = f" (onnxruntime: {', '.join(providers)})" if providers else ""
        lines.append(f"Identity is measured with the face models {identity['embedder']}{ran}.")
    lines += [EMBEDDER] if _published(folder) else []
    for photograph, reason in settings["metrics"].get("identity", {}).get("photographs_left_out", {}).items():
        lines.append(f"Ceiling and floor leave out the photograph {photograph}: {reason}")
    shared = measured.samples["same_image_as"].count()
    if shared:
        lines.append(
            f"{shared} samples share the image of another sample: their method sees no photograph, so prompt and seed "
            "decide the image. They count as one observation in what depends on the image alone."
        )
    failed = (measured.samples["status"] == "error").sum()
    if failed:
        lines.append(f"{failed} samples failed; samples.jsonl has the reasons, --retry-errors tries them again.")
    for label, seconds in shared_seconds(folder).items():
        lines.append(
            f"{label} spent {seconds:.1f} s in this run on what all subjects of a class share (class images), made "
            "once per class; its seconds to customize do not hold them."
        )
    for label, row in settings["methods"].items():
        if row["options"]:
            chosen = ", ".join(f"{key} = {value}" for key, value in row["options"].items())
            lines.append(f"Options of {label}: {chosen}.")
    return [*lines, *settings["left_out"]]


def _published(folder: RunFolder) -> list[Block]:
    block = published_block(str(folder.settings()["suite"]["name"]))
    return [block] if block else []


def footnote_marks(folder: RunFolder) -> Marks:
    """The mark of each row that its method has a remark on."""
    remarks = folder.settings().get("remarks", [])
    footnotes = _footnotes(remarks)
    return {(remark["method"], remark["subjects"]): footnotes[remark["text"]] for remark in remarks}


def _footnotes(remarks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Text -> mark; rows with the same remark share it."""
    texts = dict.fromkeys(remark["text"] for remark in remarks)
    return {text: str(number).translate(_SUPERSCRIPT) for number, text in enumerate(texts, start=1)}


def _most(cells: Mapping[str, Row]) -> Row:
    """The quality column with the most values."""
    quality = [cell for name, cell in cells.items() if name not in {column.name for column in COST_COLUMNS}]
    return max(quality, key=lambda cell: cell["n_ok"])


def _cell(cells: Mapping[str, Row], column: Column, expected: int = 0) -> str:
    """Mean and interval; the number of values in brackets where it is below the expected one."""
    cell = cells.get(column.name)
    if cell is None or not _has(cell):
        return NOTHING
    value = _number(cell["mean"], column)
    if cell["low"] is not None:
        value += f" [{_number(cell['low'], column)}, {_number(cell['high'], column)}]"
    return f"{value} ({cell['n_ok']})" if cell["n_ok"] < expected else value


def _number(value: float, column: Column) -> str:
    if not column.significant:
        return f"{value:.{column.digits}f}"
    before = math.floor(math.log10(abs(value))) + 1 if value else column.digits
    return f"{value:.{max(column.digits - before, 0)}f}"


def _has(row: Row) -> bool:
    return row["mean"] is not None


def _csv(tables: Sequence[Block]) -> str:
    header = list(dict.fromkeys(title for block in tables for title in block.header))
    rows = [
        {"table": block.title, **dict(zip(block.header, row, strict=True))} for block in tables for row in block.rows
    ]
    return pd.DataFrame(rows).reindex(columns=["table", *header]).to_csv(index=False)
