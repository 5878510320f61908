"""The shipped pocket weights hold their bars on people nothing was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fc_bench.model.fastcomposer.pipeline import FastComposerPipeline
from fc_bench.model.pocket import quality
from fc_bench.model.pocket.assemble import HERE, open_fastcomposer
from fc_bench.model.pocket.cards import flat, measured_as, table
from fc_bench.model.pocket.subjects import PHOTOGRAPHS, suite_people
from fc_bench.model.pocket.train import ADAPTER_STAGE, FASTCOMPOSER_STAGES, STAGES, SUPERVISED_LAYERS

WEIGHTS = HERE / "weights"
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def faces() -> Any:
    return quality.open_face_pack(WEIGHTS / "faces")


@pytest.fixture(scope="module")
def with_localization() -> FastComposerPipeline:
    return open_fastcomposer(WEIGHTS, "with-localization")


def test_the_detector_finds_unseen_faces_and_nothing_else(faces: Any) -> None:
    measured = quality.measure_detector(faces, pictures=250)
    assert measured["recall"] >= 0.99
    assert measured["false_detections"] <= 0.01
    assert measured["empty_pictures_with_detection"] <= 0.01


def test_the_recognizer_tells_unseen_people_apart(faces: Any) -> None:
    measured = quality.measure_recognizer(faces, people=100)
    assert measured["auc_photographs"] >= 0.97
    assert measured["spearman_with_trait_distance"] >= 0.35


def test_every_suite_photograph_shows_one_face(faces: Any) -> None:
    folder = REPOSITORY / "datasets" / "pocket" / "subjects"
    counts = {
        f"{subject}/{number}": len(
            quality.find_faces(faces, np.asarray(Image.open(folder / subject / f"{number}.png").convert("RGB")))
        )
        for subject in suite_people()
        for number in range(1, PHOTOGRAPHS + 1)
    }
    assert {name: count for name, count in counts.items() if count != 1} == {}


def test_a_subject_token_attends_to_its_own_person(with_localization: FastComposerPipeline) -> None:
    attention = quality.measure_attention(with_localization, SUPERVISED_LAYERS, pairs=12)
    assert attention["ratio"] >= 3


def test_localization_is_what_separates_the_subjects(with_localization: FastComposerPipeline) -> None:
    without = open_fastcomposer(WEIGHTS, "without-localization")
    ratios = [quality.measure_attention(p, SUPERVISED_LAYERS, pairs=8)["ratio"] for p in (with_localization, without)]
    assert ratios[0] > 1.5 * ratios[1]


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return json.loads((HERE / "cards" / "quality.json").read_text())


@pytest.mark.parametrize("subjects", ["one_subject", "two_subjects"])
def test_generated_people_had_the_colors_of_their_own_reference_when_measured(
    measured: dict[str, Any], subjects: str
) -> None:
    _has_own_colors(measured[FASTCOMPOSER_STAGES[True]][subjects]["alpha_1.0"]["colors"])


@pytest.mark.slow
@pytest.mark.parametrize("subjects", [1, 2])
def test_generated_people_have_the_colors_of_their_own_reference(
    with_localization: FastComposerPipeline, faces: Any, subjects: int
) -> None:
    _has_own_colors(quality.measure_colors(faces, quality.generate_set(with_localization, subjects, 48, alpha=1.0)))


def _has_own_colors(colors: dict[str, float]) -> None:
    for part in ("skin", "hair"):
        assert colors[f"{part}_own"] >= 0.7
        assert abs(colors.get(f"{part}_other", 0.0)) < 0.35


def test_identity_lies_between_the_text_only_model_and_real_pictures(measured: dict[str, Any]) -> None:
    for subjects in ("one_subject", "two_subjects"):
        identity = measured[FASTCOMPOSER_STAGES[True]][subjects]["alpha_1.0"]["identity"]
        assert identity["interval_low"] > measured["base"][subjects]["identity"]["interval_high"]
        assert identity["interval_high"] < measured["reference"][subjects]["real"]["interval_low"]


def test_identity_of_the_adapter_lies_above_the_text_only_model(measured: dict[str, Any]) -> None:
    identity = measured[ADAPTER_STAGE]["one_subject"]["identity"]
    assert identity["interval_low"] > measured["base"]["one_subject"]["identity"]["interval_high"]
    assert measured[ADAPTER_STAGE]["one_subject"]["told_apart"]["auc"] > 0.6


def test_all_weights_together_stay_small() -> None:
    total = sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file())
    assert total <= 60e6


def test_every_card_shows_what_was_measured_and_how_it_was_trained(measured: dict[str, Any]) -> None:
    for stage in STAGES:
        card = (HERE / "cards" / f"{stage}.md").read_text()
        for fact in ("seed", "steps", "batch size", "device", "wall time (s)"):
            assert f"| {fact} |" in card, (stage, fact)
        assert table(flat(measured[measured_as(stage)])) in card
