"""Differences between methods of a run are paired, tested where sets are independent, and corrected over methods."""

from __future__ import annotations

import json

import pytest

from fc_bench.analysis.differences import method_differences
from fc_bench.errors import UserError
from fc_bench.run_folder.records import RunFolder


@pytest.fixture
def finished(fc_bench, tiny_backbone, plugin, suite, tmp_path):
    """A run of two methods; `paste` loses 0.25 of identity on every image by our hand."""
    folder = tmp_path / "run"
    command = ("run", suite, "--backbone", tiny_backbone, "-m", "paste", "-m", "collage", "--out", folder)
    assert fc_bench(*command).code == 0
    planned = {line["id"]: line for line in map(json.loads, (folder / "plan.jsonl").read_text().splitlines())}
    records = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    for record in records:
        if record["sample"] in planned and planned[record["sample"]]["method"] == "paste":
            record["values"] = {
                name: value - 0.25 if name == "identity" else value for name, value in record["values"].items()
            }
    (folder / "scores.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_difference_is_the_one_planted_with_the_exact_p_value_of_three_subjects(finished):
    rows = method_differences(RunFolder(finished), "collage")
    (row,) = [row for row in rows if (row["column"], row["subjects"]) == ("identity", 1)]
    assert row["mean"] == pytest.approx(-0.25)
    assert row["high"] < 0
    assert (row["n_sets"], row["n_pairs"], row["p"], row["p_holm"]) == (3, 9, 2 / 8, 2 / 8)


def test_sets_that_share_a_subject_have_no_p_value(finished):
    rows = method_differences(RunFolder(finished), "collage")
    (row,) = [row for row in rows if (row["column"], row["subjects"]) == ("identity", 2)]
    assert row["mean"] == pytest.approx(-0.25)
    assert (row["p"], row["p_holm"]) == (None, None)


def test_unknown_method_is_refused(finished):
    with pytest.raises(UserError, match='no method "collages" to compare with, did you mean "collage"'):
        method_differences(RunFolder(finished), "collages")


def test_report_shows_them(finished, fc_bench):
    assert fc_bench("report", finished).code == 0
    text = (finished / "report" / "table.md").read_text()
    assert "## Paired differences, one subject" in text
    assert "| collage | identity preservation | 0.250 [0.250, 0.250] | 3 | 9 | 0.2500 | 0.2500 |" in text
