"""Examinations: a metric of known behavior gets the card that it deserves, and the design alone decides the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from fc_bench.audit.card import ColumnCard, card_of
from fc_bench.audit.design import BASE, OTHER_PEOPLE, Design, levels
from fc_bench.audit.examination import FACTS, examine, examine_in_processes, setting_of
from fc_bench.errors import UserError
from fc_bench.metrics.embedders import metric_classes
from fc_bench.protocols import Column, Score, ScoredSample, Setting, Subject
from fc_bench.reports.audit.cards import in_short
from fc_bench.scoring.faces import NoFaceError

SETTING = setting_of("pocket")


class _Drawn:
    """A metric without models."""

    description: ClassVar[str] = "a metric of a test"
    columns: ClassVar[tuple[Column, ...]] = (Column("value", "value", True, "of a test", bounds=(0.0, 1.0)),)

    def __init__(self, setting: Setting) -> None: ...

    def prepare(self, subjects: Sequence[Subject]) -> None: ...

    def anchors(self, subjects: Sequence[Subject], others: Sequence[Subject]) -> Mapping[str, Sequence[Score]]:
        return {}

    def provenance(self) -> Mapping[str, Any]:
        return {}

    def score(self, sample: ScoredSample) -> Score:
        return Score({"value": 0.5})


class Blind(_Drawn):
    """Says the same of every picture."""


class Brightness(_Drawn):
    """Takes the brightness for quality."""

    def score(self, sample: ScoredSample) -> Score:
        return Score({"value": float(np.asarray(sample.image).mean()) / 255})


class HalfBlind(_Drawn):
    """Finds no face in the reference photographs of every second person."""

    def prepare(self, subjects: Sequence[Subject]) -> None:
        for subject in subjects:
            if int(subject.id) % 2:
                raise NoFaceError(subject)


class Broken(_Drawn):
    """Fails on every picture."""

    def score(self, sample: ScoredSample) -> Score:
        raise RuntimeError("no answer")


def card(metric: type[Any], *factors: str, people: int = 8) -> ColumnCard:
    design = Design(people=people, seeds=2, largest=1, factors=frozenset(factors))
    (column,) = card_of("drawn", metric, examine(design, {"drawn": metric}, SETTING)).columns
    return column


def test_a_metric_that_says_the_same_of_everything_is_blind_and_has_no_scale() -> None:
    found = card(Blind, "composition", "light", "trait distance")
    assert not found.scales
    assert not found.sees
    assert not found.biases
    assert {one.effect.mean for one in found.effects} == {0.0}


def test_a_metric_of_brightness_is_moved_by_light_and_blind_to_other_people() -> None:
    found = card(Brightness, "composition", "light", "head tilt", people=12)
    moved = {one.level.name: one.effect for one in found.effects if one.level.factor == "light" and not one.others}
    assert moved["darker"].high is not None
    assert moved["darker"].high < 0
    assert moved["brighter"].low is not None
    assert moved["brighter"].low > 0
    other = next(one for one in found.effects if one.level.key == OTHER_PEOPLE)
    assert other.effect.low is not None
    assert other.effect.low < 0 < (other.effect.high or 0)


def test_every_level_is_paired_with_its_base_for_the_same_people_and_seeds() -> None:
    design = Design(people=4, seeds=2, largest=2)
    scores = examine(design, {"drawn": Blind}, SETTING)
    assert len(scores) == design.pictures()
    keys = {
        (size, factor, level, others): set(zip(own["people"], own["seed"], strict=True))
        for (size, factor, level, others), own in scores.groupby(["subjects", "factor", "level", "others"])
    }
    for size in (1, 2):
        for level in levels(size):
            assert keys[(size, *level.key, False)] == keys[(size, *level.base, False)]
            if level.with_others:
                assert keys[(size, *level.key, True)] == keys[(size, *BASE, True)]


def test_the_scores_follow_from_the_design_in_one_process_and_in_two() -> None:
    design = Design(people=3, seeds=1, largest=1, factors=frozenset({"style"}))
    classes = metric_classes(["identity", "xverse"], SETTING.backbone)
    here = examine(design, classes, SETTING)

    class Counted:
        pictures = 0

        def advance(self, count: int = 1) -> None:
            self.pictures += count

    counted: Any = Counted()
    there = examine_in_processes(design, ["identity", "xverse"], "pocket", 2, counted)
    pd.testing.assert_frame_equal(here, there)
    assert counted.pictures == design.pictures() == len(here)
    assert list(here.columns[: len(FACTS)]) == list(FACTS)


def test_a_derived_score_equals_the_one_of_the_picture_itself() -> None:
    design = Design(people=3, seeds=1, largest=2, factors=frozenset({"composition"}))
    derived = examine(design, metric_classes(["identity", "multiid"], SETTING.backbone), SETTING)
    alone = examine(design, metric_classes(["multiid"], SETTING.backbone), SETTING)
    for column in ("multiid_similarity", "multiid_non_matched"):
        assert derived[column].to_numpy() == pytest.approx(alone[column].to_numpy(), abs=2e-5, nan_ok=True)


def test_people_whose_reference_shows_no_face_are_left_out_and_counted() -> None:
    design = Design(people=4, seeds=1, largest=2, factors=frozenset({"light"}))
    found = examine(design, {"drawn": HalfBlind}, SETTING)
    seen = [all(int(person) % 2 == 0 for person in people.split("+")) for people in found["people"]]
    assert 0 < sum(seen) < len(seen)
    assert found["value"].notna().tolist() == seen
    column = card_of("drawn", HalfBlind, found).columns[0]
    assert (column.people, column.unseen) == (4, 2)
    assert "no face is found in the reference photographs of 2 of 4 people" in in_short(column)


def test_a_metric_that_fails_is_named_with_the_picture() -> None:
    with pytest.raises(UserError, match=r'"drawn" fails on a drawn picture \(request, as requested\).*no answer'):
        card(Broken, "light")
