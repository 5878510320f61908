"""A sweep tries every value or combination, in one run that continues, and says what the run says."""

from __future__ import annotations

import csv

import pytest
import yaml

from fc_bench.analysis.aggregate import result_rows
from fc_bench.commands.run import RunOptions
from fc_bench.commands.sweep import combinations, range_options, values_in
from fc_bench.errors import UserError
from fc_bench.run_folder.records import RunFolder


@pytest.fixture
def grid(tmp_path, suite, tiny_backbone, plugin, fc_bench):
    """Runs `fc-bench sweep --grid` of the grids."""

    def invoke(grids: dict[str, object]):
        file = tmp_path / "tried.yaml"
        file.write_text(yaml.safe_dump({"suite": str(suite), "backbone": str(tiny_backbone), "grids": grids}))
        return fc_bench("sweep", "--grid", file, "--out", tmp_path / "run")

    return invoke


@pytest.fixture
def sweep(tmp_path, suite, tiny_backbone, plugin, fc_bench):
    """Runs `fc-bench sweep OPTION VALUES` on the tiny world."""

    def invoke(option: str, values: str, *arguments: object):
        there = ("--suite", suite, "--backbone", tiny_backbone, "--out", tmp_path / "run")
        return fc_bench("sweep", option, values, *there, *arguments)

    return invoke


def test_a_grid_refuses_what_it_would_not_heed(fc_bench, tmp_path):
    done = fc_bench(
        "sweep", "--grid", tmp_path / "g.yaml", "--dry-run", "--batch-size", "4", "-o", "fastcomposer.alpha=1"
    )
    assert done.code == 2
    message = "The grid file defines the whole run; leave out --option --batch-size --dry-run or --grid."
    assert done.err == f"fc-bench: {message}\n"
    assert "leave out fastcomposer.alpha or --grid" in fc_bench("sweep", "fastcomposer.alpha", "--grid", "g.yaml").err


def test_every_combination_of_each_grid_is_tried_once():
    grids = [{"a": [1, 2], "b": 3}, {"a": 5, "b": [6, 7]}]
    assert list(combinations(grids)) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}, {"a": 5, "b": 6}, {"a": 5, "b": 7}]


def test_table_of_a_grid_holds_the_run_s_values_for_every_setting(grid, tmp_path):
    done = grid({"collage": [{"apart": [True, False]}]})
    assert done.code == 0, done.err
    assert f"wrote {tmp_path / 'tried.csv'}\n" in done.out
    with (tmp_path / "tried.csv").open() as file:
        rows = list(csv.DictReader(file))
    tried = [("text-only", ""), ("collage", "apart=True"), ("collage", "apart=False")]
    assert [(row["method"], row["options"], row["subjects"]) for row in rows] == [
        (*setting, subjects) for setting in tried for subjects in ("1", "2")
    ]
    results = {
        (row["method"], row["subjects"]): row["mean"]
        for row in result_rows(RunFolder(tmp_path / "run"))
        if row["column"] == "identity" and row["category"] == "all"
    }
    assert float(rows[2]["identity"]) == pytest.approx(results["collage[apart=True]", 1], abs=1e-4)
    assert float(rows[5]["identity"]) == pytest.approx(results["collage", 2], abs=1e-4)
    assert rows[2]["n"] == "9/9"


def test_a_setting_that_fails_is_told_and_no_table_is_written(grid, tmp_path):
    done = grid({"collage": [{"fail_subject": "ann"}]})
    assert done.code == 2
    assert "collage with {'fail_subject': 'ann'} left failed samples" in done.err
    assert not (tmp_path / "tried.csv").exists()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0:1:0.25", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("0:1:0.1", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        ("0:1:0.4", [0.0, 0.4, 0.8]),
        ("50:200:50", [50, 100, 150, 200]),
        ("1:0:-0.5", [1.0, 0.5, 0.0]),
        ("0.5:0.5:1", [0.5]),
        ("50, 100,50", [50, 100]),
        ("true,false", [True, False]),
        ("with-localization,without-localization", ["with-localization", "without-localization"]),
    ],
)
def test_values_are_those_of_the_range_or_the_list_to_the_last_digit(text, values):
    found = values_in(text)
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0:1", "not of the form START:STOP:STEP"),
        ("a:b:c", "not of the form START:STOP:STEP"),
        ("0:1:0", "never reaches its stop"),
        ("0:1:-0.1", "never reaches its stop"),
        ("0:inf:1", "never reaches its stop"),
        ("0:1e9:1", "widen the step"),
        ("", "give one to"),
        (",", "give one to"),
        ("[", "cannot be read"),
    ],
)
def test_values_that_are_none_are_refused_in_a_sentence(text, words):
    with pytest.raises(UserError, match=words):
        values_in(text)


@pytest.mark.parametrize("option", ["alpha", "fastcomposer.", ".alpha", "fastcomposer.alpha=1"])
def test_option_without_a_method_is_refused(option):
    with pytest.raises(UserError, match=r"METHOD\.OPTION"):
        range_options(option, "0,1", RunOptions())


def test_swept_option_cannot_be_fixed_as_well(sweep):
    done = sweep("collage.seconds", "0,1", "-o", "collage.seconds=2")
    assert (done.code, "is swept and cannot be given with --option as well" in done.err) == (2, True)


def test_unknown_option_or_method_is_refused_before_anything_runs(sweep, tmp_path):
    assert 'no option "secs", did you mean "seconds"' in sweep("collage.secs", "0,1").err
    assert "did you mean" in sweep("colage.seconds", "0,1").err
    assert not (tmp_path / "run").exists()


def test_a_grid_takes_no_option_and_nothing_is_no_sweep(fc_bench, tmp_path):
    assert "leave out a.b or --grid" in fc_bench("sweep", "a.b", "1,2", "--grid", tmp_path / "g.yaml").err
    assert "Name an option and its values" in fc_bench("sweep").err


def test_sweep_is_one_run_with_a_row_a_value_and_draws_the_option(sweep, records, tmp_path):
    done = sweep("collage.shared_seconds", "0:0.0002:0.0001")
    assert done.code == 0, done.err
    samples = records(tmp_path / "run" / "samples.jsonl")
    counts = {label: sum(sample["method"] == label for sample in samples) for label in {s["method"] for s in samples}}
    assert counts == {
        "text-only": 11,
        "collage": 11,
        "collage[shared_seconds=0.0001]": 11,
        "collage[shared_seconds=0.0002]": 11,
    }
    figures = {path.name for path in (tmp_path / "run" / "report" / "figures").iterdir()}
    assert {"sweep-collage-shared-seconds-1.pdf", "sweep-collage-shared-seconds-1.svg", "grid.png"} <= figures


def test_repeated_with_more_values_it_does_only_what_is_missing(sweep, records, tmp_path):
    assert sweep("paste.seconds", "0,0.001").code == 0
    first = records(tmp_path / "run" / "samples.jsonl")
    assert sweep("paste.seconds", "0.001,0.002").code == 0
    second = records(tmp_path / "run" / "samples.jsonl")
    assert second[: len(first)] == first
    assert {sample["method"] for sample in second[len(first) :]} == {"paste[seconds=0.002]"}


def test_value_that_fails_costs_its_row_alone_and_the_exit_code_says_so(sweep, records, tmp_path):
    done = sweep("paste.fail_subject", "nobody,ann")
    assert done.code == 4
    assert "incomplete" in done.err
    samples = records(tmp_path / "run" / "samples.jsonl")
    failed = {sample["method"] for sample in samples if sample["status"] != "ok"}
    assert failed == {"paste[fail_subject=ann]"}
