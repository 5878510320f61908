"""Output of a comparison of two runs: on the terminal, as a Markdown summary for CI, and as JUnit XML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from fc_bench.analysis.verdicts import Comparison, Report
from fc_bench.reports.escaping import markdown, plain
from fc_bench.reports.tables.markdown import markdown_table
from fc_bench.reports.tables.model import NOTHING, Table, text_table

_STYLES = {"better": "green", "worse": "red", "changed": "red", "not comparable": "dim"}


def comparison_table(report: Report, title: str) -> Table:
    """All comparisons, one per row."""
    header = ("method", "subjects", "measure", "base", "new", "difference", "tolerance", "pairs", "verdict")
    return text_table("comparison", title, header, [_cells(item) for item in report.comparisons])


def print_comparison(report: Report, base: str, new: str, console: Console) -> None:
    """Print gated columns, headlines and all differences, refused rows in color, and the conclusion."""
    shown = [item for item in report.comparisons if item.gated or item.column.headline or item.verdict in _STYLES]
    left_out = len(report.comparisons) - len(shown)
    report = replace(report, comparisons=tuple(shown))
    table = comparison_table(report, f"{new} against {base}")
    shown = RichTable(title=Text(plain(table.title)), title_justify="left")
    for number, heading in enumerate(table.header):
        shown.add_column(heading.text, justify="right" if 3 <= number <= 7 else "left", overflow="fold")
    for item, cells in zip(report.comparisons, table.texts(), strict=True):
        shown.add_row(*(Text(plain(cell)) for cell in cells), style=_STYLES.get(item.verdict, ""))
    console.print(shown)
    unchanged = [f"{left_out} more measures are unchanged."] if left_out else []
    for line in [*unchanged, *_notes(report), conclusion(report)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def comparison_markdown(report: Report, base: str, new: str) -> str:
    """The summary: the conclusion, then refused and missing values, then everything in a fold."""
    gated = replace(report, comparisons=tuple(item for item in report.comparisons if item.gated))
    return "\n\n".join(
        [
            markdown(f"### {new} against {base}: {conclusion(report)}"),
            markdown_table(comparison_table(gated, "")) if gated.comparisons else "The gate checks nothing.",
            *map(markdown, _notes(report)),
            "<details><summary>All measures</summary>",
            markdown_table(comparison_table(report, "")),
            "</details>\n",
        ]
    )


def comparison_junit(report: Report, base: str, new: str) -> bytes:
    """JUnit XML: a test case for each gated comparison; refused ones fail, missing samples and obstacles are errors."""
    gated = [item for item in report.comparisons if item.gated]
    failed = [item for item in gated if item.alarm]
    errors = [item for item in gated if not item.alarm and (item.incomplete or item.verdict == "not comparable")]
    suite = ElementTree.Element(
        "testsuite",
        name=f"fc-bench compare {base} {new}",
        tests=str(len(gated)),
        failures=str(len(failed)),
        errors=str(len(errors)),
        skipped="0",
    )
    for item in gated:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_name(item), name=f"{item.column.name}, {_people(item)}"
        )
        if item in failed:
            ElementTree.SubElement(case, "failure", message=sentence(item), type=item.verdict)
        elif item in errors:
            ElementTree.SubElement(case, "error", message=sentence(item), type=item.verdict)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def sentence(item: Comparison) -> str:
    """One comparison in words."""
    what = f"{item.column.title} of {_name(item)} on {_people(item)}"
    if item.verdict == "not comparable":
        return f"{what}: not comparable ({item.reason})"
    missing = f"; {item.incomplete}" if item.incomplete else ""
    outside = f", tolerance {_signless(item)}" if item.tolerance is not None else ""
    return f"{what}: {item.verdict} by {_difference(item)}{outside}{missing}"


def conclusion(report: Report) -> str:
    """The conclusion of the gate, in one sentence."""
    gated = [item for item in report.comparisons if item.gated]
    alarms = [item for item in gated if item.alarm]
    if alarms:
        rest = f" and {len(alarms) - 1} more" if len(alarms) > 1 else ""
        return f"refused: {sentence(alarms[0])}{rest}."
    missing = [item for item in gated if item.incomplete]
    if missing:
        return f"incomplete: {_name(missing[0])} on {_people(missing[0])}: {missing[0].incomplete}."
    obstacles = [item for item in gated if item.verdict == "not comparable"]
    if obstacles:
        return f"not comparable: {sentence(obstacles[0])}."
    return f"accepted: {len(gated)} gated measures, all within their tolerance." if gated else "nothing is gated."


def _notes(report: Report) -> Sequence[str]:
    gated = sum(1 for item in report.comparisons if item.gated)
    level = (
        f"Intervals at {report.level:.2%}: with {gated} gated measures, unchanged methods raise any alarm in at most "
        f"{report.false_alarms:.0%} of comparisons. New minus base over pairs of equal subjects, prompt and index; "
        "for costs new / base - 1."
    )
    return [level, *report.notes]


def _cells(item: Comparison) -> tuple[str, ...]:
    verdict = item.verdict + (f" ({item.reason})" if item.verdict == "not comparable" else "")
    if item.incomplete and item.verdict != "not comparable":
        verdict += f" ({item.incomplete})"
    return (
        _name(item),
        str(item.subjects),
        item.column.title,
        _value(item, item.base),
        _value(item, item.new),
        _difference(item),
        _signless(item),
        f"{item.pairs} / {item.planned}",
        f"{verdict}: refused" if item.alarm else verdict,
    )


def _name(item: Comparison) -> str:
    return item.method if item.method == item.new_method else f"{item.method} -> {item.new_method}"


def _people(item: Comparison) -> str:
    return "one subject" if item.subjects == 1 else f"{item.subjects} subjects"


def _value(item: Comparison, value: float | None) -> str:
    return NOTHING if value is None else f"{value:.{item.column.digits}f}"


def _difference(item: Comparison) -> str:
    found = item.difference
    if found.mean is None:
        return NOTHING
    shown = (lambda value: f"{value:+.1%}") if item.relative else (lambda value: f"{value:+.{item.column.digits}f}")
    interval = "" if found.low is None or found.high is None else f" [{shown(found.low)}, {shown(found.high)}]"
    return shown(found.mean) + interval


def _signless(item: Comparison) -> str:
    if item.tolerance is None:
        return NOTHING
    return f"{item.tolerance:.0%}" if item.relative else f"{item.tolerance:g}"
