"""The main table of a run that is going on: a line for each finished row, while the others are generated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fc_bench.analysis.aggregate import columns_of
from fc_bench.reports.escaping import plain
from fc_bench.reports.frame import read_runs
from fc_bench.reports.quality.contents import contents, heading
from fc_bench.reports.tables.model import NOTHING
from fc_bench.run_folder.records import RunFolder


class FinishedRows:
    """Lines of text in columns: headings once, then each row as it is finished, without intervals.

    The values are those of the report at the end.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._titles = [heading(column).whole for column in columns_of(folder) if column.headline]
        labels = ["method", *folder.settings()["methods"]]
        self._widths = [max(map(len, labels)), len("subjects"), 11, *map(len, self._titles)]
        self._begun = False

    def lines(self, label: str) -> Iterator[str]:
        """The row's lines, one for each number of subjects; before the first row the headings."""
        [run] = read_runs([self._folder.path])
        if not self._begun:
            self._begun = True
            yield self._line(["method", "subjects", "n", *self._titles])
        found = contents([run], {})
        for size, table in zip(found.sizes, found.quality(found.headlines), strict=True):
            titles = [column.whole for column in table.header[2:]]
            for row in table.rows:
                if row[0].text == label:
                    values = dict(zip(titles, (cell.text for cell in row[2:]), strict=True))
                    numbers = [values.get(title, NOTHING) for title in self._titles]
                    yield self._line([label, str(size), row[1].text, *numbers])

    def _line(self, texts: Sequence[str]) -> str:
        first, *others = (plain(text) for text in texts)
        cells = [text.rjust(width) for text, width in zip(others, self._widths[1:], strict=True)]
        return "  ".join([first.ljust(self._widths[0]), *cells]).rstrip()
