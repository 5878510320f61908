"""`fc-bench report`: what it writes, of one run and of several, with images and without."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from fc_bench.reports.figures import FAMILIES, draw
from fc_bench.reports.frame import read_runs
from fc_bench.reports.state import STATE

TABLES = ["table.md", "table.csv", "table.tex", "table.html", "results.csv"]


def files_below(folder):
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(str(name) for name in names if name.name != STATE)


def test_kept_run_without_images_has_tables_and_the_figures_that_need_none(fc_bench, copied):
    folder = copied("run", sets=("p01", "p02", "p03"))
    done = fc_bench("report", folder)
    assert done.code == 0, done.err
    assert f"The image grid is left out: the images of {folder} are missing, only their records exist.\n" in done.out
    written = files_below(folder / "report")
    assert set(TABLES) <= set(written)
    assert {f"figures/tradeoff-1.{ending}" for ending in ("pdf", "png", "svg")} <= set(written)
    assert not [name for name in written if "grid" in name]
    assert f"wrote {folder / 'report' / 'figures' / 'storage'}.pdf, .png, .svg\n" in done.out


def test_tables_alone_are_written_where_asked(fc_bench, copied, tmp_path):
    done = fc_bench("report", copied("run"), "--no-figures", "--out", tmp_path / "elsewhere")
    assert done.code == 0, done.err
    assert files_below(tmp_path / "elsewhere") == sorted([*TABLES, "index.html"])
    assert not (tmp_path / "run" / "report").exists()


def test_paper_s_layout_is_printed_and_written_under_its_name(fc_bench, copied):
    folder = copied("run")
    done = fc_bench("report", folder, "--layout", "paper", "--no-figures")
    assert done.code == 0, done.err
    assert "Single-subject generation" in done.out
    assert "One subject" not in done.out
    assert set(files_below(folder / "report")) == {"index.html", *(name.replace("table", "paper") for name in TABLES)}
    assert "total time (s)" in (folder / "report" / "paper.tex").read_text()


def test_rows_of_runs_that_asked_the_same_stand_in_one_table(fc_bench, copied, tmp_path):
    one, two = copied("one"), copied("two", methods=("fastcomposer", "dreambooth-lora"))
    done = fc_bench("report", one, two, "--no-figures", "--out", tmp_path / "both")
    assert done.code == 0, done.err
    with (tmp_path / "both" / "results.csv").open() as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if (row["column"], row["category"], row["subjects"]) == ("identity", "all", "1")
        ]
    assert {(row["run"], row["label"]) for row in rows if row["kind"] == "method"} == {
        ("one", "text-only"),
        ("one", "fastcomposer (one)"),
        ("one", "dreambooth"),
        ("two", "fastcomposer (two)"),
        ("two", "dreambooth-lora"),
    }
    assert "fastcomposer (two)" in done.out


def test_runs_that_asked_something_else_have_parts_of_their_own(fc_bench, copied, tmp_path):
    def newer(run):
        return {**run, "suite": {**run["suite"], "version": "3"}}

    one, two = copied("one"), copied("two", settings=newer)
    done = fc_bench("report", one, two, "--no-figures", "--out", tmp_path / "both")
    assert done.code == 0, done.err
    parts = [f"{part}/{name}" for part in ("pocket", "pocket-2") for name in TABLES]
    assert files_below(tmp_path / "both") == sorted([*parts, "index.html"])
    assert "pocket 2 on pocket: one\n" in done.out
    assert "pocket 3 on pocket: two\n" in done.out
    assert "(one)" not in done.out


def test_several_runs_need_a_folder(fc_bench, copied):
    done = fc_bench("report", copied("one"), copied("two"))
    assert (done.code, "name one with --out" in done.err) == (2, True)


def test_unknown_subjects_of_the_grid_are_refused(fc_bench, copied, painted):
    done = fc_bench("report", painted(copied("run")), "--subjects", "p99")
    assert done.code == 2
    assert 'no samples of the subjects "p99"' in done.err
    done = fc_bench("report", "anywhere", "--subjects", "p01", "--grid-seed", 1)
    assert (done.code, "leave one out" in done.err) == (2, True)


def test_report_that_cannot_be_written_is_one_sentence(fc_bench, copied):
    folder = copied("run")
    (folder / "report").write_text("in the way")
    done = fc_bench("report", folder, "--no-figures")
    assert done.code == 2
    assert done.err.startswith(f"fc-bench: The report cannot be written to {folder / 'report'} (")
    assert done.err.count("\n") == 1


def test_run_with_images_has_its_grid(fc_bench, copied, painted):
    folder = painted(copied("run", methods=("text-only", "fastcomposer"), sets=("p01",)))
    assert fc_bench("report", folder, "--grid-seed", 3).code == 0
    assert (folder / "report" / "figures" / "grid.svg").exists()


@pytest.mark.parametrize("lost", ["samples.jsonl", "scores.jsonl", "jobs.jsonl"])
def test_run_that_has_only_begun_is_reported(fc_bench, copied, lost):
    folder = copied("run", methods=("fastcomposer", "dreambooth"), sets=("p01", "p02"))
    (folder / lost).unlink()
    done = fc_bench("report", folder, "--no-figures")
    assert done.code == 0, done.err
    assert (" 0 / 10" in done.out) == (lost != "jobs.jsonl")
    draw(read_runs([folder]))


def test_documentation_names_every_family_of_figures():
    text = (Path(__file__).parents[2] / "docs" / "reports.md").read_text()
    assert [name for name in FAMILIES if f"`{name}" not in text] == []
