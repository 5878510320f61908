"""The contents of the tables: quality, cost, overview, the paper's layout, categories, paired differences."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fc_bench.analysis.aggregate import COST_COLUMNS, OVERALL, REFERENCES, Row, attribute_of
from fc_bench.analysis.differences import paired_rows
from fc_bench.protocols import Column
from fc_bench.reports.cost import beside as beside_costs
from fc_bench.reports.cost.beside import Beside
from fc_bench.reports.cost.cells import ROUGHLY
from fc_bench.reports.frame import Run, columns, paired_samples, requested_samples, rows, who
from fc_bench.reports.tables.model import NOTHING, Cell, Heading, Table
from fc_bench.reports.trust import published_trust
from fc_bench.suites.slugs import slug

Marks = Mapping[tuple[str, int], str]
"""Number of the footnote by (label, number of subjects)."""
Cells = Mapping[str, Mapping[str, Row]]
"""Label -> column (or category) -> its row."""

PAPER = ("identity", "prompt_consistency")
"""The quality columns of the paper's tables."""
_COSTS = {column.name: column for column in COST_COLUMNS}
_SPENT = ("customize_seconds", "image_seconds", "peak_memory_gib", "artefact_mib")
"""The cost columns shown next to quality."""
_TOTAL = replace(beside_costs.TOTAL, digits=2, significant=False)
_MEMORY = Column("peak_memory_gib", "peak memory (GiB)", False, "", digits=2)
_METHOD = Heading("method", number=False)


@dataclass(frozen=True)
class Contents:
    """The results of comparable runs, ready for the layout.

    No value is the best in cost columns measured under different conditions (`incomparable`), nor for numbers of
    subjects whose methods have different samples (`uneven`). Costs of a cost run (`beside`) replace recorded ones next
    to quality, never in the same column.
    """

    rows: Sequence[Row]
    columns: Sequence[Column]
    marks: Marks = field(default_factory=dict)
    incomparable: Collection[str] = ()
    uneven: Collection[int] = ()
    beside: Beside | None = None

    @property
    def headlines(self) -> list[Column]:
        """The headline columns."""
        return [column for column in self.columns if column.headline]

    @property
    def sizes(self) -> list[int]:
        """Numbers of subjects."""
        return sorted({row["subjects"] for row in self.rows})

    def quality(self, shown: Sequence[Column]) -> list[Table]:
        """A table for each number of subjects: a row per method, the columns with any value."""
        return [self._methods(f"quality-{size}", _title(size), size, self._filled(shown, size)) for size in self.sizes]

    def overview(self) -> list[Table]:
        """References, quality and cost of each method in one table for each number of subjects."""
        main = [column for column in self.columns if column.name in PAPER] or self.headlines
        tables = []
        for size in self.sizes:
            measured = self._measured_costs(size)
            spent = beside_costs.COLUMNS if measured else [_COSTS[name] for name in _SPENT]
            title = f"{_title(size)}: overview" + (f", cost from {measured.name}" if measured else "")
            shown = [REFERENCES, *self._filled(main, size), *spent]
            tables.append(self._methods(f"overview-{size}", title, size, shown))
        return tables

    def cost(self) -> Table:
        """The recorded cost of each method by number of subjects; n = finished / started customizations."""
        shown = [REFERENCES, *COST_COLUMNS]
        made = []
        for size in self.sizes:
            cells = {label: found for label, found in self._cells(size).items() if "customize_seconds" in found}
            best = {column.name: self._best(cells, column) for column in shown}
            for label, found in cells.items():
                jobs = found["customize_seconds"]
                counts = (Cell(str(size)), Cell(f"{jobs['n_ok']} / {jobs['n_total']}"))
                values = [_cell(found.get(column.name), column, best=label in best[column.name]) for column in shown]
                made.append((self._name(label, size), *counts, *values))
        header = (_METHOD, Heading("subjects"), Heading("n"), *map(heading, shown))
        title = "Cost, as recorded during generation" if self.beside else "Cost"
        return Table("cost", title, header, tuple(made))

    def by_category(self, shown: Sequence[Column]) -> list[Table]:
        """For each number of subjects and each column: methods as rows, prompt categories as columns.

        Further tables have the values of each attribute of the subjects as columns.
        """
        named = dict.fromkeys(attribute_of(row["category"]) for row in self.rows if row["category"] != OVERALL)
        return [table for attribute in named for table in self._groups(shown, attribute)]

    def _groups(self, shown: Sequence[Column], attribute: str | None) -> list[Table]:
        """The tables of prompt categories (None), or of an attribute of the subjects."""
        tables = []
        for size in self.sizes:
            grouped = [row for row in self.rows if row["subjects"] == size and row["category"] != OVERALL]
            part = [row for row in grouped if attribute_of(row["category"]) == attribute]
            categories = list(dict.fromkeys(row["category"] for row in part))
            there = {row["column"] for row in part if row["mean"] is not None}
            for column in (column for column in shown if column.name in there):
                cells: dict[str, dict[str, Row]] = {}
                for row in part:
                    if row["column"] == column.name:
                        cells.setdefault(row["label"], {})[row["category"]] = row
                best = {category: self._best(cells, column, category) for category in categories}
                made = [
                    (
                        self._name(label, size),
                        *(complete(found.get(name), column, label in best[name]) for name in categories),
                    )
                    for label, found in cells.items()
                ]
                names = [category.partition("=")[2] or category for category in categories]
                header = (_METHOD, *(Heading(name, _better(column)) for name in names))
                by = attribute or "category"
                title = f"{column.title} by {by}, {who(size)}"
                caption = "" if attribute else _requests(column)
                tables.append(Table(slug(f"{by}-{column.name}-{size}"), title, header, tuple(made), caption=caption))
        return tables

    def paper(self) -> list[Table]:
        """The tables of FastComposer's paper: one subject with time and memory, several subjects without."""
        tables = []
        measured = {column.name: column for column in self.columns}
        quality = [measured[name] for name in PAPER if name in measured]
        titles = {"identity": "identity preservation"}
        for size in self.sizes:
            measured = self._measured_costs(size)
            cells = {label: _with_total(found) for label, found in self._beside(size).items()}
            spent = [beside_costs.TOTAL if measured else _TOTAL, _MEMORY] if size == 1 else []
            best = {column.name: self._best(cells, column) for column in [*quality, *spent]}
            made = []
            for label, found in cells.items():
                values = [complete(found.get(item.name), item, label in best[item.name]) for item in quality]
                values += [_cell(found.get(item.name), item, best=label in best[item.name]) for item in spent]
                about = (_cell(found.get(REFERENCES.name), REFERENCES), Cell(_kind(found)))
                made.append((self._name(label, size), *about, *values))
            header = (
                _METHOD,
                Heading("images", "lower"),
                Heading("type", number=False),
                *(Heading(titles.get(item.name, item.title), _better(item)) for item in [*quality, *spent]),
            )
            title = "Single-subject generation" if size == 1 else f"Multi-subject generation, {size} subjects"
            over = "subjects" if size == 1 else "sets of subjects"
            caption = f"Mean over {over} with its 95 % interval; images: photographs of a subject that the method uses"
            caption += f"; total time: {_TOTAL.description}" if spent else ""
            caption += f"; time and memory are those of the cost run {measured.name}." if measured else "."
            tables.append(Table(f"paper-{size}", title, header, tuple(made), _separated(cells), caption))
        return tables

    def _methods(self, name: str, title: str, size: int, shown: Sequence[Column]) -> Table:
        """Methods as rows with n, and these columns."""
        cells = self._beside(size)
        best = {column.name: self._best(cells, column) for column in shown}
        made = []
        for label, found in cells.items():
            most = _most(found)
            values = []
            for column in shown:
                expected = 0 if column.name in _COSTS or column is REFERENCES else most["n_ok"]
                values.append(_cell(found.get(column.name), column, expected, label in best[column.name]))
            made.append((self._name(label, size), Cell(f"{most['n_ok']} / {most['n_total']}"), *values))
        header = (_METHOD, Heading("n"), *map(heading, shown))
        return Table(name, title, header, tuple(made), _separated(cells))

    def _name(self, label: str, size: int) -> Cell:
        return Cell(label, mark=self.marks.get((label, size), ""))

    def _cells(self, size: int) -> dict[str, dict[str, Row]]:
        """Label -> column -> its row over all prompts; methods first, then ceiling and floor."""
        part = [row for row in self.rows if row["subjects"] == size and row["category"] == OVERALL]
        found: dict[str, dict[str, Row]] = {}
        for row in sorted(part, key=lambda row: row["kind"] == "anchor"):
            found.setdefault(row["label"], {})[row["column"]] = row
        return found

    def _measured_costs(self, size: int) -> Beside | None:
        """The costs of the cost run that apply to this number of subjects."""
        return self.beside if size == beside_costs.SUBJECTS else None

    def _beside(self, size: int) -> dict[str, dict[str, Row]]:
        """The rows, with the measured costs of a cost run in place of all recorded ones."""
        cells, measured = self._cells(size), self._measured_costs(size)
        if measured is None:
            return cells
        return {
            label: {name: row for name, row in found.items() if name not in _SPENT} | dict(measured.rows.get(label, {}))
            for label, found in cells.items()
        }

    def _filled(self, shown: Sequence[Column], size: int) -> list[Column]:
        """The columns with any value."""
        there = {row["column"] for row in self.rows if row["subjects"] == size and row["mean"] is not None}
        return [column for column in shown if column.name in there]

    def _best(self, cells: Cells, column: Column, key: str | None = None) -> set[str]:
        """The labels with the best value of a column (or, with a key, of a category), as shown.

        Only methods that see the subject and have all requested values take part. A value that all of them share is not
        the best.
        """
        conditions = {"total_seconds": ("customize_seconds", "image_seconds")}.get(column.name, (column.name,))
        recorded = not any("extrapolated" in found.get(column.name, {}) for found in cells.values())
        if column.higher_is_better is None or (recorded and any(name in self.incomparable for name in conditions)):
            return set()
        blind = {row["label"] for row in self.rows if row["column"] == REFERENCES.name and row["mean"] == 0}
        competing = {}
        for label, found in cells.items():
            row = found.get(key or column.name)
            if row is not None and row["subjects"] in self.uneven:
                return set()
            if row is not None and row["mean"] is not None and row["kind"] == "method" and label not in blind:
                competing[label] = row
        whole = {label: row["mean"] for label, row in competing.items() if row["n_ok"] == row["n_total"]}
        if not whole:
            return set()
        chosen = (max if column.higher_is_better else min)(whole.values())
        best = number(chosen, column)
        found_best = {label for label, value in whole.items() if number(value, column) == best}
        if not recorded:
            found_best |= _reaching(competing, chosen)
        return set() if len(found_best) == len(competing) else found_best


def contents(
    runs: Sequence[Run], marks: Marks, incomparable: Collection[str] = (), beside: Beside | None = None
) -> Contents:
    """The contents for comparable runs."""
    uneven = [size for size, own in requested_samples(runs).items() if len(set(own.values())) > 1]
    return Contents(rows(runs), columns(runs), marks, incomparable, uneven, beside)


def differences(runs: Sequence[Run]) -> list[Table]:
    """Paired differences of each method to a common one: FastComposer if it was run, else the first method."""
    key = " ".join(["differences", *(run.name for run in runs)])
    if key not in runs[0].kept:
        runs[0].kept[key] = _differences(runs)
    return runs[0].kept[key]


def _differences(runs: Sequence[Run]) -> list[Table]:
    samples = paired_samples(runs)
    names = list(samples[["method", "recorded"]].drop_duplicates().itertuples(index=False, name=None))
    if len(names) < 2:
        return []
    against = next((label for label, recorded in names if recorded == "fastcomposer"), names[0][0])
    shown = {column.name: column for column in columns(runs) if column.headline}
    found = paired_rows(samples, list(shown.values()), against)
    tables = []
    for size in sorted({row["subjects"] for row in found}):
        made = []
        for row in (row for row in found if row["subjects"] == size):
            column = shown[row["column"]]
            counts = [str(row["n_sets"]), str(row["n_pairs"])]
            tests = [NOTHING if row[key] is None else f"{row[key]:.4f}" for key in ("p", "p_holm")]
            value = _cell({**row, "n_ok": row["n_pairs"]}, column)
            made.append((Cell(row["method"]), Cell(column.title), value, *map(Cell, [*counts, *tests])))
        header = (
            _METHOD,
            Heading("measure", number=False),
            *map(Heading, (f"minus {against}", "sets", "pairs", "p, sign flips", "p, Holm over methods")),
        )
        tables.append(Table(f"differences-{size}", f"Paired differences, {who(size)}", header, tuple(made)))
    return tables


def _cell(row: Row | None, column: Column, expected: int = 0, best: bool = False) -> Cell:
    """Mean and interval; the number of values if it is below the expected one."""
    if row is None or row["mean"] is None:
        return Cell(NOTHING)
    ends = None
    if row["low"] is not None and row["high"] is not None:
        low, high = (number(row[end], column, like=row["mean"]) for end in ("low", "high"))
        ends = (low, high)
    text = (ROUGHLY if row.get("extrapolated") else "") + number(row["mean"], column)
    return Cell(text, ends, row["n_ok"] if row["n_ok"] < expected else None, best=best, value=row["mean"])


def complete(row: Row | None, column: Column, best: bool = False) -> Cell:
    """Mean and interval of a column, with the number of values if any planned one is missing."""
    return _cell(row, column, row["n_total"] if row is not None else 0, best)


def number(value: float, column: Column, like: float | None = None) -> str:
    """A value as the tables show it: with the column's decimals, or its significant digits (or those of `like`)."""
    if column is REFERENCES:
        return f"{value:.0f}" if value == round(value) else f"{value:.1f}"
    if not column.significant:
        return f"{value:.{column.digits}f}"
    size = abs(value if like is None else like)
    before = math.floor(math.log10(size)) + 1 if size else column.digits
    return f"{value:.{max(column.digits - before, 0)}f}"


def _reaching(rows: Mapping[str, Row], least: float) -> set[str]:
    """The labels whose interval overlaps that of the lowest value, the only test available for measured costs."""
    reach = max(row["high"] or least for row in rows.values() if row["mean"] == least)
    return {label for label, row in rows.items() if (row["mean"] if row["low"] is None else row["low"]) <= reach}


def heading(column: Column) -> Heading:
    """The heading of a measured column."""
    return Heading(column.title, _better(column))


def _better(column: Column) -> str:
    return {True: "higher", False: "lower", None: ""}[column.higher_is_better]


def _most(cells: Mapping[str, Row]) -> Row:
    """The quality column with the most values."""
    quality = [row for name, row in cells.items() if name not in (*_COSTS, REFERENCES.name, _TOTAL.name)]
    return max(quality, key=lambda row: row["n_ok"])


def _separated(cells: Cells) -> int:
    """Number of last rows that come from photographs."""
    return sum(next(iter(found.values()))["kind"] == "anchor" for found in cells.values())


def _with_total(found: Mapping[str, Row]) -> dict[str, Row]:
    """The rows with the seconds to customize and to generate one image, if there are jobs."""
    if "customize_seconds" not in found or _TOTAL.name in found:
        return dict(found)
    parts = [found["customize_seconds"]["mean"], found["image_seconds"]["mean"]]
    total = None if None in parts else sum(parts)
    return {**found, _TOTAL.name: {**found["customize_seconds"], "column": _TOTAL.name, "mean": total}}


def _kind(found: Mapping[str, Row]) -> str:
    """The kind of method, as far as the records show."""
    references, steps = (found.get(name, {}).get("mean") for name in (REFERENCES.name, "steps"))
    if references == 0:
        return "text only"
    return NOTHING if steps is None else "tuned" if steps else "tuning-free"


def _requests(column: Column) -> str:
    """What the published audit found of the scale of different prompts."""
    found = published_trust().get(column.name)
    if found is None or not found.requests:
        return ""
    return (
        "The scale depends on the prompt. Of the difference between the right person and a stranger, requests leave: "
        f"{found.requests} (audit of the pocket models)."
    )


def _title(size: int) -> str:
    return "One subject" if size == 1 else f"{size} subjects together"
