"""The summary's sentences say what the numbers say, and no more than their intervals do."""

from __future__ import annotations

import json
import random

import pytest

from fc_bench.analysis.differences import paired_rows
from fc_bench.reports.frame import columns, paired_samples, read_runs, rows
from fc_bench.reports.summary import PairedDifferences, summary

SNOW, SKETCH = "a photo of a {subject} in the snow", "a sketch of a {subject}"


def sentences(*paths) -> list[str]:
    runs = read_runs(paths)
    return summary(runs, PairedDifferences(runs))


def rescored(run, value) -> None:
    """The run's identities replaced by `value(record)`."""
    file = run.path / "scores.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line["metric"] == "identity" and line["sample"] in run.samples:
            line["values"]["identity"] = value(run.samples[line["sample"]])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_best_method_its_interval_and_fastcomposer_s_place_are_the_tables(make_run):
    run = make_run()
    told = sentences(run.path)
    found = {
        row["method"]: row
        for row in rows(read_runs([run.path]))
        if (row["subjects"], row["category"], row["column"]) == (1, "all", "identity")
    }
    best, second = ("{mean:.3f} [{low:.3f}, {high:.3f}]".format(**found[m]) for m in ("dreambooth", "fastcomposer"))
    assert told[0] == (
        f"With one subject, dreambooth has the highest identity preservation, {best}, significantly different from "
        f"fastcomposer by the paired differences. fastcomposer is 2nd of 2 with {second}."
    )
    assert told[1].startswith("With 2 subjects together, dreambooth has the highest identity preservation, ")
    assert told[1].endswith("the paired differences allow ranks 1 to 2.")
    assert "too few subject sets to distinguish the methods" in told[1]
    assert told[2] == (
        "For one subject, dreambooth takes 6.50 s to customize and 0.25 s an image; "
        "fastcomposer takes 0.00 s to customize and 0.25 s an image."
    )
    assert told[3] == "All 30 samples are there."


@pytest.mark.parametrize("seed", range(6))
def test_methods_are_told_apart_only_where_the_whole_interval_is_on_one_side(make_run, seed):
    run = make_run(methods=("fastcomposer", "dreambooth", "another", "fourth"), pairs=())
    draw = random.Random(seed)
    rescored(run, lambda record: round(draw.uniform(0.2, 0.6) + 0.03 * len(record["method"]), 6))
    runs = read_runs([run.path])
    (first, *_) = summary(runs, PairedDifferences(runs))
    best = first.split("With one subject, ")[1].split(" has")[0]
    identity = [column for column in columns(runs) if column.name == "identity"]
    against = {row["method"]: row for row in paired_rows(paired_samples(runs), identity, best)}
    assert all(row["mean"] <= 0 for row in against.values())
    undecided = [method for method, row in against.items() if row["high"] >= 0]
    if undecided:
        clause = first.split("not significantly different from ")[1].split(".")[0]
        assert sorted(clause.replace(" and ", ", ").split(", ")) == sorted(undecided)
    else:
        assert "significantly different from another, " in first
    if best != "fastcomposer":
        follows = paired_rows(paired_samples(runs), identity, "fastcomposer")
        ahead = sum(row["low"] > 0 for row in follows)
        behind = sum(row["high"] < 0 for row in follows)
        place = 1 + sum(row["mean"] > 0 for row in follows)
        if (1 + ahead, 4 - behind) != (place, place):
            assert f"the paired differences allow ranks {1 + ahead} to {4 - behind}" in first
        assert f"fastcomposer is {place}" in first


def test_method_that_misses_values_is_not_ranked(make_run):
    run = make_run(failed={("dreambooth", "p1", SNOW): "no room"}, missing=[("dreambooth", "p2", SNOW)])
    told = sentences(run.path)
    assert told[0].startswith("With one subject, fastcomposer has identity preservation 0.4")
    assert told[0].endswith("Not ranked, because values are missing: dreambooth.")
    assert told[-1] == "28 of 30 samples are there, 1 failed and 1 were not reached: the means do not include them."


def test_what_has_no_score_is_counted(make_run):
    run = make_run(unscored={("dreambooth", "p1", SNOW): "odd"})
    assert sentences(run.path)[-1] == "All 30 samples are there; 1 scores failed."
    (run.path / "scores.jsonl").write_text("")
    assert sentences(run.path) == ["All 30 samples are there; 30 have no value of any measure."]


def test_one_method_stands_beside_the_photographs(make_run):
    told = sentences(make_run(methods=("fastcomposer",), pairs=()).path)
    assert told[0].startswith("With one subject, fastcomposer has identity preservation 0.4")
    assert "(own photographs: 0.900" in told[0]
    assert "other person: 0.020" in told[0]


def test_methods_that_were_asked_for_different_samples_are_not_ranked(make_run):
    one = make_run("one", methods=("fastcomposer",))
    other = make_run("other", methods=("dreambooth",), single={SNOW: "context"})
    told = sentences(one.path, other.path)
    assert told[0] == "With one subject, the methods have different samples, so none is ranked."
    assert told[1].startswith("With 2 subjects together, dreambooth has the highest identity")


def test_seconds_of_different_machines_are_not_set_side_by_side(make_run):
    one, other = make_run("one", methods=("fastcomposer",)), make_run("other", methods=("dreambooth",))
    assert any("s to customize" in sentence for sentence in sentences(one.path, other.path))
    settings = json.loads((other.path / "run.json").read_text())
    settings["commands"][-1]["hardware"]["processor"] = "another one"
    (other.path / "run.json").write_text(json.dumps(settings))
    assert not any("s to customize" in sentence for sentence in sentences(one.path, other.path))
