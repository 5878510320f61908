"""Tables as HTML."""

from __future__ import annotations

from collections.abc import Sequence

from fc_bench.reports.escaping import html_text
from fc_bench.reports.tables.model import Cell, Heading, Table

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 0 0 2rem; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: .4rem 0 }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #e4e4e4 }
thead th { border-bottom: 2px solid #444; vertical-align: bottom }
th[scope=row] { font-weight: 400 }
.number { text-align: right; white-space: nowrap }
.interval { color: #666; font-size: .85em }
tr.separated { color: #555; font-style: italic }
.scroll { overflow-x: auto }
""".strip()


def html_table(table: Table) -> str:
    """A table as an HTML fragment: `<table class="results">` with a caption; best values are `<strong>`."""
    head = "".join(_heading(heading) for heading in table.header)
    rows = []
    for number, row in enumerate(table.rows, start=1):
        kind = ' class="separated"' if number > len(table.rows) - table.separated else ""
        cells = "".join(_cell(cell, heading, first=place == 0) for place, (cell, heading) in _placed(table, row))
        rows.append(f"<tr{kind}>{cells}</tr>")
    return (
        f'<table class="results" id="{html_text(table.name)}">\n<caption>{html_text(table.title)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>\n</table>"
    )


def html_document(title: str, tables: Sequence[Table], notes: Sequence[str]) -> str:
    """An HTML document: the tables and the notes for the reader."""
    parts = [f'<div class="scroll">{html_table(table)}</div>' for table in tables]
    listed = "\n".join(f"<li>{html_text(note)}</li>" for note in notes)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html_text(title)}</title>\n'
        f"<style>\n{_STYLE}\n</style>\n</head>\n<body>\n<h1>{html_text(title)}</h1>\n"
        + "\n".join(parts)
        + f"\n<h2>Reading the tables</h2>\n<ul>\n{listed}\n</ul>\n</body>\n</html>\n"
    )


def _placed(table: Table, row: Sequence[Cell]):
    return enumerate(zip(row, table.header, strict=True))


def _heading(heading: Heading) -> str:
    kind = ' class="number"' if heading.number else ""
    arrow = f' <span title="{heading.better} is better">{heading.arrow}</span>' if heading.arrow else ""
    return f'<th scope="col"{kind}>{html_text(heading.text)}{arrow}</th>'


def _cell(cell: Cell, heading: Heading, first: bool) -> str:
    text = html_text(cell.text)
    strong = f"<strong>{text}</strong>" if cell.best else text
    mark = f"<sup>{html_text(cell.mark)}</sup>" if cell.mark else ""
    after = f' <span class="interval">{html_text(cell.after)}</span>' if cell.after else ""
    tag, kind = ('th scope="row"', "") if first else ("td", ' class="number"' if heading.number else "")
    return f"<{tag}{kind}>{strong}{mark}{after}</{tag.split()[0]}>"
