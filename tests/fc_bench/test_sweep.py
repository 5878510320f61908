"""A sweep tries every value or combination, in one run that continues, and says what the run says."""

from __future__ import annotations

import csv
import sys

import pytest
import yaml

from fc_bench.aggregate import result_rows
from fc_bench.records import RunFolder
from fc_bench.sweep import combinations, main


@pytest.fixture
def sweep(tmp_path, suite, tiny_backbone, plugin, monkeypatch):
    """Runs a sweep of the grids; the exit code."""

    def invoke(grids: dict[str, object]) -> int:
        file = tmp_path / "tried.yaml"
        file.write_text(yaml.safe_dump({"suite": str(suite), "backbone": str(tiny_backbone), "grids": grids}))
        monkeypatch.setattr(sys, "argv", ["sweep", str(file), "--out", str(tmp_path / "run")])
        return main()

    return invoke


def test_every_combination_of_each_grid_is_tried_once():
    grids = [{"a": [1, 2], "b": 3}, {"a": 5, "b": [6, 7]}]
    assert list(combinations(grids)) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}, {"a": 5, "b": 6}, {"a": 5, "b": 7}]


def test_its_table_holds_the_run_s_values_for_every_setting(sweep, tmp_path):
    assert sweep({"collage": [{"apart": [True, False]}]}) == 0
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


def test_a_setting_that_fails_is_told_and_no_table_is_written(sweep, tmp_path, capsys):
    assert sweep({"collage": [{"fail_subject": "ann"}]}) == 2
    assert "collage with {'fail_subject': 'ann'} left failed samples" in capsys.readouterr().err
    assert not (tmp_path / "tried.csv").exists()
