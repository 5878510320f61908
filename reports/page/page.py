"""Writing the page of one run or several: everything a report knows, in one HTML file that needs no network.

The page's own program and style are inlined as they are and named by their hashes in its Content-Security-Policy,
which allows nothing else to run and nothing to be loaded but pictures beside the page. Texts of records reach it
through autoescaping or as data that holds no `<`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fc_bench.aggregate import COST_COLUMNS, REFERENCES
from fc_bench.records import write_atomically
from fc_bench.reports import frame
from fc_bench.reports.escaping import visible_data
from fc_bench.reports.figures import Drawing
from fc_bench.reports.frame import Run
from fc_bench.reports.literature import published_tables
from fc_bench.reports.page.choosing import chosen_rows, left_out
from fc_bench.reports.page.failures import failures_of
from fc_bench.reports.page.gallery import PageRun, gallery_data, page_runs
from fc_bench.reports.page.pictures import Images, embedded, linked
from fc_bench.reports.page.tables import Level, PageTable, page_table
from fc_bench.reports.repeating import repeat_command
from fc_bench.reports.samples import SampleView, sample_views
from fc_bench.reports.summary import PairedDifferences, summary
from fc_bench.reports.tables.contents import contents, differences
from fc_bench.reports.tables.notes import footnote_marks, notes

SOURCES = Path(__file__).parent
PAGE = "index.html"
STYLES, SCRIPTS = ("style.css",), ("data.js", "tables.js", "gallery.js", "viewer.js")
"""In the order they are inlined."""
UNKNOWN = "not known"
"""Said of how images were made elsewhere."""
REASONS_NAMED = 30
"""Reasons of failures that are named; the gallery's filter shows the rest."""
_VIEW_BOX = re.compile(rb'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_HARMLESS = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def write_page(
    groups: Sequence[Sequence[Run]],
    drawings: Sequence[Sequence[Drawing]],
    page: Path,
    images: Images = "link",
) -> Path:
    """Write the page of runs to the file `page`; returns it.

    `groups` are of runs that are alike (`frame.alike`), `drawings` the figures of each. `link`: pictures are the runs'
    own files, by relative addresses; `embed`: small copies inside the page. Raises UserError when they do not fit into
    it, OSError when it cannot be written.
    """
    runs = page_runs(groups)
    failures = failures_of(runs)
    chosen = chosen_rows(runs, [row for group in failures[:REASONS_NAMED] for row in group.rows])
    shown = [tuple(sample_views(run.run.measured, rows)) for run, rows in zip(runs, chosen, strict=True)]
    data = gallery_data(runs, shown, lambda paths: embedded(paths) if images == "embed" else linked(paths, page))
    content = {
        "parts": [_part(group, drawn) for group, drawn in zip(groups, drawings, strict=True)],
        "runs": list(map(_run, runs)),
        "filters": _filters(runs, shown),
        "left_out": left_out(runs, chosen),
        "failures": [asdict(group) for group in failures[:REASONS_NAMED]],
        "failures_left_out": max(0, len(failures) - REASONS_NAMED),
        "columns": data["columns"],
        "pictures": _picture_facts(data, images),
    }
    write_atomically(page, _render(visible_data(content), visible_data(data)).encode("utf-8"))
    return page


def _render(content: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(SOURCES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (
        "".join((SOURCES / name).read_text(encoding="utf-8") for name in names) for names in (STYLES, SCRIPTS)
    )
    return environment.get_template("index.html.j2").render(
        **content,
        data=Markup(_json(data)),
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
    )


def _json(data: Any) -> str:
    """JSON that may stand inside a script element: it cannot end the element or begin a comment."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_HARMLESS)


def _hash(source: str) -> str:
    """What a Content-Security-Policy calls an inline source."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _part(runs: Sequence[Run], drawings: Sequence[Drawing]) -> dict[str, Any]:
    """What the template says about runs that are alike together."""
    paired = PairedDifferences(runs)
    tables = _tables(runs, paired)
    return {
        "title": ", ".join(run.name for run in runs),
        "description": runs[0].settings["suite"]["description"],
        "summary": summary(runs, paired),
        "facts": _facts(runs),
        "tables": {name: [_table(table) for table in group] for name, group in tables.items()},
        "figures": list(map(_figure, drawings)),
        "notes": notes(runs, options=False),
        "columns": [asdict(column) for column in [*frame.columns(runs), REFERENCES, *COST_COLUMNS]],
    }


def _figure(drawing: Drawing) -> dict[str, Any]:
    """A drawing as a picture of its own, in which nothing runs and nothing is loaded, with its size in points."""
    svg = drawing.svg()
    size = _VIEW_BOX.search(svg)
    width, height = (round(float(side)) for side in size.groups()) if size else (None, None)
    return {
        "title": drawing.title,
        "caption": drawing.caption,
        "address": "data:image/svg+xml;base64," + base64.b64encode(svg).decode(),
        "width": width,
        "height": height,
    }


def _run(run: PageRun) -> dict[str, Any]:
    """What the template says about one run: where it comes from."""
    settings = run.run.settings
    return {
        "name": run.run.name,
        "provenance": _provenance(settings),
        "methods": [
            {
                "label": label,
                "options": [[key, _shown(value)] for key, value in row["options"].items()],
                "weights": [[part, sha256] for part, sha256 in row["weights"].items()],
            }
            for label, row in settings["methods"].items()
        ],
        "commands": [_command(entry) for entry in settings["commands"]],
        "repeat": repeat_command(settings),
    }


def _tables(runs: Sequence[Run], paired: PairedDifferences) -> dict[str, list[PageTable]]:
    """The tables by part of the page: what is read first, and what is unfolded."""
    made = contents(runs, footnote_marks(runs), frame.incomparable_costs(runs))
    columns = [*made.columns, REFERENCES, *COST_COLUMNS]
    names = {column.title: column.name for column in made.columns}

    def level(size: int) -> Level:
        return lambda label, best, title: paired.sign(label, best, size, names[title]) == 0

    quality = zip(made.sizes, made.quality(made.headlines), strict=True)
    unfolded = {
        "overview": made.overview(),
        "all measures": [replace(table, title=f"{table.title}: all measures") for table in made.quality(made.columns)],
        "paired differences": differences(runs),
        "by prompt category": made.by_category(made.headlines),
    }
    return {
        "quality": [page_table(table, columns, level(size)) for size, table in quality],
        "cost": [page_table(made.cost(), columns)],
        "published": [page_table(table, columns) for table in published_tables(runs[0].settings["suite"]["name"])],
        **{name: [page_table(table, columns) for table in group] for name, group in unfolded.items()},
    }


def _table(table: PageTable) -> dict[str, Any]:
    return {**asdict(table), "has_level": table.has_level}


def _facts(runs: Sequence[Run]) -> list[list[str]]:
    """The numbers beside the summary; where runs differ, of all of them."""
    finished = sum(int((run.samples["status"] == "ok").sum()) for run in runs)
    subjects = {subject for run in runs for key in run.samples["set"].unique() for subject in key.split("+")}
    names = frame.labels(runs)
    methods = {names[run.name, method] for run in runs for method in run.samples["method"].unique()}
    settings = [run.settings for run in runs]
    samplers = [told["sampler"] for told in settings]

    def each(texts: Iterable[str]) -> str:
        return ", ".join(dict.fromkeys(texts))

    return [
        ["suite", f"{settings[0]['suite']['name']} {settings[0]['suite']['version']}"],
        ["backbone", each(told["backbone"] for told in settings)],
        ["samples", f"{finished} / {sum(len(run.samples) for run in runs)}"],
        ["methods", str(len(methods))],
        ["subjects", str(len(subjects))],
        ["image side", each(f"{told['resolution']} px" if told else UNKNOWN for told in samplers)],
        ["sampler", each(f"{told['scheduler']}, {told['steps']} steps" if told else UNKNOWN for told in samplers)],
        [
            "on",
            each(", ".join(told["commands"][-1]["hardware"]["accelerators"]) or told["device"] for told in settings),
        ],
        ["started", each(told["commands"][0]["started"][:10] for told in settings)],
    ]


def _provenance(settings: Mapping[str, Any]) -> list[list[str]]:
    """Names and texts: where every number comes from."""
    suite, sampler, command = settings["suite"], settings["sampler"], settings["commands"][-1]
    hardware, code, faces = command["hardware"], command["code"], settings["faces"]
    changed = " with uncommitted changes" if code["dirty"] else ""
    gib = hardware["memory_bytes"] / 2**30
    facts = [
        ["suite", f"{suite['name']}, version {suite['version']}"],
        ["license of the suite", suite["license"]],
        ["source", suite["source"]],
        ["citation", suite["citation"]],
        ["backbone", settings["backbone"]],
        [
            "sampler",
            f"{sampler['scheduler']}, {sampler['steps']} steps, guidance {sampler['guidance_scale']}, "
            f"{sampler['resolution']} x {sampler['resolution']} pixels"
            if sampler
            else UNKNOWN,
        ],
        ["number format", f"{settings['dtype'] or UNKNOWN} on {settings['device']}"],
        ["scorers, sha256", _pairs(settings["scorers"])],
        ["face models", "; ".join(map(_pairs, faces if isinstance(faces, list) else [faces]))],
        *([f"metric {name}", _pairs(told)] for name, told in settings["metrics"].items()),
        ["code", f"commit {code['commit']}{changed}" if code["commit"] else "a release"],
        ["versions", _pairs(command["versions"])],
        [
            "machine",
            f"{hardware['processor']}, {hardware['cores']} cores, {gib:.1f} GiB, "
            f"{', '.join(hardware['accelerators']) or 'no accelerator'}, {hardware['system']}",
        ],
    ]
    return [[name, text] for name, text in facts if text]


def _pairs(data: Mapping[str, Any]) -> str:
    """Names and values in a line, what is nested in brackets."""
    shown = [
        f"{key} ({_pairs(value)})" if isinstance(value, Mapping) else f"{key} {_shown(value)}"
        for key, value in data.items()
        if value is not None
    ]
    return ", ".join(shown)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _command(entry: Mapping[str, Any]) -> dict[str, str]:
    return {
        "command": entry["command"],
        "started": entry["started"],
        "finished": entry.get("finished") or "not finished",
        "commit": entry["code"]["commit"] or "",
    }


def _filters(runs: Sequence[PageRun], shown: Sequence[Sequence[SampleView]]) -> dict[str, list[str]]:
    """What the gallery can be narrowed to, in the order of the plans."""
    views = [view for own in shown for view in own]
    named = [run.names[view.method] for run, own in zip(runs, shown, strict=True) for view in own]
    return {
        "methods": list(dict.fromkeys(named)),
        "subjects": list(dict.fromkeys(subject for view in views for subject in view.subjects)),
        "sets": list(dict.fromkeys("+".join(view.subjects) for view in views if len(view.subjects) > 1)),
        "categories": list(dict.fromkeys(view.category for view in views)),
        "statuses": [name for name in ("ok", "error", "missing") if any(view.status == name for view in views)],
    }


def _picture_facts(data: Mapping[str, Any], images: Images) -> dict[str, Any]:
    """How the pictures are there, and of how many finished samples they are not."""
    finished = [sample for sample in data["samples"] if sample["status"] == "ok"]
    addresses = data["pictures"]
    shown = sum(1 for sample in finished if "picture" in sample and addresses[sample["picture"]][0] is not None)
    largest = max((max(width, height) for address, width, height in addresses if address is not None), default=0)
    return {
        "kind": images,
        "finished": len(finished),
        "shown": shown,
        "reduced": data["side"] if data["side"] is not None and data["side"] < largest else None,
    }
