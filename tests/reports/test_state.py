"""A report is written again exactly when something that it rests on or holds has changed."""

from __future__ import annotations

import json
import re
import sys

import pytest

from fc_bench.reports.state import STATE
from fc_bench.run_folder.file_states import code_state


@pytest.fixture
def folder(fc_bench, copied, monkeypatch):
    """A run of three people with its report, whose figures are one family."""
    from fc_bench.reports import figures

    monkeypatch.setattr(figures, "FAMILIES", {"tradeoff": figures.FAMILIES["tradeoff"]})
    folder = copied("run", sets=("p01", "p02", "p03"))
    image = folder / json.loads((folder / "samples.jsonl").read_text().splitlines()[0])["image"]
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(b"not read as an image")
    assert fc_bench("report", folder).code == 0
    return folder


@pytest.fixture
def reads(monkeypatch):
    """How often runs were read for a report."""
    from fc_bench.reports import report

    seen: list[object] = []
    read = report.read

    def counted(*arguments):
        seen.append(arguments)
        return read(*arguments)

    monkeypatch.setattr(report, "read", counted)
    return seen


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != STATE}


def test_unchanged_report_is_printed_and_left_as_it_is(fc_bench, folder, reads):
    report, tables = folder / "report", fc_bench("report", folder, "--layout", "suite")
    before = {file: file.stat().st_mtime_ns for file in report.rglob("*")}
    done = fc_bench("report", folder)
    assert not reads
    assert done.code == 0, done.err
    assert "One subject" in done.out
    assert done.out == tables.out
    assert done.out.endswith(f"{report / 'index.html'} is up to date\n")
    assert {file: file.stat().st_mtime_ns for file in report.rglob("*")} == before


@pytest.mark.parametrize(
    "name", ["run.json", "plan.jsonl", "samples.jsonl", "jobs.jsonl", "scores.jsonl", "image", "references/p01.png"]
)
def test_any_changed_or_removed_file_of_the_run_has_its_report_written_again(fc_bench, folder, reads, name):
    image = folder / json.loads((folder / "samples.jsonl").read_text().splitlines()[0])["image"]
    file = image if name == "image" else folder / name
    if file.exists() and name not in ("run.json", "plan.jsonl"):
        content = file.read_bytes()
        file.unlink()
        assert fc_bench("report", folder, "--no-figures").code == 0
        assert len(reads) == 1
        file.write_bytes(content)
    else:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(file.read_bytes() if file.exists() else b"")
    reads.clear()
    assert fc_bench("report", folder, "--no-figures").code == 0
    assert len(reads) == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--layout", "paper"),
        ("--subjects", "p01"),
        ("--grid-seed", "1"),
        ("--images", "embed"),
        ("--no-figures",),
    ],
)
def test_another_request_is_another_report(fc_bench, folder, reads, options):
    (folder / "samples.jsonl").touch()
    assert fc_bench("report", folder, "--no-figures").code == 0
    reads.clear()
    done = fc_bench("report", folder, "--no-figures", *options)
    assert done.code == 0, done.err
    assert len(reads) == (options != ("--no-figures",))


def test_deleted_and_edited_files_of_a_report_come_back(fc_bench, folder):
    report = folder / "report"
    before = contents(report)
    (report / "figures" / "tradeoff-1.png").unlink()
    (report / "index.html").unlink()
    (report / "table.md").write_text("edited")
    assert fc_bench("report", folder).code == 0
    assert contents(report) == before


def test_other_code_writes_the_report_again(fc_bench, folder, reads, monkeypatch):
    from fc_bench.reports import state

    monkeypatch.setattr(state, "code_state", lambda: "another")
    assert fc_bench("report", folder, "--no-figures").code == 0
    assert len(reads) == 1


def test_damaged_state_writes_the_report_again(fc_bench, folder, reads):
    for content in ("", "[]", '{"files": 3}', "[" * 100_000):
        (folder / "report" / STATE).write_text(content)
        assert fc_bench("report", folder, "--no-figures").code == 0
    assert len(reads) == 4


def test_figures_of_an_older_state_are_removed_and_those_of_somebody_else_are_not(fc_bench, folder):
    figures = folder / "report" / "figures"
    (figures / "own.png").write_bytes(b"own")
    (figures / "tradeoff-1.svg").write_text("edited by hand")
    assert fc_bench("report", folder, "--no-figures").code == 0
    assert (figures / "tradeoff-1.png").is_file()
    lines = (folder / "scores.jsonl").read_text().splitlines(keepends=True)
    (folder / "scores.jsonl").write_text("".join(lines[:-1]))
    assert fc_bench("report", folder, "--no-figures").code == 0
    assert {file.name for file in figures.iterdir()} == {"own.png", "tradeoff-1.svg"}


def test_page_without_figures_names_the_command_that_draws_them_and_has_no_dead_links(fc_bench, folder, tmp_path):
    out = tmp_path / "a folder"
    assert fc_bench("report", folder, "--no-figures", "--out", out).code == 0
    page = (out / "index.html").read_text()
    assert "The figures are not drawn; this command draws them:" in page
    assert f"<code>fc-bench report {folder} --out &#39;{out}&#39;</code>" in page
    for name in re.findall(r'href="#([a-z-]+)"', page):
        assert f'id="{name}"' in page
    assert "<figure" not in page
    assert fc_bench("report", folder, "--out", out).code == 0
    page = (out / "index.html").read_text()
    assert "not drawn" not in page
    assert "<figure" in page


def test_state_of_the_code_follows_sources_and_installed_packages(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plugged").mkdir()
    source = tmp_path / "plugged" / "method.py"
    source.write_text("one = 1")
    states = [code_state(), code_state(["plugged"])]
    source.write_text("two = 2")
    states += [code_state(["plugged"])]
    (tmp_path / "plugged-1.0.dist-info").mkdir()
    states += [code_state(["plugged"])]
    assert len(set(states)) == 4
    assert code_state(["plugged"]) == states[-1]
    assert "plugged" not in sys.modules
