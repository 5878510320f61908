"""Tables show the frame's values, the same in every format, and nobody's text becomes markup."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from rich.console import Console

from fc_bench.reports.frame import frame, incomparable_costs, read_runs, rows
from fc_bench.reports.quality.contents import contents
from fc_bench.reports.quality.notes import footnote_marks, footnotes, notes
from fc_bench.reports.quality.output import Tables, write_tables
from fc_bench.reports.tables.comma_separated import csv_frame, csv_tables
from fc_bench.reports.tables.html import html_table
from fc_bench.reports.tables.latex import PACKAGES, latex_table, latex_tables
from fc_bench.reports.tables.markdown import markdown_table
from fc_bench.reports.tables.model import Cell, Heading, Table
from fc_bench.reports.tables.terminal import print_table


def shown(table: Table) -> dict[str, dict[str, Cell]]:
    """First cell -> title of the column -> cell."""
    titles = [heading.text for heading in table.header]
    return {row[0].text: dict(zip(titles, row, strict=True)) for row in table.rows}


def by_name(tables) -> dict[str, Table]:
    assert len({table.name for table in tables}) == len(tables)
    return {table.name: table for table in tables}


@pytest.fixture(scope="module")
def tables(pocket):
    return Tables([pocket])


def test_every_value_and_interval_of_the_quality_tables_is_the_frame_s(pocket, tables):
    every = by_name(tables.everything)
    titles = {column.name: column.title for column in pocket.columns}
    shares = ("told_apart", "in_order", "detection_rate", "face_count", "verified")
    checked = 0
    for row in rows([pocket]):
        if row["column"] in titles and row["category"] == "all" and row["mean"] is not None:
            cell = shown(every[f"quality-{row['subjects']}"])[row["label"]][titles[row["column"]]]
            digits = 2 if row["column"] in shares else 3
            assert cell.text == f"{row['mean']:.{digits}f}"
            ends = None if row["low"] is None else (f"{row['low']:.{digits}f}", f"{row['high']:.{digits}f}")
            assert cell.interval == ends
            checked += 1
    assert checked == 166  # 7 methods with 8 and 12 columns, 2 anchors with 5 and 8


def test_overview_has_references_quality_cost_and_counts_of_each_method(pocket, tables):
    overview = shown(by_name(tables.everything)["overview-1"])
    results = {(row["label"], row["column"]): row["mean"] for row in rows([pocket]) if row["subjects"] == 1}
    found = overview["dreambooth"]
    assert [found[title].text for title in ("n", "references")] == ["40 / 40", "5"]
    assert found["s to customize"].text == f"{results['dreambooth', 'customize_seconds']:.2f}"
    assert found["s per image"].text == f"{results['dreambooth', 'image_seconds']:.2f}"
    assert found["peak GiB"].text == f"{results['dreambooth', 'peak_memory_gib']:.2f}"
    assert found["MiB kept"].text == "23.5"
    assert overview["ceiling (own photographs)"]["n"].text == "32 / 32"
    assert overview["ceiling (own photographs)"]["s per image"].text == "–"


def test_best_is_that_of_the_methods_that_see_the_subject(tables):
    found = shown(by_name(tables.everything)["overview-1"])
    best = {title: [name for name, cells in found.items() if cells[title].best] for title in found["dreambooth"]}
    assert best["identity preservation"] == ["dreambooth"]
    # The ceiling has the highest identity.
    assert best["prompt consistency"] == ["ip-adapter"]
    assert best["s to customize"] == ["fastcomposer"]
    assert best["n"] == best["references"] == []


def test_value_of_a_method_with_missing_samples_is_not_the_best(copied):
    def best_of(run):
        found = shown(contents([run], {}).quality(run.columns)[0])
        return [label for label, cells in found.items() if cells["identity preservation"].best]

    (run,) = read_runs([copied("run")])
    (best,) = best_of(run)
    name = next(row["sample"] for row in run.measured.rows() if row["method"] == best and row["subjects"] == 1)
    (less,) = read_runs([copied("less", score=lambda record: None if record["sample"] == name else record)])
    (other,) = best_of(less)
    assert other != best


def test_the_same_value_everywhere_is_not_the_best_of_anything(tables):
    found = shown(by_name(tables.everything)["quality-1"])
    assert {cells["faces detected"].text for cells in found.values()} == {"1.00", "–"}
    assert not any(cells["faces detected"].best for cells in found.values())


def test_paper_s_layout_has_its_columns_and_total_time(pocket):
    single, multi = Tables([pocket], "paper").everything
    assert [heading.text for heading in single.header] == [
        "method",
        "images",
        "type",
        "identity preservation",
        "prompt consistency",
        "total time (s)",
        "peak memory (GiB)",
    ]
    assert [heading.text for heading in multi.header][-2:] == ["identity preservation", "prompt consistency"]
    results = {(row["label"], row["column"]): row["mean"] for row in rows([pocket]) if row["subjects"] == 1}
    spent = results["dreambooth", "customize_seconds"] + results["dreambooth", "image_seconds"]
    assert shown(single)["dreambooth"]["total time (s)"].text == f"{spent:.2f}"
    kinds = {label: cells["type"].text for label, cells in shown(single).items()}
    assert (kinds["text-only"], kinds["fastcomposer"], kinds["dreambooth"]) == ("text only", "tuning-free", "tuned")


def test_categories_are_the_frame_s(pocket, tables):
    table = shown(by_name(tables.everything)["category-identity-2"])
    (row,) = [
        row
        for row in rows([pocket])
        if (row["label"], row["subjects"], row["category"], row["column"]) == ("fastcomposer", 2, "style", "identity")
    ]
    assert table["fastcomposer"]["style"].text == f"{row['mean']:.3f}"


def test_paired_differences_go_over_runs(copied):
    lowered = copied(
        "lower",
        methods=("fastcomposer",),
        score=lambda record: _shifted(record, -0.25),
        relabel={"fastcomposer": "less"},
    )
    runs = read_runs([copied("one", methods=("fastcomposer",)), lowered])
    table = next(table for table in Tables(runs).everything if table.name == "differences-1")
    found = {(row[0].text, row[1].text): row[2] for row in table.rows}
    assert found["less", "identity preservation"].text == "-0.250"
    assert table.header[2].text == "minus fastcomposer"


def test_times_of_different_machines_are_marked_and_have_no_best(copied):
    def slower(run):
        hardware = {**run["commands"][0]["hardware"], "processor": "another"}
        return {**run, "commands": [{**run["commands"][0], "hardware": hardware}]}

    runs = read_runs([copied("one"), copied("two", methods=("dreambooth-lora",), settings=slower)])
    assert set(incomparable_costs(runs)) >= {"image_seconds", "customize_seconds", "peak_memory_gib"}
    assert "artefact_mib" not in incomparable_costs(runs)
    cells = shown(next(table for table in Tables(runs).everything if table.name == "overview-1"))
    assert not any(row["s per image"].best for row in cells.values())
    assert [name for name, row in cells.items() if row["MiB kept"].best] == ["fastcomposer"]
    (line,) = [line for line in notes(runs) if "do not compare" in line]
    assert "s per image" in line
    assert "one and two: different hardware" in line


def test_rows_over_different_samples_are_said_to_be(copied):
    runs = read_runs([copied("one"), copied("two", methods=("dreambooth-lora",), sets=("p01", "p02"))])
    (line,) = [line for line in notes(runs) if "rest on different samples" in line]
    assert "(15 of text-only, fastcomposer, dreambooth; 10 of dreambooth-lora)" in line
    cells = shown(contents(runs, {}).quality(runs[0].columns)[0])
    assert not any(cell.best for row in cells.values() for cell in row.values())
    assert not [line for line in notes(runs[:1]) if "rest on different samples" in line]


def test_markdown_and_html_and_terminal_show_the_same_cells(tables):
    table = by_name(tables.everything)["quality-2"]
    console = Console(file=io.StringIO(), width=400, no_color=True)
    print_table(table, console)
    terminal = console.file.getvalue()
    markdown = markdown_table(table)
    html = _Text()
    html.feed(html_table(table))
    assert len(html.rows) == len(table.rows) + 1
    for row, line, found in zip(table.rows, markdown.splitlines()[2:], html.rows[1:], strict=True):
        for cell in row:
            assert cell.text in terminal
            assert cell.after in terminal
        assert line.replace("**", "") == "| " + " | ".join(_marked(cell) for cell in row) + " |"
        assert [text.strip() for text in found] == [f"{cell.text}{cell.mark} {cell.after}".strip() for cell in row]
    best = [cell for row in table.rows for cell in row if cell.best]
    assert best
    assert markdown.count("**") == 2 * len(best)
    assert html_table(table).count("<strong>") == len(best)
    for cell in best:
        assert f"**{cell.text}**" in markdown
        assert f"<strong>{cell.text}</strong>" in html_table(table)


def test_csv_of_the_frame_reads_back_as_the_frame(pocket):
    read = list(csv.DictReader(io.StringIO(csv_frame(frame([pocket])))))
    expected = rows([pocket])
    assert len(read) == len(expected)
    for line, row in zip(read, expected, strict=True):
        assert line["label"] == row["label"]
        assert line["mean"] == ("" if row["mean"] is None else repr(float(row["mean"])))


def test_footnotes_stand_at_their_rows_and_under_the_latex_table(pocket, tables):
    assert footnote_marks([pocket]) == {("ip-adapter", 2): "1", ("dreambooth", 2): "2"}
    text = latex_table(by_name(tables.printed)["quality-2"], footnotes([pocket]))
    assert r"dreambooth\textsuperscript{2} & 12 / 12" in text
    assert r"\textsuperscript{2}\,two subjects are trained jointly" in text
    assert r"\textsuperscript" not in latex_table(by_name(tables.printed)["quality-1"], footnotes([pocket]))


def check_latex(text: str) -> None:
    """Environments are balanced, rows have as many cells as columns, braces are balanced, nothing special is bare."""
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    bare = re.sub(r"\\[{}%&#_$\\]", "", "\n".join(lines))
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"[_^#~<>|\"]", re.sub(r"\\label\{[^}]*\}|\\ifdim\\width>", "", bare))
    for block in re.findall(r"\\begin\{tabular\}\{([^\n]*)\}\n(.*?)\\end\{tabular\}", "\n".join(lines), re.DOTALL):
        width = len(re.findall(r"[lr]|S", re.sub(r"\[[^]]*\]|@\{[^}]*\}", "", block[0])))
        cells = [line for line in block[1].splitlines() if line.endswith(r" \\")]
        assert len(cells) > 1
        for line in cells:
            spans = sum(int(count) - 1 for count in re.findall(r"\\multicolumn\{(\d)\}", line))
            assert len(re.sub(r"\\&", "", line).split("&")) + spans == width, line


def test_latex_is_well_formed_and_shows_the_values(pocket, tables):
    text = latex_tables(tables.printed, footnotes([pocket]), notes([pocket]))
    check_latex(text)
    assert text.count(r"\begin{table}") == len(tables.printed)
    best = shown(by_name(tables.everything)["overview-1"])["dreambooth"]["identity preservation"]
    low, high = best.interval
    assert rf"\bfseries {best.text} & {{\footnotesize {{[}}\num{{{low}}}, \num{{{high}}}{{]}}}}" in text


def hostile_tables(copied, hostile):
    """The tables of a run whose method, prompt category, suite and remark are hostile."""

    def settings(run):
        return {
            **run,
            "suite": {**run["suite"], "description": hostile},
            "remarks": [{"method": hostile, "subjects": 1, "text": f"remark {hostile}"}],
            "left_out": [f"left out {hostile}"],
        }

    labels = {"dreambooth": hostile}
    folder = copied("run", relabel=labels, settings=settings)
    for name in ("plan.jsonl", "samples.jsonl"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace('"style"', '"=style|<b>"'))
    runs = read_runs([folder])
    return runs, Tables(runs)


def test_hostile_text_stays_text_in_markdown(copied, hostile, tmp_path):
    _, tables = hostile_tables(copied, hostile)
    write_tables(tables, tmp_path / "out")
    text = (tmp_path / "out" / "table.md").read_text()
    assert "<script" not in text
    assert "](javascript" not in text
    cells = [line for line in text.splitlines() if line.startswith("|")]
    for line in cells:
        assert not re.search(r"(?<!\\)`", line)
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in markdown_table(tables.everything[0]).splitlines()}
    assert len(widths) == 1


def test_hostile_text_stays_text_in_html(copied, hostile, tmp_path):
    _, tables = hostile_tables(copied, hostile)
    write_tables(tables, tmp_path / "out")
    page = _Text()
    page.feed((tmp_path / "out" / "table.html").read_text())
    assert not page.tags & {"script", "b", "img", "a"}
    assert any(cell.startswith(hostile) for row in page.rows for cell in row)


def test_hostile_text_is_no_formula_in_csv(copied, hostile):
    runs, tables = hostile_tables(copied, hostile)
    for text in (csv_tables(tables.everything), csv_frame(frame(runs))):
        found = list(csv.DictReader(io.StringIO(text)))
        words = [value for row in found for key, value in row.items() if key in ("method", "label", "category", "run")]
        assert f"'{hostile}" in words
        assert not [word for word in words if word[:1] in ("=", "+", "-", "@")]
        assert not [key for key in found[0] if key[:1] in ("=", "+", "-", "@")]


def test_hostile_text_is_escaped_in_latex(copied, hostile):
    runs, tables = hostile_tables(copied, hostile)
    text = latex_tables(tables.printed, footnotes(runs), notes(runs))
    check_latex(text)
    assert r"=1+1{[}U+4EBA{]}\textless{}script\textgreater{}alert(" in text


def test_labels_cannot_break_out_of_a_line_or_the_terminal(copied):
    label = "bad\nlabel\x1b[31m\u202e"
    (run,) = read_runs([copied("run", relabel={"dreambooth": label})])
    tables = Tables([run])
    console = Console(file=io.StringIO(), width=300)
    tables.show(console)
    for text in (console.file.getvalue(), markdown_table(tables.everything[0]), csv_tables(tables.everything)):
        assert "bad label" in text
        assert "\x1b" not in text.replace("\x1b[1m", "").replace("\x1b[0m", "")
        assert "\u202e" not in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex; the syntax is checked without it")
def test_latex_compiles(copied, hostile, tmp_path):
    runs, tables = hostile_tables(copied, hostile)
    for name, text in {
        "table": latex_tables(tables.printed, footnotes(runs), notes(runs)),
        "paper": latex_tables(Tables(runs, "paper").printed, footnotes(runs), []),
    }.items():
        document = f"\\documentclass{{article}}\n{PACKAGES}\n\\begin{{document}}\n{text}\n\\end{{document}}\n"
        (tmp_path / f"{name}.tex").write_text(document)
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout[-2000:]


def test_numbers_align_by_the_widest_of_their_column():
    header = (Heading("method", number=False), Heading("value"), Heading("text"))
    rows = (
        (Cell("a"), Cell("-1.50", ("-2.00", "10.25")), Cell("5 / 5")),
        (Cell("[b"), Cell("–"), Cell("4 / 5")),
        (Cell("*c"), Cell("12.25", best=True, count=3), Cell("4 / 5")),
    )
    text = latex_table(Table("t", "T", header, rows), {})
    check_latex(text)
    assert r"\begin{tabular}{l S[table-format=-2.2] @{\;}l r}" in text
    assert r"{[}b & {--} &  & 4 / 5 \\" in text
    assert r"{*}c & \bfseries 12.25 & {\footnotesize (3)} & 4 / 5 \\" in text


def _shifted(record, by):
    if record["metric"] != "identity" or record["status"] != "ok" or record["sample"].startswith("anchor:"):
        return record
    return {**record, "values": {**record["values"], "identity": record["values"]["identity"] + by}}


def _marked(cell):
    return f"{cell.text}{cell.superscript} {cell.after}".strip()


class _Text(HTMLParser):
    """Rows of cells as text, and all tags."""

    def __init__(self):
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self._in_cell = False

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._in_cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data):
        if self._in_cell:
            self.rows[-1][-1] += data
