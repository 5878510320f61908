"""The frame holds what the runs' records say, and runs share it only where they asked and measured the same."""

from __future__ import annotations

import math
from statistics import fmean

import pytest

from fc_bench.errors import UserError
from fc_bench.reports.frame import alike, frame, labels, read_runs, rows


def test_frame_of_one_run_is_its_results_with_labels(pocket):
    table = frame([pocket])
    assert len(table) == len(pocket.results)
    assert set(table["kind"]) == {"method", "anchor"}
    picked = table[(table["label"] == "dreambooth") & (table["category"] == "all") & (table["column"] == "identity")]
    values = [
        fmean(row["identity"] for row in pocket.measured.rows() if row["method"] == "dreambooth" and row["set"] == name)
        for name in (f"p0{number}" for number in range(1, 9))
    ]
    (single,) = picked[picked["subjects"] == 1].itertuples()
    assert single.mean == pytest.approx(fmean(values))
    assert single.low < single.mean < single.high
    assert (single.n_ok, single.n_total, single.n_sets) == (40, 40, 8)


def test_what_is_missing_is_missing_and_not_zero(pocket):
    table = frame([pocket])
    text_only = table[(table["label"] == "text-only") & (table["column"] == "seconds_per_step")]
    assert all(math.isnan(mean) for mean in text_only["mean"])


def test_references_are_the_photographs_a_method_used(pocket):
    found = {row["label"]: row["mean"] for row in rows([pocket]) if row["column"] == "references"}
    assert found == {
        "text-only": 0,
        "fastcomposer": 1,
        "ip-adapter": 1,
        "textual-inversion": 5,
        "dreambooth": 5,
        "dreambooth-lora": 5,
        "custom-diffusion": 5,
    }


def test_recorded_references_go_before_what_is_derived_and_no_one_has_more_than_there_are(copied):
    def settings(run):
        return {**run, "references": {"fastcomposer": 3, "dreambooth": 9}}

    (run,) = read_runs([copied("run", settings=settings)])
    found = {row["label"]: row["mean"] for row in rows([run]) if row["column"] == "references"}
    assert found == {"text-only": 0, "fastcomposer": 3, "dreambooth": 5}


def test_runs_that_asked_the_same_stand_together_and_equal_labels_name_their_run(copied):
    one, two = read_runs([copied("one"), copied("two", methods=("fastcomposer", "dreambooth-lora"))])
    (group,) = alike([one, two])
    names = {row["label"] for row in rows(group) if row["kind"] == "method"}
    assert names == {"text-only", "fastcomposer (one)", "dreambooth", "fastcomposer (two)", "dreambooth-lora"}
    for run in (one, two):
        (own,) = [row for row in run.results if _is(row, method="fastcomposer")]
        (shown,) = [row for row in rows(group) if _is(row, label=f"fastcomposer ({run.name})")]
        assert {key: shown[key] for key in own} == own


def test_ceiling_of_the_same_photographs_stands_once_and_of_others_with_its_run(copied):
    same = read_runs([copied("one"), copied("two")])
    assert sum(_is(row, method="ceiling") for row in rows(same)) == 1
    fewer = read_runs([copied("three"), copied("four", sets=("p01", "p02", "p01+p02"))])
    ceilings = [row["label"] for row in rows(fewer) if _is(row, method="ceiling")]
    assert ceilings == ["ceiling (own photographs) (three)", "ceiling (own photographs) (four)"]


@pytest.mark.parametrize(
    "change",
    [
        lambda run: {**run, "suite": {**run["suite"], "version": "3"}},
        lambda run: {**run, "suite": {**run["suite"], "photograph_digests": {"p01": "other"}}},
        lambda run: {**run, "scorers": {**run["scorers"], "faces": "another embedder"}},
        lambda run: {**run, "faces": {**run["faces"], "det_thresh": 0.9}},
        lambda run: {
            **run,
            "columns": {
                **run["columns"],
                "prompt-consistency": [{**run["columns"]["prompt-consistency"][0], "description": "another"}],
            },
        },
    ],
)
def test_runs_that_asked_or_measured_something_else_do_not_share_a_column(copied, change):
    groups = alike(read_runs([copied("one"), copied("two"), copied("other", settings=change)]))
    assert [[run.name for run in group] for group in groups] == [["one", "two"], ["other"]]


def test_folders_of_the_same_name_are_told_apart_by_their_parents(copied):
    runs = read_runs([copied("a/run"), copied("b/run")])
    assert [run.name for run in runs] == ["a/run", "b/run"]
    names = {label for (_, method), label in labels(runs).items() if method == "dreambooth"}
    assert names == {"dreambooth (a/run)", "dreambooth (b/run)"}


def test_folder_given_twice_is_refused(copied):
    folder = copied("run")
    with pytest.raises(UserError, match="is given twice"):
        read_runs([folder, folder / ".." / "run"])


def _is(row, **wanted):
    return (
        row["column"] == "identity"
        and row["category"] == "all"
        and row["subjects"] == 1
        and wanted.items() <= row.items()
    )
