"""The scores of published benchmarks equal the values of their own functions (tests/golden/protocols)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fc_bench.metrics.identity import identity_score
from fc_bench.published import all_photographs, judges, mudi, multihuman, multiid, positions, xverse
from fc_bench.scoring.faces import Face

GOLDEN = Path(__file__).parents[2] / "golden" / "protocols"


def golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def matrix(rows: list[list[float]], columns: int | None = None) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(len(rows), -1 if columns is None else columns)


def test_every_file_of_golden_values_is_compared():
    compared = set(Path(__file__).read_text().split('"'))
    assert {file.stem for file in GOLDEN.glob("*.json")} <= compared


def test_fastcomposer_identity_of_several_subjects_with_grey_crops():
    for case in golden("fastcomposer_multi")["cases"]:
        count, grey = case["subjects"], case["similarity_of_the_grey_crop"]
        found = matrix(case["similarities"], case["faces"])[:, :count]
        if 0 < found.shape[1] < count:
            filled = [np.array(grey)[:, None]] * (count - found.shape[1])
            found = np.concatenate([found, *filled], axis=1)
        # Unit vectors whose products with the axes are the similarities, as far as these allow it.
        faces = [Face((0.0, 0.0, 1.0, 1.0), 1.0, column) for column in found.T]
        value = identity_score(list(np.eye(count)), faces).values["identity"]
        assert value == pytest.approx(case["expected"], abs=1e-6), case


def test_xverse_id_score_and_umo_id_confidence():
    expected = golden("xversebench_id")
    scores, confidences = [], []
    for sample in expected["samples"]:
        image = str(sample["image"])
        for cell, rows in enumerate(sample["similarities_of_the_four_images"]):
            if not rows:
                assert not expected["expected_id_score"][image][cell]
                continue
            found = matrix(rows, sample["faces"][cell])
            own = expected["expected_id_score"][image][cell]
            assert 100 * xverse.id_similarities(found) == pytest.approx(list(own.values()), abs=1e-4)
            scores += own.values()
            theirs = expected["expected_id_conf"][image][cell]
            ours = xverse.id_confidences(found)
            assert (ours is None) == (not theirs)
            if ours is not None:
                assert ours == pytest.approx(list(theirs.values()), abs=1e-6)
                confidences += list(ours)
    assert np.mean(scores) == pytest.approx(expected["expected_id_score_total"], abs=1e-3)
    assert 100 * np.mean(confidences) == pytest.approx(expected["expected_id_conf_total"], abs=1e-6)


def test_umo_scores_on_omnicontext():
    expected = golden("umo_omnicontext")
    similar, confident = [], []
    for sample in expected["samples"]:
        found = matrix(sample["similarities"], sample["faces"])
        shown = found[[count > 0 for count in sample["faces_in_each_reference"]]]
        similar.append((sample["task_type"], 10 * xverse.id_similarities(shown)))
        confidences = xverse.id_confidences(shown)
        confident.append((sample["task_type"], [] if confidences is None else 10 * confidences))
    for name, found in (("ID-Sim", similar), ("ID-Conf", confident)):
        for task, values in expected["expected_per_task"][name].items():
            ours = [value for own, values in found if own == task for value in values]
            assert ours == pytest.approx(values, abs=1e-6)
        means = expected["expected_means"][name]
        ours = xverse.omnicontext_means(found, [task for task in means if task != "avg"])
        assert {task: value for task, value in ours.items() if value is not None} == pytest.approx(
            {task: value for task, value in means.items() if value != []}, abs=1e-6
        )
        assert {task for task, value in ours.items() if value is None} == {
            task for task, value in means.items() if value == []
        }


def test_umo_matching_reward():
    for case in golden("umo_mimr")["cases"]:
        if case["faces"]:
            found = multiid.cosines(case["reference"], case["generated"])
        else:
            found = np.empty((case["subjects"], 0))
        assert xverse.matching_reward(found) == pytest.approx(case["expected"], abs=1e-6)


def test_multihuman_face_similarity_as_theirs_and_at_the_optimum():
    expected = golden("multihuman_testbench")
    kept: dict[float | None, list[tuple[float, float]]] = {}
    for sample in expected["samples"]:
        if not sample["image_there"]:
            assert sample["expected"] is None
            continue
        found = matrix(sample["similarities"], sample["faces"])
        value = multihuman.face_similarity(found)
        assert value == pytest.approx(sample["expected"]["id_match"], abs=1e-6), sample
        if "theirs_assignment" in sample:
            theirs = {int(row): column for row, column in sample["theirs_assignment"].items()}
            assert multihuman.their_matching(found).items() <= theirs.items()  # theirs also has rows of zeros
            optimum = sample["optimal_id_match_for_comparison"]
            assert multihuman.optimal_face_similarity(found) == pytest.approx(optimum, abs=1e-6)
        count = float(sample["subjects"] == sample["faces"])
        assert count == sample["expected"]["accuracy"]
        for group in (None, float(sample["subjects"])):
            kept.setdefault(group, []).append((count, value))
    for summary in expected["expected_summary"]:
        means = np.mean(kept[summary.get("People")], axis=0)
        assert means == pytest.approx([summary["Count Accuracy"], summary["Face Similarity"]], abs=1e-6)


def test_multiid_similarities_copy_paste_and_what_is_collected():
    for case in golden("multiid_bench")["faces"]:
        if "lists" in case:  # the means of all cases above
            for name, values in case["lists"].items():
                found = multiid.trimmed_mean(values)
                theirs = case["expected_statistics"][name]
                assert found is not None
                assert (found.mean, found.left_out) == pytest.approx((theirs["mean"], theirs["outliers_removed"]))
            continue
        expected, generated = case["expected"], case["generated"]
        references = [faces[0] for faces in case["references"] if faces]
        if len(references) < len(case["references"]):  # a reference without a face: theirs leaves the item out
            references = []
        for name, others in (("ori", case["target"]), ("ref", references)):
            values = expected[f"sim_{name}"]
            ours = multiid.agreement(multiid.cosines(others, generated)) if generated and others else None
            assert (ours is None) == (values is None)
            if ours is None:
                continue
            assert ours.mean == pytest.approx(np.mean(values), abs=1e-6)
            if case["kind"] == "tie":
                continue
            assert sorted(ours.matched) == pytest.approx(sorted(values), abs=1e-6)
            if case["ref_2_given"]:
                assert ours.non_matched == pytest.approx(expected[f"non_matched_{name}"], abs=1e-6)
        if case["kind"] != "tie":
            ours = multiid.copy_paste_of_image(
                *(list(map(np.array, group)) for group in (generated, case["target"], references))
            )
            assert (ours is None) == (expected["copy_geo"] is None)
            if ours is not None:
                assert ours == pytest.approx(expected["copy_geo"], abs=1e-5)


def test_multiid_copy_paste_of_one_face_and_means_without_outliers():
    expected = golden("multiid_bench")
    for case in expected["copy_paste"]:
        value = multiid.copy_paste(*(np.array(case[name]) for name in ("gen", "target", "ref")))
        assert value == pytest.approx(case["expected"], abs=1e-6)
    for case in expected["statistics"]:
        found = multiid.trimmed_mean(case["values"])
        if found is None:
            assert case["expected"] is None
            continue
        assert (found.mean, found.left_out) == pytest.approx(
            (case["expected"]["mean"], case["expected"]["outliers_removed"])
        )


def test_mudi_detect_and_compare():
    for case in golden("mudi_detect_and_compare")["cases"]:
        subjects = mudi.subject_matrix([np.array(own) for own in case["references"]])
        assert subjects == pytest.approx(np.array(case["expected"]["gt_matrix"]), abs=1e-6)
        means, largest = (
            np.array([[how(own) for own in crop] for crop in case["scores"]]).reshape(case["crops"], case["subjects"])
            for how in (np.mean, np.max)
        )
        assert mudi.detect_and_compare(means, subjects) == pytest.approx(
            case["expected"]["detect_and_compare"], abs=1e-5
        )
        for name, crops in (("max", largest), ("mean", means)):
            if f"linear_{name}" in case["expected"]:
                theirs = case["expected"][f"linear_{name}"], case["expected"][f"max_{name}"]
                assert mudi.two_subjects(crops) == pytest.approx(theirs, abs=1e-6)


def test_customconcept101_alignments():
    case = golden("customconcept101")
    images, texts, targets = (np.array(case[name]) for name in ("images", "texts", "targets"))
    cosines = np.diag(multiid.cosines(list(images), list(texts)))
    found = [all_photographs.text_alignment(float(cosine)) for cosine in cosines]
    assert found == pytest.approx(case["expected"]["text_per_image"], abs=1e-6)
    assert np.mean(found) == pytest.approx(case["expected"]["text_alignment"], abs=1e-6)
    assert all_photographs.image_alignment(images, targets) == pytest.approx(
        case["expected"]["image_alignment"], abs=1e-6
    )


def test_xverse_questions_count_nothing_below_a_failed_one():
    for case in golden("xverse_dpg")["cases"]:
        parents = {question: [str(parent) for parent in above] for question, above in case["dependency"].items()}
        scores, mean = xverse.question_scores(parents, case["answers"])
        assert scores == case["expected"]["qid2scores"]
        assert mean == pytest.approx(case["expected"]["average_score_with_dependency"])


def test_omnicontext_answers_are_read_strictly_and_its_means_are_theirs():
    expected = golden("omnicontext")
    for case in expected["parsing"]:
        theirs = case["expected"].get("score") if isinstance(case["expected"], dict) else None
        proper = isinstance(theirs, (int, float)) and 0 <= theirs <= 10
        assert judges.omnicontext_score(case["text"]) == (theirs if proper else None), case
    tasks = {
        task: [(line["PF_score"], line["SC_score"]) for line in lines if line["instruction_language"] == "en"]
        for task, lines in expected["lines"].items()
    }
    means = judges.omnicontext_means(tasks)
    for place, name in enumerate(("PF", "SC", "Overall")):
        assert {task: means[task][place] for task in tasks} == pytest.approx(expected["expected"][name])
    assert means["average"] == pytest.approx(expected["expected"]["average"])


def test_psrbench_answers_without_a_number_are_missing():
    expected = golden("psrbench")
    for case in expected["judge_answers"]:
        ours = judges.psrbench_score(case["text"])
        if isinstance(case["expected"], dict):  # theirs raises
            assert ours is None
        else:
            assert (judges.PSRBENCH_UNREADABLE if ours is None else ours) == case["expected"], case
    for case in expected["positions"]:
        sides = ("x_min", "y_min", "x_max", "y_max")
        boxes = [box and tuple(box[side] for side in sides) for box in (case["box1"], case["box2"])]
        assert positions.position_score(case["word"], *boxes) == pytest.approx(case["expected"]), case


def test_dreambench_plus_means_of_groups():
    expected = golden("dreambench_plus")
    theirs = {"all" if name == "None" else name: value for name, value in expected["expected"].items()}
    assert judges.dreambench_plus_means(expected["ratings"]) == pytest.approx(theirs)


def test_imagenhub_means_of_a_rater():
    expected = golden("imagenhub")
    for rater, ratings in expected["ratings"].items():
        assert judges.imagenhub_means(ratings) == pytest.approx(expected["expected"][rater])
