"""Costs of a cost run stand in the rows of quality runs that they belong to, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fc_bench.reports.cost.beside import costs_beside
from fc_bench.reports.cost.run import CostRun
from fc_bench.reports.frame import read_runs
from fc_bench.reports.quality.output import Tables
from fc_bench.run_folder.records import RunFolder

FEW = {
    "methods": ("text-only", "fastcomposer", "dreambooth", "custom-diffusion"),
    "sets": ("p01", "p02", "p03", "p01+p02"),
}


def cost_run(path) -> CostRun:
    return CostRun(RunFolder(path), path.name)


def cells_of(table) -> dict[str, dict[str, str]]:
    heads = [heading.text for heading in table.header]
    return {row[0].text: dict(zip(heads, (cell.whole for cell in row), strict=True)) for row in table.rows}


@pytest.fixture
def runs(copied):
    return read_runs([copied("run", **FEW)])


def test_overview_of_one_subject_takes_the_measured_costs_and_says_so(runs, made_cost):
    beside, told = costs_beside(runs, [cost_run(made_cost())])
    assert told == []
    tables = Tables(runs, beside=beside)
    single, pair = tables.contents.overview()
    assert single.title == "One subject: overview, cost from cost"
    assert pair.title == "2 subjects together: overview"
    found = cells_of(single)
    assert found["dreambooth"]["s to customize"].startswith("≈ 62.0 [")
    assert found["dreambooth"]["s per image"] == "1.00 [0.97, 1.03]"
    assert (found["fastcomposer"]["s to customize"], found["text-only"]["s to customize"]) == (
        "0.500 [0.500, 0.500]",
        "0",
    )
    assert {row["peak GiB"] for name, row in found.items() if "(" not in name} == {"1.50"}
    assert found["custom-diffusion"]["MiB kept"] == "3.00"
    recorded = cells_of(Tables(runs).contents.overview()[0])
    assert {name: row["identity preservation"] for name, row in found.items()} == {
        name: row["identity preservation"] for name, row in recorded.items()
    }
    cost = tables.contents.cost()
    assert cost.title == "Cost, as recorded during generation"
    assert cost.rows == Tables(runs).contents.cost().rows
    assert any("measured in the cost run cost (float32 on cpu" in line for line in tables.notes())


def test_paper_s_table_has_their_total_time(runs, made_cost):
    beside, _ = costs_beside(runs, [cost_run(made_cost())])
    single, *_ = Tables(runs, "paper", beside).everything
    found = cells_of(single)
    assert found["dreambooth"]["total time (s)"].startswith("≈ 63.0 [")
    assert found["fastcomposer"]["total time (s)"].startswith("1.75 [")
    assert "those of the cost run cost" in single.caption
    best = {row[0].text: row[5].best for row in single.rows}
    assert [name for name, bold in best.items() if bold] == ["fastcomposer"]


def test_what_disturbed_the_measurements_is_said_beside_their_numbers_too(runs, made_cost):
    def crowded(record):
        record["surroundings"] = {**record["surroundings"], "others_cpu_seconds": 4.0}
        return record

    beside, _ = costs_beside(runs, [cost_run(made_cost(record=crowded))])
    assert any(line.startswith("cost: measured while other processes ran.") for line in beside.notes)


def test_measured_costs_whose_intervals_meet_are_bold_together(runs, made_cost):
    beside, _ = costs_beside(runs, [cost_run(made_cost())])

    def bold(found):
        table = Tables(runs, beside=found).contents.overview()[0]
        place = [heading.text for heading in table.header].index("s per image")
        return [row[0].text for row in table.rows if row[place].best]

    assert bold(beside) == ["dreambooth"]
    rows = {label: dict(found) for label, found in beside.rows.items()}
    rows["fastcomposer"]["image_seconds"] = {**rows["fastcomposer"]["image_seconds"], "low": 1.02}
    assert bold(replace(beside, rows=rows)) == ["fastcomposer", "dreambooth"]


def test_method_with_other_options_has_no_costs_beside_it(runs, made_cost):
    def longer(run):
        run["methods"]["dreambooth"]["options"]["steps"] = 800
        return run

    beside, _ = costs_beside(runs, [cost_run(made_cost(settings=longer))])
    tables = Tables(runs, beside=beside)
    found = cells_of(tables.contents.overview()[0])
    assert {found["dreambooth"][name] for name in ("s to customize", "s per image", "peak GiB", "MiB kept")} == {"–"}
    assert found["fastcomposer"]["s per image"] != "–"
    assert "cost did not measure these methods with the same options: dreambooth." in tables.notes()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"backbone": "sd15"}, "The costs of cost are not included: run has another backbone."),
        (
            {"sampler": {"scheduler": "ddim", "steps": 50, "guidance_scale": 5.0, "resolution": 128}},
            "The costs of cost are not included: run has other sampler settings.",
        ),
    ],
)
def test_costs_of_something_else_stand_apart_and_it_is_said(runs, made_cost, change, reason):
    assert costs_beside(runs, [cost_run(made_cost(settings=lambda run: {**run, **change}))]) == (None, [reason])


def test_of_several_that_fit_none_is_chosen(runs, made_cost):
    beside, (reason,) = costs_beside(runs, [cost_run(made_cost("one")), cost_run(made_cost("two"))])
    assert beside is None
    assert "one, two are not included: each of them fits" in reason
