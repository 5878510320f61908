"""Tables of a cost run show what was measured, mark what was not, and are published as they are."""

from __future__ import annotations

import csv
import shutil
import subprocess
from dataclasses import replace

import pytest

from fc_bench.cost.figures import Figure
from fc_bench.cost.results import MethodCost
from fc_bench.reports.cost.notes import cost_notes
from fc_bench.reports.cost.output import CostTables, write_cost_tables
from fc_bench.reports.cost.run import CostRun
from fc_bench.reports.cost.tables import amortised, break_evens, phases, speed_ups, storage
from fc_bench.reports.literature import published_cost
from fc_bench.reports.page.tables import page_table
from fc_bench.reports.reference import publish
from fc_bench.reports.tables.latex import PACKAGES
from fc_bench.run_folder.records import RunFolder

SECONDS = {"text-only": 1.0, "fastcomposer": 1.25, "dreambooth": 1.0, "custom-diffusion": 1.5}
"""Of an image in the made-up cost run."""
FAST = MethodCost(
    "fastcomposer",
    "fastcomposer",
    True,
    load=Figure(4.0),
    customize=Figure(0.004),
    image=Figure(100.0, 98.0, 101.0),
    artefact_bytes=0,
    shared_weights_bytes=3 * 2**30,
    peak_bytes={"image": 3 * 2**30},
)
TUNED = MethodCost(
    "dreambooth",
    "dreambooth",
    True,
    customize=Figure(15234.5, 15100.0, 15380.0, 3, True),
    steps=800,
    steps_taken=4,
    training_step=Figure(19.0, 18.9, 19.2, 3),
    load=Figure(3.0),
    image=Figure(99.0, 97.0, 101.5, 4, True),
    artefact_bytes=1965 * 2**20,
    artefact_dtypes=("BF16",),
    shared_weights_bytes=2 * 2**30,
    peak_bytes={"customize": 17 * 2**30, "image": 3 * 2**30},
    contended={"image": ("other processes used 20% of the processors",)},
    others_share={"image": 0.2, "customize": 0.01},
)
FAILED = MethodCost("lora", "lora", True, failures={"customize": "out of memory at 3.0 GiB"})


def row(block, name: str) -> dict[str, str]:
    found = next(cells for cells in block.texts() if cells[0].startswith(name))
    return dict(zip((heading.text for heading in block.header), found, strict=True))


def test_extrapolated_figures_are_marked_and_steps_are_told():
    table = phases([FAST, TUNED], "bfloat16")
    found = row(table, "dreambooth")
    assert [cells[0].superscript for cells in table.rows] == ["", "†"]
    assert found["customize s"] == "≈ 15,234 [15,100, 15,380]"
    assert found["steps taken / requested"] == "4 / 800"
    assert found["image s"] == "≈ 99.0 [97.0, 101.5]"
    assert (found["peak GiB"], found["MiB kept"], found["dtype"]) == ("17.00", "1,965", "bfloat16")
    assert (found["identity preservation"], found["prompt consistency"]) == ("–", "–")


def test_what_is_missing_is_shown_as_missing_and_never_as_0():
    found = row(phases([FAILED], "float32"), "lora")
    assert found["peak GiB"] == "out of memory"
    assert {found[key] for key in ("load s", "customize s", "image s", "MiB kept")} == {"–"}


def test_speed_up_stands_beside_the_published_claim():
    block = speed_ups([FAST, TUNED, FAILED])
    (found,) = block.texts()
    cells = dict(zip((heading.text for heading in block.header), found, strict=True))
    assert cells["one image"].startswith("≈ 153x [")
    assert cells["published"] == "300x to 2,500x"
    assert cells["class images included"] == "–"
    assert speed_ups([TUNED]).rows == ()


def test_break_even_tells_that_it_may_never_come():
    ((sooner, later, images, shared),) = break_evens([TUNED, FAST, FAILED]).texts()
    assert (sooner, later, shared) == ("fastcomposer", "dreambooth", "–")
    assert images.startswith("15,")
    assert images.endswith(", never]")


def test_storage_reaches_a_million_subjects_in_units_that_suit():
    found = row(storage([FAST, TUNED, FAILED]), "dreambooth")
    assert (found["1 subject"], found["1,000"], found["1,000,000"]) == ("1.92 GiB", "1.87 TiB", "1.83 PiB")
    assert row(storage([FAST, TUNED]), "fastcomposer")["1,000,000"] == "0"


def test_published_seconds_are_quoted_with_their_source():
    found = row(published_cost(), "DreamBooth")
    assert (found["s in total"], found["of FastComposer's"]) == ("1,284", "160x")
    assert "2312.04461" in found["source"]


def test_lowest_seconds_are_bold_and_so_is_what_their_interval_meets():
    def best(*costs: MethodCost) -> list[tuple[bool, bool]]:
        table = phases(costs, "float32")
        heads = [heading.text for heading in table.header]
        return [tuple(cells[heads.index(name)].best for name in ("customize s", "image s")) for cells in table.rows]

    level = replace(TUNED, method="level", image=Figure(103.0, 100.9, 105.0))
    slower = replace(TUNED, method="slower", image=Figure(103.0, 101.6, 105.0))
    blind = replace(FAST, method="text-only", personalizes=False, image=Figure(1.0))
    assert best(blind, FAST, TUNED, level, slower) == [
        (False, False), (True, True), (False, True), (False, True), (False, False)
    ]  # fmt: skip
    assert best(FAST, TUNED, level) == [(True, False), (False, False), (False, False)]


def test_cells_sort_by_their_number_whatever_is_written_before_it():
    table = page_table(amortised([FAST, TUNED], (1, 10)), [])
    heads = [head.title for head in table.heads]
    values = {line[0].text: dict(zip(heads, line, strict=True)) for line in table.rows}
    assert values["dreambooth"]["1"].text.startswith("≈ 15,")
    assert values["dreambooth"]["1"].value == pytest.approx(3 + 15234.5 + 99)
    never = page_table(break_evens([FAST, replace(TUNED, image=Figure(200.0))]), []).rows[0]
    assert (never[2].text, never[2].value > 1e300) == ("never", True)
    assert page_table(storage([FAST, TUNED]), []).rows[1][3].value == 1965 * 2**20


def test_the_page_says_why_quality_is_empty_and_where_it_was_measured(made_cost):
    def crowded(record):
        if record["method"] == "dreambooth":
            record["surroundings"] = {**record["surroundings"], "others_cpu_seconds": 4.0}
        return record

    random = made_cost(settings=lambda run: {**run, "random_weights": True, "dtype": "bfloat16"}, record=crowded)
    told = " ".join(cost_notes(CostRun(RunFolder(random), "cost")))
    assert "The weights are random and the images mean nothing, so the quality columns are empty" in told
    assert "bfloat16 on cpu (a processor, 2 cores, virtual, no accelerator)" in told
    assert "† measured while other processes ran" in told
    assert "dreambooth 20% to 20%" in told


def test_files_hold_what_the_records_amount_to(made_cost, tmp_path):
    run = CostRun(RunFolder(made_cost()), "cost")
    written = write_cost_tables(CostTables(run), tmp_path / "out")
    assert [file.name for file in written] == [
        "cost.md", "cost.csv", "cost.tex", "cost.html", "results.csv", "amortised.csv", "storage.csv"
    ]  # fmt: skip
    results = {(row["method"], row["what"]): row for row in csv.DictReader((tmp_path / "out" / "results.csv").open())}
    tuning = results["dreambooth", "customize"]
    assert float(tuning["seconds"]) == pytest.approx(12 + 50 * 1.0)
    assert float(tuning["low"]) < 62 < float(tuning["high"])
    assert (tuning["extrapolated"], results["dreambooth", "image"]["extrapolated"]) == ("True", "False")
    shared = float(results["custom-diffusion", "class_images"]["seconds"])
    assert shared == pytest.approx(16 * (1.0 + 0.4 / 4))
    for row in csv.DictReader((tmp_path / "out" / "amortised.csv").open()):
        n, spent = int(row["images_per_subject"]), {"text-only": 2.0, "fastcomposer": 2.5}.get(row["method"], 64.0)
        spent += shared if row["class_images_included"] == "True" else 0
        assert float(row["seconds_per_image"]) == pytest.approx(spent / n + SECONDS[row["method"]])
    table = list(csv.DictReader((tmp_path / "out" / "cost.csv").open()))
    (shown,) = [row for row in table if (row["table"], row["method"]) == ("Cost", "dreambooth")]
    assert (shown["customize s"].split(" [")[0], shown["identity preservation"]) == ("≈ 62.0", "–")


def test_hostile_text_of_a_cost_run_stays_text(made_cost, hostile, tmp_path):
    write_cost_tables(CostTables(CostRun(RunFolder(made_cost(relabel={"dreambooth": hostile})), "cost")), tmp_path)
    assert "<script" not in (tmp_path / "cost.md").read_text()
    assert "<script" not in (tmp_path / "cost.html").read_text()
    for name in ("cost.csv", "results.csv", "amortised.csv", "storage.csv"):
        cells = [cell for row in csv.reader((tmp_path / name).open()) for cell in row]
        assert f"'{hostile}" in cells
        assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_latex_of_a_cost_run_compiles(made_cost, hostile, tmp_path):
    run = CostRun(RunFolder(made_cost(relabel={"dreambooth": hostile})), "cost")
    write_cost_tables(CostTables(run), tmp_path)
    text = (tmp_path / "cost.tex").read_text()
    document = f"\\documentclass{{article}}\n{PACKAGES}\n\\begin{{document}}\n{text}\n\\end{{document}}\n"
    (tmp_path / "all.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_cost_run_is_published_beside_the_others_with_its_figures(made_cost, tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    marker = "<!-- results: reports/reference/cost-pocket-cpu/headline.md -->"
    (repository / "README.md").write_text(f"{marker}\nold\n<!-- end of results -->\n")
    target = publish(made_cost(), repository)
    assert target.name == "cost-pocket-cpu"
    files = {file.name for file in target.iterdir()}
    assert files >= {"cost.md", "results.csv", "amortised.csv", "storage.csv", "run.json", "measurements.jsonl"}
    assert files >= {"amortised-cost.png", "speed-up.png", "storage.png"}
    headline = (target / "headline.md").read_text()
    assert "| text-only | 2.00" in headline
    assert (repository / "README.md").read_text() == f"{marker}\n\n{headline}\n<!-- end of results -->\n"
