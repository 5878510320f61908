"""The column `verified`: the share of subjects whose face passes the embedder's threshold."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from fc_bench.metrics.embedders import metric_classes
from fc_bench.metrics.verification import verification
from fc_bench.model.backbones.backbone import read_backbone


@pytest.fixture
def with_threshold(tiny_backbone, tmp_path):
    """Writes the tiny backbone with a threshold of its face models."""

    def write(threshold):
        data = yaml.safe_load(tiny_backbone.read_text())
        for part in ("pipeline", "clip"):
            data[part] = str(tiny_backbone.parent / data[part])
        data["fastcomposer"]["variants"] = {"random": str(tiny_backbone.parent / "fastcomposer")}
        data["faces"] |= {"pack": str(tiny_backbone.parent / "faces"), "threshold": threshold}
        file = tmp_path / "thresholds.yaml"
        file.write_text(yaml.safe_dump(data))
        return file

    return write


def test_the_share_counts_matched_faces_at_or_above_the_threshold():
    metric = verification(0.3)

    def verified(similarities):
        return metric.values(np.array(similarities, dtype=float))["verified"]

    assert verified([[0.3]]) == 1
    assert verified([[0.29]]) == 0
    assert verified([[0.9, 0.1], [0.8, 0.2]]) == 0.5  # one face cannot serve two references
    assert verified([[0.1, 0.9]]) == 0  # a smaller face than the largest is not asked
    assert verified(np.zeros((2, 0))) == 0


def test_a_declared_threshold_gives_a_column_in_every_table(
    fc_bench, plugin, suite, with_threshold, tiny_backbone, records, tmp_path
):
    arguments = ("run", suite, "-m", "paste", "--images-per-prompt", 1)
    plain, judged = tmp_path / "plain", tmp_path / "judged"
    assert "verified" not in fc_bench(*arguments, "--backbone", tiny_backbone, "--out", plain).out
    done = fc_bench(*arguments, "--backbone", with_threshold(0.5), "--out", judged)
    assert done.code == 0, done.err
    assert "verified" in done.out
    for name in ("table.md", "table.tex", "table.html", "results.csv"):
        assert "verified" in (judged / "report" / name).read_text()
    scores = records(judged / "scores.jsonl")
    similarities = {one["sample"]: one["details"]["similarities"] for one in scores if one["metric"] == "identity"}
    verified = {one["sample"]: one["values"]["verified"] for one in scores if one["metric"] == "verification"}
    assert verified == {
        sample: verification(0.5).values(np.array(rows).reshape(len(rows), -1))["verified"]
        for sample, rows in similarities.items()
    }
    assert any(sample.startswith("anchor:ceiling") for sample in verified)
    assert any(sample.startswith("anchor:floor") for sample in verified)


def test_an_earlier_run_continues_and_gets_the_column_from_its_records(
    fc_bench, plugin, suite, with_threshold, records, tmp_path
):
    arguments = ("run", suite, "-m", "paste", "--out", tmp_path / "run", "--images-per-prompt", 1, "--backbone")
    assert fc_bench(*arguments, with_threshold(None)).code == 0
    before = records(tmp_path / "run" / "scores.jsonl")
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    for image in (tmp_path / "run" / "images").rglob("*.png"):
        image.write_bytes(b"not read again")
    done = fc_bench(*arguments, with_threshold(0.5))
    assert done.code == 0, done.err
    after = records(tmp_path / "run" / "scores.jsonl")
    assert after[: len(before)] == before
    assert {one["metric"] for one in after[len(before) :]} == {"verification"}
    again = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {name: again["columns"][name] for name in settings["columns"]} == settings["columns"]
    assert again["faces"] == settings["faces"]


def test_runs_with_and_without_a_threshold_compare_in_what_both_measured(
    fc_bench, plugin, suite, with_threshold, tmp_path
):
    for name, threshold in (("base", None), ("new", 0.5)):
        arguments = ("run", suite, "-m", "paste", "--images-per-prompt", 1, "--out", tmp_path / name)
        assert fc_bench(*arguments, "--backbone", with_threshold(threshold)).code == 0
    done = fc_bench("compare", tmp_path / "base", tmp_path / "new")
    assert done.code == 0, done.out + done.err


def test_the_page_and_a_gate_take_the_column_like_any_other(fc_bench, plugin, suite, with_threshold, records, tmp_path):
    arguments = ("run", suite, "-m", "paste", "--images-per-prompt", 1, "--backbone", with_threshold(0.5))
    for name in ("base", "new"):
        assert fc_bench(*arguments, "--out", tmp_path / name).code == 0
    assert "verified" in (tmp_path / "base" / "report" / "index.html").read_text()
    gate = tmp_path / "gate.yaml"
    gate.write_text("quality:\n  verified: {tolerance: 0.05}\n")
    assert fc_bench("compare", tmp_path / "base", tmp_path / "new", "--gate", gate).code == 0
    scores = records(tmp_path / "new" / "scores.jsonl")
    for one in scores:
        if one["metric"] == "verification" and not one["sample"].startswith("anchor"):
            one["values"]["verified"] = 0.0
    (tmp_path / "new" / "scores.jsonl").write_text("".join(json.dumps(one) + "\n" for one in scores))
    done = fc_bench("compare", tmp_path / "base", tmp_path / "new", "--gate", gate)
    assert done.code == 1
    assert "verified" in done.out


def test_another_threshold_in_the_same_folder_is_refused(fc_bench, plugin, suite, with_threshold, tmp_path):
    arguments = ("run", suite, "-m", "paste", "--out", tmp_path / "run", "--images-per-prompt", 1, "--backbone")
    assert fc_bench(*arguments, with_threshold(0.5)).code == 0
    done = fc_bench(*arguments, with_threshold(0.6))
    assert done.code == 2
    assert "other columns of a metric" in done.err


def test_the_suite_s_threshold_comes_before_the_backbone_s(with_threshold):
    backbone = read_backbone(str(with_threshold(0.5)))
    found = metric_classes(["identity"], backbone, {backbone.faces[0].name: 0.25})
    assert "at least 0.25" in found["verification"].columns[0].description


def test_a_suite_s_threshold_for_no_embedder_of_the_backbone_is_refused(
    fc_bench, plugin, write_suite, suite_data, tiny_backbone, tmp_path
):
    asked = write_suite({**suite_data, "format": 2, "verification": {"somebody-else": 0.3}})
    done = fc_bench("run", asked, "-m", "paste", "--backbone", tiny_backbone, "--out", tmp_path / "run")
    assert done.code == 2
    assert "threshold for somebody-else" in done.err
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"verification": {"tiny": 0.3}}, "format 2"),
        ({"format": 2, "verification": {"tiny": 1.5}}, "less than 1"),
        ({"format": 2, "metrics": ["prompt-consistency"], "verification": {"tiny": 0.3}}, 'metric "identity"'),
    ],
)
def test_a_threshold_that_cannot_hold_is_refused_with_its_line(fc_bench, write_suite, suite_data, change, said):
    done = fc_bench("validate", write_suite({**suite_data, **change}))
    assert done.code == 2
    assert said in done.err
