"""A fault that is planted into a metric shows on its card."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fc_bench.audit.card import Card, ColumnCard, LevelEffect, card_of
from fc_bench.audit.design import Design
from fc_bench.audit.examination import examine, setting_of
from fc_bench.metrics.identity import Identity
from fc_bench.protocols import Score, ScoredSample, Setting
from fc_bench.scoring.faces import FaceModels, ReferenceFaces

DESIGN = Design(people=10, seeds=1, largest=2, factors=frozenset({"composition", "style", "covered"}))


class MeanInsteadOfMinimum(Identity):
    """The mean over the subjects in the place of the minimum."""

    def score(self, sample: ScoredSample) -> Score:
        found = super().score(sample)
        return Score({**found.values, "identity": found.values["identity_mean"]}, found.details)


class WithoutOneToOne(Identity):
    """Each subject with whatever face is most similar, so that one face may serve two references."""

    def score(self, sample: ScoredSample) -> Score:
        found = super().score(sample)
        rows = found.details["similarities"]
        best = [max([0.0, *row]) for row in rows]
        return Score({**found.values, "identity": min(best)}, found.details)


class StrictDetector(Identity):
    """A detection threshold of .9 for images."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        faces = setting.backbone.faces[0].model_copy(update={"det_thresh": 0.9})
        self._models = FaceModels(setting.backbone.model_copy(update={"faces": (faces,)}), setting.device)


class WrongCrop(Identity):
    """Crops that are aligned with landmarks beside the face's own."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._models = FaceModels(setting.backbone, setting.device)
        self._references = ReferenceFaces(self._models)
        recognizer: Any = self._models._pack._recognizer
        crop = recognizer._crop

        def beside(pixels: np.ndarray, found: Any) -> np.ndarray:
            moved = type(found)(found)
            moved["kps"] = found.kps + 0.6 * (found.kps[1] - found.kps[0])
            return crop(pixels, moved)

        recognizer._crop = beside


def examined(metric: type[Identity]) -> Card:
    return card_of("identity", metric, examine(DESIGN, {"identity": metric}, setting_of("pocket")))


@pytest.fixture(scope="module")
def right() -> Card:
    return examined(Identity)


def column(card: Card, name: str = "identity") -> ColumnCard:
    return next(one for one in card.columns if one.column.name == name)


def fault(card: Card, level: str, subjects: int = 2, name: str = "identity") -> LevelEffect:
    return next(one for one in column(card, name).faults if one.level.name == level and one.subjects == subjects)


def cost(card: Card, level: str, subjects: int = 2) -> float:
    found = fault(card, level, subjects).cost
    assert found is not None
    return found


def test_the_metric_without_a_fault_counts_every_error_of_two_people_fully(right: Card) -> None:
    for level in ("strangers for all but one", "one missing", "one face for two", "one person in every place"):
        assert cost(right, level) > 0.85
    assert not column(right, "detection_rate").biases


def test_a_mean_instead_of_the_minimum_halves_the_cost_of_one_wrong_person(right: Card) -> None:
    planted = examined(MeanInsteadOfMinimum)
    for level in ("strangers for all but one", "one missing"):
        assert cost(planted, level) < 0.7 < cost(right, level)


def test_one_face_for_two_references_costs_less_without_one_to_one_matching(right: Card) -> None:
    planted = examined(WithoutOneToOne)
    assert cost(planted, "one face for two") < cost(right, "one face for two") - 0.2
    assert cost(planted, "strangers for all but one") == pytest.approx(
        cost(right, "strangers for all but one"), abs=0.1
    )


def test_a_strict_detector_loses_faces_that_are_there(right: Card) -> None:
    planted = examined(StrictDetector)
    found = [column(card, "detection_rate").scales.get(1) for card in (right, planted)]
    assert found[0] is not None
    assert found[0].ceiling == 1
    assert found[1] is None or found[1].ceiling < 0.95


def test_a_wrong_crop_takes_likeness_from_the_right_person(right: Card) -> None:
    planted = examined(WrongCrop)
    lengths = [column(card).scales[1].length for card in (right, planted)]
    assert lengths[1] < lengths[0] - 0.1
