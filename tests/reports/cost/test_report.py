"""`fc-bench report` of a cost run, alone and beside a quality run: files, page, and what is said."""

from __future__ import annotations

import pytest

from fc_bench.reports.report import read, write_report, write_report_page
from fc_bench.reports.state import STATE

TABLES = {"cost.md", "cost.csv", "cost.tex", "cost.html", "results.csv", "amortised.csv", "storage.csv"}
DRAWN = ("amortised-cost", "speed-up", "storage")
FIGURES = {f"figures/{name}.{ending}" for name in DRAWN for ending in ("pdf", "png", "svg")}


def files_below(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != STATE}


def test_cost_run_has_tables_figures_and_a_page(fc_bench, made_cost):
    folder = made_cost()
    done = fc_bench("report", folder)
    assert done.code == 0, done.err
    assert files_below(folder / "report") == {*TABLES, *FIGURES, "index.html"}
    assert "Seconds per image by images per subject" in done.out
    page = (folder / "report" / "index.html").read_text()
    for words in (
        "fastcomposer gives the first image of a new subject after 1.75 s",
        "dreambooth after ≈ 63.0 s (≈ 36.0x",
        "fc-bench cost --budget 1m --out runs/again",
        "The quality columns are empty: no metric runs where costs are measured",
        "2027-01-02T03:04:05+00:00",
    ):
        assert words in page
    assert "Samples</a>" not in page
    assert page.count("data:image/svg+xml;base64,") == 3


def both(*paths, out):
    """A report with the figures of cost alone; its parts."""
    runs = read(paths, out)
    parts = write_report(runs, families=("amortised", "storage"), endings=(".png",))
    write_report_page(runs, parts)
    return parts


def test_quality_and_cost_runs_stand_in_one_report(fc_bench, made_cost, copied, tmp_path):
    run, cost = (
        copied("run", methods=("text-only", "fastcomposer", "dreambooth"), sets=("p01", "p02", "p03")),
        made_cost(),
    )
    done = fc_bench("report", run, cost, "--out", tmp_path / "tables", "--no-figures")
    assert done.code == 0, done.err
    assert "One subject: overview, cost from cost" in done.out
    assert "\nCost on pocket: cost\n" in done.out
    quality, measured = both(run, cost, out=tmp_path / "both")
    assert (quality.left_out, [drawing.name for drawing in quality.drawings]) == ((), [])
    assert [drawing.name for drawing in measured.drawings] == list(DRAWN)
    written = files_below(tmp_path / "both")
    assert {f"cost/{name}" for name in TABLES} | {
        "index.html",
        "pocket/table.tex",
        "cost/figures/storage.png",
    } <= written
    page = (tmp_path / "both" / "index.html").read_text()
    for part in ("run", "cost"):
        assert page.count(f"<h3><bdi>{part}</bdi></h3>") >= 2
    assert "Samples</a>" in page


def test_figures_of_a_cost_run_that_does_not_fit_leave_the_quality_run_s_own(made_cost, copied, tmp_path):
    run = copied("run", methods=("text-only", "fastcomposer", "dreambooth"), sets=("p01", "p02", "p03"))
    other = made_cost(settings=lambda settings: {**settings, "backbone": "sd15"})
    quality, measured = both(run, other, out=tmp_path / "both")
    assert quality.left_out == ("The costs of cost are not included: run has another backbone.",)
    assert [drawing.name for drawing in quality.drawings] == ["amortised-cost", "storage"]
    assert "Grey: the published 300x to 2,500x" in measured.drawings[1].caption


def test_methods_of_plug_ins_look_the_same_in_all_parts(made_cost, copied, tmp_path):
    few = {"methods": ("text-only", "dreambooth", "custom-diffusion"), "sets": ("p01", "p02", "p03")}
    run = copied("run", **few, relabel={"dreambooth": "mine", "custom-diffusion": "yours"})
    cost = made_cost(relabel={"dreambooth": "yours", "custom-diffusion": "mine"})
    found = {}
    runs = read([run, cost], tmp_path / "both")
    for part in write_report(runs, families=("tradeoff",), endings=()):
        for drawing in part.drawings[:1]:
            (legend,) = drawing.figure.legends
            for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True):
                found.setdefault(text.get_text(), set()).add((line.get_color(), line.get_marker()))
    assert {name: len(looks) for name, looks in found.items()} == dict.fromkeys(found, 1)
    assert len({*found["mine"], *found["yours"]}) == 2


@pytest.mark.parametrize("lost", ["everything", "customize"])
def test_cost_run_that_has_only_begun_is_reported(fc_bench, made_cost, lost):
    folder = made_cost(record=lambda line: None if lost in ("everything", line["phase"], line["method"]) else line)
    done = fc_bench("report", folder)
    assert done.code == 0, done.err
    assert (folder / "report" / "index.html").exists()


def test_failed_measurements_are_told_on_the_page(fc_bench, made_cost):
    def failing(line):
        if (line["method"], line["phase"]) != ("dreambooth", "customize"):
            return line
        error = {"type": "MemoryError", "message": "it used too much", "traceback": ""}
        return {
            "method": "dreambooth",
            "phase": "customize",
            "status": "out of memory",
            "budget_seconds": 60.0,
            "used_bytes": 3 * 2**30,
            "error": error,
        }

    folder = made_cost(record=failing)
    assert fc_bench("report", folder, "--no-figures").code == 0
    assert (
        "Not measured whole: dreambooth (out of memory at 3.0 GiB)." in (folder / "report" / "index.html").read_text()
    )
