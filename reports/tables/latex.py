r"""Tables as LaTeX for a paper: booktabs rules, numbers aligned by siunitx, best values bold.

What is written is made to be read by \input or copied piece by piece; the document needs

    \usepackage[T1]{fontenc}
    \usepackage{booktabs, graphicx, siunitx, textcomp}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from fc_bench.reports.escaping import latex, plain
from fc_bench.reports.tables.model import NOTHING, Cell, Heading, Table

PACKAGES = r"\usepackage[T1]{fontenc}" + "\n" + r"\usepackage{booktabs, graphicx, siunitx, textcomp}"
_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?")


def latex_tables(tables: Sequence[Table], footnotes: Mapping[str, str], notes: Sequence[str]) -> str:
    """All tables as `table` environments, footnotes (mark -> text) under each that uses them, notes as comments."""
    about = "\n".join(f"% {plain(line)}" for line in [*PACKAGES.split("\n"), "", *notes])
    return "\n\n".join([about, *(latex_table(table, footnotes) for table in tables)]) + "\n"


def latex_table(table: Table, footnotes: Mapping[str, str]) -> str:
    """A table as a `table` environment, scaled down if it is wider than the text."""
    columns = [
        _Column(heading, [row[place] for row in table.rows], words=place == 0 or not heading.number)
        for place, heading in enumerate(table.header)
    ]
    lines = [" & ".join(column.title() for column in columns) + r" \\", r"\midrule"]
    for number, row in enumerate(table.rows):
        if table.separated and number == len(table.rows) - table.separated:
            lines.append(r"\midrule")
        lines.append(" & ".join(column.cell(cell) for column, cell in zip(columns, row, strict=True)) + r" \\")
    body = "\n".join(lines)
    used = dict.fromkeys(cell.mark for row in table.rows for cell in row if cell.mark)
    marks = [rf"\textsuperscript{{{latex(mark)}}}\,{latex(footnotes[mark])}" for mark in used]
    caption = latex(table.title) + (f". {latex(table.caption)}" if table.caption else "")
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            r"\sisetup{detect-weight=true, mode=match, group-digits=none}",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{table.name}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{' '.join(column.kind for column in columns)}}}",
            r"\toprule",
            body,
            r"\bottomrule",
            r"\end{tabular}}",
            *([r"\par\smallskip\footnotesize " + r" \par ".join(marks)] if marks else []),
            r"\end{table}",
        ]
    )


class _Column:
    """A column: words, numbers, or numbers with their intervals in a second column."""

    def __init__(self, heading: Heading, cells: Sequence[Cell], words: bool) -> None:
        numbers = [found for cell in cells if (found := _NUMBER.fullmatch(cell.text))]
        self._heading = heading
        self._words = words or len(numbers) + sum(cell.text == NOTHING for cell in cells) < len(cells) or not numbers
        self._wide = any(cell.after for cell in cells)
        sign = "-" if any(found[1] for found in numbers) else ""
        before = max((len(found[2]) for found in numbers), default=1)
        behind = max((len(found[3] or "") for found in numbers), default=0)
        aligned = f"S[table-format={sign}{before}" + (f".{behind}" if behind else "") + "]"
        value = ("l" if words else "r") if self._words else aligned
        self.kind = f"{value} @{{\\;}}l" if self._wide else value

    def title(self) -> str:
        """The head, over both columns if there are two."""
        text = latex(self._heading.whole)
        if self._wide:
            return rf"\multicolumn{{2}}{{c}}{{{text}}}"
        return text if self._words else f"{{{text}}}"

    def cell(self, cell: Cell) -> str:
        """Value, and the interval in the next column."""
        text = latex(cell.text) + (rf"\textsuperscript{{{latex(cell.mark)}}}" if cell.mark else "")
        if not self._words and not _NUMBER.fullmatch(cell.text):
            text = f"{{{text}}}"
        if cell.best:
            text = rf"\bfseries {text}"
        if not self._wide:
            return text
        return f"{text} & {_after(cell)}"


def _after(cell: Cell) -> str:
    parts = []
    if cell.interval is not None:
        low, high = (rf"\num{{{end}}}" if _NUMBER.fullmatch(end) else latex(end) for end in cell.interval)
        parts.append(rf"{{[}}{low}, {high}{{]}}")
    parts += [f"({cell.count})"] if cell.count is not None else []
    return rf"{{\footnotesize {' '.join(parts)}}}" if parts else ""
