"""Writing the page of one run or several: everything a report knows, in one HTML file that needs no network.

The page's own program and style are inlined as they are and named by their hashes in its Content-Security-Policy,
which allows nothing else to run and nothing to be loaded but pictures beside the page. Texts of records reach it
through autoescaping or as data that holds no `<`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fc_bench.aggregate import COST_COLUMNS, Row, columns_of
from fc_bench.records import RunFolder, write_atomically
from fc_bench.reports.page.gallery import PageRun, gallery_data, method_names
from fc_bench.reports.page.pictures import Images, embedded, linked
from fc_bench.reports.page.tables import PageTable, cost_table, quality_table, text_table
from fc_bench.reports.repeating import repeat_command
from fc_bench.reports.samples import sample_views
from fc_bench.reports.summary import PairedDifferences, summary
from fc_bench.reports.tables import by_category, differences, footnote_marks, notes, published
from fc_bench.reports.visible import visible_data

SOURCES = Path(__file__).parent
PAGE = "index.html"
STYLES, SCRIPTS = ("style.css",), ("data.js", "tables.js", "gallery.js", "viewer.js")
"""In the order they are inlined."""
FAILURES_NAMED, REASONS_NAMED = 12, 30
"""Samples linked for one reason, and reasons; the gallery's filter shows the rest."""
_HARMLESS = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


@dataclass(frozen=True)
class Figure:
    """A drawing on the page: its title, what it shows, and the SVG."""

    title: str
    caption: str
    svg: bytes


@dataclass(frozen=True)
class FailureGroup:
    """Samples that failed for the same reason; `what` is missing of them."""

    what: str
    message: str
    traceback: str
    count: int
    samples: tuple[tuple[str, str], ...]
    """Key and a few words of the first of them."""


def write_page(
    runs: Sequence[tuple[RunFolder, Sequence[Row]]],
    page: Path,
    figures: Sequence[Figure] = (),
    images: Images = "link",
) -> Path:
    """Write the page of the runs, each with its results, to the file `page`; returns it.

    `link`: pictures are the runs' own files, by relative addresses; `embed`: small copies inside the page. Raises
    UserError when they do not fit into it, OSError when it cannot be written.
    """
    named = _named([folder for folder, _ in runs])
    data = gallery_data(named, lambda paths: embedded(paths) if images == "embed" else linked(paths, page))
    failures = _failures(named)
    content = {
        "runs": [_run(run, results) for run, (_, results) in zip(named, runs, strict=True)],
        "filters": _filters(named),
        "failures": [asdict(group) for group in failures[:REASONS_NAMED]],
        "failures_left_out": max(0, len(failures) - REASONS_NAMED),
        "columns": data["columns"],
        "total": len(data["samples"]),
        "pictures": _picture_facts(data, images),
    }
    write_atomically(page, _render(visible_data(content), visible_data(data), figures).encode("utf-8"))
    return page


def _render(content: Mapping[str, Any], data: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(SOURCES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ("".join((SOURCES / name).read_text(encoding="utf-8") for name in names) for names in (STYLES, SCRIPTS))
    return environment.get_template("index.html.j2").render(
        **content,
        figures=[
            {
                "title": figure.title,
                "caption": figure.caption,
                "address": "data:image/svg+xml;base64," + base64.b64encode(figure.svg).decode(),
            }
            for figure in figures
        ],
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


def _named(folders: Sequence[RunFolder]) -> list[PageRun]:
    """The runs with names of their own: the folder's, with a number where several have the same."""
    names: list[str] = []
    for folder in folders:
        name, number = folder.path.resolve().name, 2
        while name in names:
            name, number = f"{folder.path.resolve().name} ({number})", number + 1
        names.append(name)
    return [PageRun(folder, name, tuple(sample_views(folder))) for folder, name in zip(folders, names, strict=True)]


def _run(run: PageRun, results: Sequence[Row]) -> dict[str, Any]:
    """Everything the template says about one run."""
    folder = run.folder
    settings = folder.settings()
    paired = PairedDifferences(folder)
    tables = _tables(folder, results, paired)
    return {
        "name": run.name,
        "suite": settings["suite"],
        "summary": summary(folder, results, paired),
        "facts": _facts(run, settings),
        "tables": {part: [_table(table) for table in group] for part, group in tables.items()},
        "notes": notes(folder),
        "columns": [asdict(column) for column in [*columns_of(folder), *COST_COLUMNS]],
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


def _tables(folder: RunFolder, results: Sequence[Row], paired: PairedDifferences) -> dict[str, list[PageTable]]:
    """The tables by part of the page: what is read first, and what is unfolded."""
    columns, marks = columns_of(folder), footnote_marks(folder)
    headlines = [column for column in columns if column.headline]
    sizes = sorted({row["subjects"] for row in results})
    costs = [cost_table(results, size, marks) for size in sizes]
    return {
        "quality": [quality_table(results, headlines, size, marks, paired) for size in sizes],
        "cost": [table for table in costs if table is not None],
        "published": list(map(text_table, published(folder))),
        "all measures": [quality_table(results, columns, size, marks, None) for size in sizes],
        "paired differences": list(map(text_table, differences(folder, headlines))),
        "by prompt category": list(map(text_table, by_category(results, headlines, marks))),
    }


def _table(table: PageTable) -> dict[str, Any]:
    return {**asdict(table), "has_best": table.has_best, "has_level": table.has_level}


def _facts(run: PageRun, settings: Mapping[str, Any]) -> list[list[str]]:
    """The line of numbers below the title."""
    finished = sum(1 for view in run.views if view.status == "ok")
    subjects = {subject for view in run.views for subject in view.subjects}
    sampler, command = settings["sampler"], settings["commands"][-1]
    return [
        ["suite", f"{settings['suite']['name']} {settings['suite']['version']}"],
        ["backbone", settings["backbone"]],
        ["samples", f"{finished} / {len(run.views)}"],
        ["methods", str(len({view.method for view in run.views}))],
        ["subjects", str(len(subjects))],
        ["image side", f"{sampler['resolution']} px"],
        ["sampler", f"{sampler['scheduler']}, {sampler['steps']} steps"],
        ["on", ", ".join(command["hardware"]["accelerators"]) or settings["device"]],
        ["started", settings["commands"][0]["started"][:10]],
    ]


def _provenance(settings: Mapping[str, Any]) -> list[list[str]]:
    """Names and texts: where every number comes from."""
    suite, sampler, command = settings["suite"], settings["sampler"], settings["commands"][-1]
    hardware, code = command["hardware"], command["code"]
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
            f"{sampler['resolution']} x {sampler['resolution']} pixels",
        ],
        ["number format", f"{settings['dtype']} on {settings['device']}"],
        ["scorers, sha256", _pairs(settings["scorers"])],
        ["face models", _pairs(settings["faces"])],
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


def _filters(runs: Sequence[PageRun]) -> dict[str, list[str]]:
    """What the gallery can be narrowed to, in the order of the plans."""
    views = [view for run in runs for view in run.views]
    return {
        "methods": list(method_names(runs).values()),
        "subjects": list(dict.fromkeys(subject for view in views for subject in view.subjects)),
        "sets": list(dict.fromkeys("+".join(view.subjects) for view in views if len(view.subjects) > 1)),
        "categories": list(dict.fromkeys(view.category for view in views)),
        "statuses": [name for name in ("ok", "error", "missing") if any(view.status == name for view in views)],
    }


def _failures(runs: Sequence[PageRun]) -> list[FailureGroup]:
    """What failed, by reason, the most frequent first."""
    groups: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    names = method_names(runs)
    for run in runs:
        for view in run.views:
            key = view.id if len(runs) == 1 else f"{run.name}/{view.id}"
            words = f"{names[run.name, view.method]}, {'+'.join(view.subjects)}: {view.prompt}"
            if view.failure is not None:
                groups.setdefault(("image", view.failure.message, view.failure.traceback), []).append((key, words))
            for metric, failure in view.score_failures.items():
                groups.setdefault((metric, failure.message, failure.traceback), []).append((key, words))
    found = [
        FailureGroup(what, message, traceback, len(samples), tuple(samples[:FAILURES_NAMED]))
        for (what, message, traceback), samples in groups.items()
    ]
    return sorted(found, key=lambda group: -group.count)


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
