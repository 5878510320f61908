"""Tables as CSV: the shown tables one below the other, and the frame with all digits."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fc_bench.reports.escaping import spreadsheet
from fc_bench.reports.tables.model import Table


def csv_tables(tables: Sequence[Table]) -> str:
    """All tables as shown, without marks; the first column names the table, missing columns are empty."""
    header = list(dict.fromkeys(heading.text for table in tables for heading in table.header))
    rows = []
    for table in tables:
        # Numbers may begin with a minus, words may not begin with what a spreadsheet takes for a formula.
        kinds = [(spreadsheet(heading.text), heading.number) for heading in table.header]
        for row in table.rows:
            cells = zip(kinds, row, strict=True)
            shown = {name: cell.whole if number else spreadsheet(cell.whole) for (name, number), cell in cells}
            rows.append({"table": spreadsheet(table.title), **shown})
    return pd.DataFrame(rows, columns=["table", *map(spreadsheet, header)]).to_csv(index=False)


def csv_frame(frame: pd.DataFrame) -> str:
    """The frame with all digits; text that a spreadsheet would run as a formula begins with an apostrophe."""
    words = [name for name in frame.columns if frame[name].dtype.kind not in "iuf"]
    return frame.assign(**{name: frame[name].map(spreadsheet) for name in words}).to_csv(index=False)
