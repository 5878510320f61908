"""Comparing runs: pairs are equal subjects, prompts and images; verdicts and exit codes say what the records say."""

from __future__ import annotations

import copy
import json
import shutil
from xml.etree import ElementTree

import pytest
import yaml

from fc_bench.analysis.comparability import Obstacles
from fc_bench.analysis.comparison import compare
from fc_bench.analysis.gate import Gate, QualityTolerance, read_gate
from fc_bench.errors import UserError
from fc_bench.model.errors import ModelInputError
from fc_bench.protocols import Column
from fc_bench.run_folder.records import RunFolder


@pytest.fixture
def base(fc_bench, tiny_backbone, plugin, suite, tmp_path):
    """A run of the method that pastes photographs: three people alone, two pairs."""
    folder = tmp_path / "base"
    command = ("run", suite, "--backbone", tiny_backbone, "-m", "paste", "-m", "collage", "--out", folder)
    assert fc_bench(*command).code == 0
    return folder


@pytest.fixture
def changed(base, tmp_path):
    """A copy of the run with other scores: `changed(column, change, subjects)`; `change` is given (set, value)."""

    def make(column, change, subjects=1, method="paste", name="new"):
        target = tmp_path / name
        shutil.copytree(base, target)
        planned = {sample["id"]: sample for sample in _lines(base / "plan.jsonl")}
        records = _lines(base / "scores.jsonl")
        for record in records:
            sample = planned.get(record["sample"])
            if (
                sample
                and sample["method"] == method
                and len(sample["subjects"]) == subjects
                and column in record["values"]
            ):
                record["values"][column] = change(sample["subjects"], record["values"][column])
        _write(target / "scores.jsonl", records)
        return target

    return make


def _lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def _write(file, records):
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


def verdicts(report, column, subjects=1, method="paste"):
    (found,) = [
        item
        for item in report.comparisons
        if (item.column.name, item.subjects, item.method) == (column, subjects, method)
    ]
    return found


def test_run_compared_with_itself_is_accepted(base, fc_bench):
    done = fc_bench("compare", base, base)
    assert done.code == 0
    assert "accepted" in done.out
    report = compare(RunFolder(base), RunFolder(base), Gate())
    assert {item.verdict for item in report.comparisons} == {"unchanged"}
    assert all(item.difference.mean == 0 for item in report.comparisons)


def test_loss_in_every_subject_is_worse_by_its_size_and_refused(base, changed, fc_bench):
    new = changed("identity", lambda who, value: value - 0.3)
    found = verdicts(compare(RunFolder(base), RunFolder(new), Gate()), "identity")
    assert (found.verdict, found.alarm, found.pairs, found.planned) == ("worse", True, 9, 9)
    assert found.difference.mean == pytest.approx(-0.3)
    assert found.new == pytest.approx(found.base - 0.3)
    done = fc_bench("compare", base, new)
    assert done.code == 1
    assert "refused: identity preservation of paste on one subject: worse by -0.300" in done.out


def test_difference_within_the_tolerance_is_unchanged(base, changed):
    new = RunFolder(changed("identity", lambda who, value: value - 0.3))
    gate = Gate(quality={"identity": QualityTolerance(tolerance=0.31)})
    found = verdicts(compare(RunFolder(base), new, gate), "identity")
    assert (found.verdict, found.alarm) == ("unchanged", False)


def test_gain_passes_a_one_sided_gate_and_not_a_two_sided_one(base, changed):
    new = RunFolder(changed("identity", lambda who, value: value + 0.3))
    codes = {}
    for sides in ("worse", "both"):
        report = compare(RunFolder(base), new, Gate(quality={"identity": QualityTolerance(sides=sides)}))
        assert verdicts(report, "identity").verdict == "better"
        codes[sides] = report.exit_code
    assert codes == {"worse": 0, "both": 1}


def test_change_of_one_subject_alone_is_not_taken_for_a_change_of_the_method(base, changed):
    new = RunFolder(changed("identity", lambda who, value: value - (0.6 if who == ["ann"] else 0.0)))
    assert verdicts(compare(RunFolder(base), new, Gate()), "identity").verdict == "unchanged"


def test_two_subject_sets_have_no_interval_and_are_not_comparable_unless_equal(base, changed):
    new = RunFolder(changed("identity", lambda who, value: value - 0.3, subjects=2))
    report = compare(RunFolder(base), new, Gate(methods=["paste"]))
    found = verdicts(report, "identity", subjects=2)
    assert (found.verdict, found.difference.mean) == ("not comparable", pytest.approx(-0.3))
    assert report.exit_code == 3


def test_missing_samples_are_incomplete_and_never_change_the_denominator_silently(base, tmp_path, fc_bench):
    new = tmp_path / "new"
    shutil.copytree(base, new)
    records = _lines(new / "samples.jsonl")
    _write(new / "samples.jsonl", [record for record in records if record["index"] == 0][1:])
    done = fc_bench("compare", base, new)
    assert done.code == 4
    assert "8 / 9" in done.out
    assert "of 9 samples, 0 are missing in base and 1 in new" in done.out


def test_other_photographs_are_not_comparable(base, tmp_path, fc_bench):
    new = tmp_path / "new"
    shutil.copytree(base, new)
    settings = json.loads((new / "run.json").read_text())
    settings["suite"]["photograph_digests"]["ann"] = "0" * 64
    (new / "run.json").write_text(json.dumps(settings))
    done = fc_bench("compare", base, new)
    assert done.code == 3
    assert "different photographs" in done.out


def test_times_of_other_machines_and_of_compiled_models_are_not_comparable_and_bytes_are(base, tmp_path):
    new = tmp_path / "new"
    shutil.copytree(base, new)
    recorded = (new / "run.json").read_text()
    for what in ("hardware", "compilation of the models", "attention or memory formats"):
        settings = json.loads(recorded)
        if what == "hardware":
            settings["commands"][0]["hardware"]["processor"] = "another"
        elif what == "attention or memory formats":
            settings["kernels"] = {"attention": "sdpa", "unet": "contiguous", "vae": "contiguous"}
        else:
            settings["compiled"] = "inductor"
        (new / "run.json").write_text(json.dumps(settings))
        report = compare(RunFolder(base), RunFolder(new), Gate())
        assert verdicts(report, "image_seconds").verdict == "not comparable"
        assert what in verdicts(report, "image_seconds").reason
        assert verdicts(report, "artefact_mib").verdict == "unchanged"
        assert any("memory formats" in note for note in report.notes) == (what == "attention or memory formats")


def test_artefact_that_grew_is_refused_where_the_gate_asks_for_it(base, tmp_path):
    new = tmp_path / "new"
    shutil.copytree(base, new)
    records = _lines(new / "jobs.jsonl")
    _write(new / "jobs.jsonl", [{**record, "artefact_bytes": 2 * record["artefact_bytes"]} for record in records])
    file = tmp_path / "gate.yaml"
    file.write_text(yaml.safe_dump({"quality": {}, "cost": {"artefact_mib": {"tolerance": 0.5}}, "methods": ["paste"]}))
    report = compare(RunFolder(base), RunFolder(new), read_gate(file))
    found = verdicts(report, "artefact_mib")
    assert (found.verdict, found.alarm, found.relative) == ("worse", True, True)
    assert found.difference.mean == pytest.approx(1.0)
    assert report.exit_code == 1


def test_intervals_are_wider_the_more_is_gated(base, changed):
    new = RunFolder(changed("identity", lambda who, value: value - 0.1 * len(who[0]) * (who[0] < "b") - 0.1))
    few = compare(RunFolder(base), new, Gate(quality={"identity": QualityTolerance()}, methods=["paste"]))
    many = compare(RunFolder(base), new, Gate())
    assert few.level == pytest.approx(1 - 0.05 / 2)
    assert many.level > few.level
    narrow, wide = verdicts(few, "identity").difference, verdicts(many, "identity").difference
    assert wide.low < narrow.low < narrow.high < wide.high


def test_rows_of_other_names_are_compared_where_they_are_said_to_belong_together(base, fc_bench):
    done = fc_bench("compare", base, base, "--method", "paste=collage")
    assert "paste -> collage" in done.out
    assert fc_bench("compare", base, base, "--method", "paste=cologne").err == (
        'fc-bench: The new run has no method "cologne", did you mean "collage"?\n'
    )
    assert "not of the form BASE=NEW" in fc_bench("compare", base, base, "--method", "paste").err


def test_junit_and_summary_hold_the_verdicts(base, changed, fc_bench, tmp_path):
    new = changed("identity", lambda who, value: value - 0.3)
    junit, summary = tmp_path / "out" / "junit.xml", tmp_path / "summary.md"
    summary.write_text("before\n")
    assert fc_bench("compare", base, new, "--junit", junit, "--summary", summary).code == 1
    suite = ElementTree.parse(junit).getroot()[0]
    failures = [case for case in suite if case.find("failure") is not None]
    assert [(case.get("classname"), case.get("name")) for case in failures] == [("paste", "identity, one subject")]
    assert suite.get("failures") == "1"
    assert int(suite.get("tests", 0)) == len(suite)
    text = summary.read_text()
    assert text.startswith("before\n### ")
    assert "worse: refused" in text


@pytest.mark.parametrize(
    ("gate", "sentence"),
    [
        ({"quality": {"idenity": {}}}, 'The gate names the quality column "idenity", did you mean "identity"?'),
        ({"cost": {"step": {}}}, 'The gate names the cost column "step", did you mean "steps"?'),
        ({"methods": ["pasta"]}, 'The gate names the method "pasta", did you mean "paste"?'),
    ],
)
def test_gate_that_names_what_is_not_there_is_refused(base, gate, sentence):
    with pytest.raises(UserError) as refused:
        compare(RunFolder(base), RunFolder(base), Gate.model_validate(gate))
    assert sentence in str(refused.value)


def test_gate_file_with_a_wrong_key_or_value_is_refused_with_its_line(tmp_path):
    file = tmp_path / "gate.yaml"
    for text in ("quality:\n  identity: {tolerence: 0.1}\n", "quality:\n  identity: {tolerance: -1}\n"):
        file.write_text(text)
        with pytest.raises(ModelInputError, match=r"gate.yaml:2"):
            read_gate(file)


def test_folder_that_is_no_run_and_runs_without_a_common_method_are_refused(base, tmp_path, fc_bench):
    (tmp_path / "empty").mkdir()
    assert "not a run folder" in fc_bench("compare", base, tmp_path / "empty").err
    new = tmp_path / "new"
    shutil.copytree(base, new)
    settings = json.loads((new / "run.json").read_text())
    settings["methods"] = {"other": settings["methods"]["paste"]}
    (new / "run.json").write_text(json.dumps(settings))
    done = fc_bench("compare", base, new)
    assert done.code == 2
    assert "have no method in common (base: paste, collage; new: other)" in done.err


@pytest.mark.parametrize(("field", "reason"), [("title", ""), ("description", "different definition of the column")])
def test_another_title_of_a_column_compares_and_another_description_does_not(base, field, reason):
    settings = RunFolder(base).settings()
    new = copy.deepcopy(settings)
    new["columns"]["identity"][0][field] = "another"
    assert Obstacles(settings, new).to_quality(Column(**settings["columns"]["identity"][0])) == reason
