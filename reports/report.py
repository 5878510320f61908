"""A report: the tables, figures and the page of one or several runs, of quality or of cost, in one folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fc_bench.errors import UserError
from fc_bench.reports.cost.beside import costs_beside
from fc_bench.reports.cost.output import CostTables, write_cost_tables
from fc_bench.reports.cost.run import CostRun
from fc_bench.reports.escaping import file_name
from fc_bench.reports.frame import ANCHORS, Run, alike, labels, read_runs, run_names
from fc_bench.reports.page.page import PAGE, write_page
from fc_bench.reports.page.pictures import Images
from fc_bench.reports.quality.output import Layout, Tables, write_tables
from fc_bench.reports.state import FIGURES, REPORT
from fc_bench.run_folder.records import QUALITY, RunFolder, remove_abandoned

if TYPE_CHECKING:
    from fc_bench.reports.figures import Choice, Drawing


@dataclass(frozen=True)
class Part:
    """The report of comparable runs, or of a cost run: tables, figures, files, and sentences about what is left out."""

    tables: Tables | CostTables
    drawings: tuple[Drawing, ...]
    files: tuple[Path, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Read:
    """The runs of a report: quality runs, cost runs, and the folder of the report."""

    quality: Sequence[Run]
    cost: Sequence[CostRun]
    out: Path


def read(paths: Sequence[Path], out: Path | None = None) -> Read:
    """The runs in these folders, for a report in `out`, or in report/ of a single run.

    Raises UserError if a folder is not a run folder or is given twice, or if several runs have no `out`.
    """
    kinds = {path: RunFolder(path).kind() for path in paths}
    if out is None and len(paths) > 1:
        raise UserError("Several runs have no report folder in common; name one with --out.")
    names = dict(zip(paths, run_names(paths), strict=True))
    quality = [path for path in paths if kinds[path] == QUALITY]
    runs = [Run(run.folder, names[path]) for path, run in zip(quality, read_runs(quality), strict=True)]
    costs = [CostRun(RunFolder(path), names[path]) for path in paths if kinds[path] != QUALITY]
    return Read(runs, costs, out or paths[0] / REPORT)


def write_report(
    runs: Read,
    layout: Layout = "suite",
    families: Sequence[str] | None = None,
    endings: Sequence[str] | None = None,
    choice: Choice | None = None,
) -> list[Part]:
    """Write tables and figures of the runs; `families` and `endings` are those of the figures (None: all).

    Runs that are not comparable get a separate part in a separate folder, and so does each cost run. If its costs
    belong to rows of quality runs, they are also shown there, and the cost figures are drawn only from the cost run.
    Raises UserError if the report cannot be written.
    """
    groups = alike(runs.quality)
    folders = _folders(groups, runs.cost, runs.out)
    methods = {name: made for group in groups for (_, made), name in labels(group).items() if made not in ANCHORS}
    methods |= {cost.method: cost.method for run in runs.cost for cost in run.costs}
    parts = []
    for group in groups:
        beside, left_out = costs_beside(group, runs.cost)
        drawings: Sequence[Drawing] = ()
        if families is None or families:  # matplotlib is loaded only where something is drawn
            from fc_bench.reports.figures import FAMILIES, OF_COST, draw

            chosen = tuple(FAMILIES) if families is None else families
            drawn = [name for name in chosen if beside is None or name not in OF_COST]
            drawings = draw(group, left_out.append, choice, drawn, methods)
        parts.append(_written(Tables(group, layout, beside), drawings, next(folders), endings, left_out))
    for run in runs.cost:
        left_out, drawings = [], ()
        if families is None or families:
            from fc_bench.reports.figures import draw_cost

            drawings = draw_cost(run, left_out.append, methods)
        parts.append(_written(CostTables(run), drawings, next(folders), endings, left_out))
    return parts


def write_report_page(runs: Read, parts: Sequence[Part], images: Images = "link", draw_command: str = "") -> Path:
    """Write the page of all parts of a report next to its tables; returns it.

    `draw_command` is the command that draws the figures which are left out; empty if none are. Raises UserError if the
    page cannot be written, or if pictures to `embed` do not fit into it.
    """
    page = runs.out / PAGE
    remove_abandoned(page.parent)
    try:
        return write_page([(part.tables, part.drawings) for part in parts], page, images, draw_command)
    except OSError as error:
        raise UserError(
            f"The page {page} cannot be written ({error}); make room or make its folder writable."
        ) from None


def _written(
    tables: Tables | CostTables,
    drawings: Sequence[Drawing],
    folder: Path,
    endings: Sequence[str] | None,
    left_out: Sequence[str],
) -> Part:
    try:
        files = write_tables(tables, folder) if isinstance(tables, Tables) else write_cost_tables(tables, folder)
        if drawings:
            files += _write_figures(drawings, folder / FIGURES, endings)
    except OSError as error:
        raise UserError(f"The report cannot be written to {folder} ({error}); make room or make it writable.") from None
    for place in (folder, folder / FIGURES):
        remove_abandoned(place)
    return Part(tables, tuple(drawings), tuple(files), tuple(left_out))


def _write_figures(drawings: Sequence[Drawing], folder: Path, endings: Sequence[str] | None) -> list[Path]:
    """Write the figures in these formats (None: all); they are rendered for the page as well."""
    from fc_bench.reports.figures.style import ENDINGS, PAGE_ENDING, render

    formats = ENDINGS if endings is None else endings
    render(drawings, list(dict.fromkeys([*formats, PAGE_ENDING])))
    return [file for drawing in drawings for file in drawing.write(folder, formats)]


def _folders(groups: Sequence[Sequence[Run]], costs: Sequence[CostRun], out: Path) -> Iterator[Path]:
    """A folder for each group and each cost run: `out` itself for a single one, else named after suites and runs."""
    if len(groups) + len(costs) == 1:
        yield out
        return
    taken: set[str] = set()
    for wanted in [*(group[0].settings["suite"]["name"] for group in groups), *(run.name for run in costs)]:
        name = first = file_name(wanted)
        number = 1
        while name in taken:
            number += 1
            name = f"{first}-{number}"
        taken.add(name)
        yield out / name
