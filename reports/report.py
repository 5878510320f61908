"""A report: the tables and figures of one or several runs, below one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fc_bench.errors import UserError
from fc_bench.records import remove_abandoned
from fc_bench.reports.escaping import file_name
from fc_bench.reports.figures import FAMILIES, Choice, Drawing, draw
from fc_bench.reports.figures.style import ENDINGS
from fc_bench.reports.frame import Run, alike
from fc_bench.reports.page.page import PAGE, write_page
from fc_bench.reports.page.pictures import Images
from fc_bench.reports.tables.writing import Tables, tables_of, write_tables

REPORT, FIGURES = "report", "figures"
"""Folders: of a run's report in the run folder, of the figures in the report's."""


@dataclass(frozen=True)
class Part:
    """The report of runs that are alike: its tables, figures, files, and a sentence for each figure left out."""

    tables: Tables
    drawings: tuple[Drawing, ...]
    files: tuple[Path, ...]
    left_out: tuple[str, ...]


def write_report(
    runs: Sequence[Run],
    out: Path | None = None,
    layout: str = "suite",
    families: Sequence[str] = tuple(FAMILIES),
    endings: Sequence[str] = ENDINGS,
    choice: Choice | None = None,
) -> list[Part]:
    """Write tables and figures of the runs below `out`, or below the run's own report/ where it is one.

    Runs that asked or measured something else than the others get a part of their own, in a folder of its own. Raises
    UserError when several runs have no `out`, or when it cannot be written.
    """
    out = _folder(runs, out)
    groups = alike(runs)
    parts = []
    for group, folder in zip(groups, _folders(groups, out), strict=True):
        left_out: list[str] = []
        tables = tables_of(group, layout)
        drawings = draw(group, left_out.append, choice, families)
        try:
            files = write_tables(tables, folder, "table" if layout == "suite" else layout)
            files += [file for drawing in drawings for file in drawing.write(folder / FIGURES, endings)]
        except OSError as error:
            raise UserError(
                f"The report cannot be written to {folder} ({error}); make room or make it writable."
            ) from None
        for place in (folder, folder / FIGURES):
            remove_abandoned(place)
        parts.append(Part(tables, tuple(drawings), tuple(files), tuple(left_out)))
    return parts


def write_report_page(parts: Sequence[Part], out: Path | None = None, images: Images = "link") -> Path:
    """Write the page of all parts of a report beside its tables; returns it.

    Raises UserError when it cannot be written, or pictures to `embed` do not fit into it.
    """
    groups = [part.tables.runs for part in parts]
    page = _folder([run for group in groups for run in group], out) / PAGE
    remove_abandoned(page.parent)
    try:
        return write_page(groups, [part.drawings for part in parts], page, images)
    except OSError as error:
        raise UserError(
            f"The page {page} cannot be written ({error}); make room or make its folder writable."
        ) from None


def _folder(runs: Sequence[Run], out: Path | None) -> Path:
    """The report's folder: the one that is named, or a single run's own."""
    if out is None and len(runs) > 1:
        raise UserError("Several runs have no report folder in common; name one with --out.")
    return out or runs[0].folder.path / REPORT


def _folders(groups: Sequence[Sequence[Run]], out: Path) -> list[Path]:
    """A folder for each group: `out` itself where there is one, else named after the suites."""
    if len(groups) == 1:
        return [out]
    names: list[str] = []
    for group in groups:
        suite = file_name(group[0].settings["suite"]["name"])
        names.append(suite if suite not in names else f"{suite}-{sum(name.startswith(suite) for name in names) + 1}")
    return [out / name for name in names]
