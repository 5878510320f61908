"""Writing the page of one run or several: everything a report knows, in one HTML file that needs no network.

The page's own program and style are inlined as they are and named by their hashes in its Content-Security-Policy,
which allows nothing else to run and nothing to be loaded but pictures beside the page. Texts of records reach it
through autoescaping or as data that holds no `<`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from fc_bench.reports.cost.output import CostTables
from fc_bench.reports.escaping import visible_data
from fc_bench.reports.page.failures import failures_of
from fc_bench.reports.page.gallery import filters, gallery_data, page_runs, picture_facts
from fc_bench.reports.page.parts import cost_part, quality_part
from fc_bench.reports.page.pictures import Images, embedded, linked
from fc_bench.reports.page.provenance import cost_origin, quality_origin
from fc_bench.reports.page.selection import chosen_rows, left_out
from fc_bench.reports.quality.output import Tables
from fc_bench.reports.samples import sample_views
from fc_bench.reports.trust import CARDS, PUBLISHED
from fc_bench.run_folder.records import write_atomically

if TYPE_CHECKING:
    from fc_bench.reports.figures import Drawing

SOURCES = Path(__file__).parent
PAGE = "index.html"
STYLE = "style.css"
GALLERY_SCRIPTS, SCRIPTS = ("data.js", "gallery.js", "viewer.js"), ("tables.js",)
"""Scripts in their order; those of the gallery only if there are samples."""
REASONS_NAMED = 30
"""Largest number of named reasons of failures; the gallery's filter shows the rest."""
_HARMLESS = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def write_page(
    parts: Sequence[tuple[Tables | CostTables, Sequence[Drawing]]],
    page: Path,
    images: Images = "link",
    draw_command: str = "",
) -> Path:
    """Write the page of the parts of a report, each with its figures, to the file `page`; returns it.

    `link`: pictures are the runs' own files, by relative addresses; `embed`: small copies inside the page.
    `draw_command` draws the figures that are left out. Raises UserError if pictures do not fit into the page, OSError
    if it cannot be written.
    """
    quality = [(tables, drawings) for tables, drawings in parts if isinstance(tables, Tables)]
    costs = [(tables, drawings) for tables, drawings in parts if isinstance(tables, CostTables)]
    runs = page_runs([tables.runs for tables, _ in quality])
    failures = failures_of(runs)
    chosen = chosen_rows(runs, [row for group in failures[:REASONS_NAMED] for row in group.rows])
    shown = [tuple(sample_views(run.run.measured, rows)) for run, rows in zip(runs, chosen, strict=True)]
    data = gallery_data(runs, shown, lambda paths: embedded(paths) if images == "embed" else linked(paths, page))
    content = {
        "parts": [quality_part(*part) for part in quality] + [cost_part(*part) for part in costs],
        "runs": list(map(quality_origin, runs)) + [cost_origin(tables.run) for tables, _ in costs],
        "draw_command": draw_command,
        "cards": os.path.relpath(PUBLISHED / CARDS, page.parent),
        "gallery": bool(runs),
        "filters": filters(runs, shown),
        "left_out": left_out(runs, chosen),
        "failures": [asdict(group) for group in failures[:REASONS_NAMED]],
        "failures_left_out": max(0, len(failures) - REASONS_NAMED),
        "columns": data["columns"],
        "pictures": picture_facts(data, images),
    }
    write_atomically(page, _render(visible_data(content), visible_data(data)).encode("utf-8"))
    return page


def _render(content: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    scripts = [*(GALLERY_SCRIPTS if content["gallery"] else ()), *SCRIPTS]
    return rendered("index.html.j2", {**content, "data": Markup(_json(data))}, scripts)


def rendered(template: str, content: Mapping[str, Any], scripts: Sequence[str] = SCRIPTS) -> str:
    """A page from one of the templates, with the style and the scripts inside it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(SOURCES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (SOURCES / STYLE).read_text(encoding="utf-8")
    script = '"use strict";\n' + "".join((SOURCES / name).read_text(encoding="utf-8") for name in scripts)
    return environment.get_template(template).render(
        **content,
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
    )


def _json(data: Any) -> str:
    """JSON for a script element: it can neither end the element nor begin a comment."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_HARMLESS)


def _hash(source: str) -> str:
    """The source expression of an inline script or style in a Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
