"""Copying is what a photograph of the reference itself does, and no other photograph of the person."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image

from fc_bench.metrics.copy_paste import CopyPaste
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.protocols import Sampler, ScoredSample, Setting
from fc_bench.registry import suite_file
from fc_bench.suites.photographs import read_photograph
from fc_bench.suites.suite import read_suite


@pytest.fixture(scope="module")
def people():
    return read_suite(suite_file("pocket")).subjects[:3]


@pytest.fixture(scope="module")
def metric(people):
    made = CopyPaste(Setting(read_backbone("pocket"), Sampler("ddim", 2, 2.0, 128), "cpu", "float32"))
    made.prepare(people)
    return made


def shown(metric, image, *subjects):
    return metric.score(ScoredSample(image, "a photo", subjects)).values


def test_the_reference_itself_is_copied_entirely(metric, people):
    found = shown(metric, read_photograph(people[0].photographs[0]), people[0])
    assert found["copying"] == pytest.approx(1, abs=1e-4)
    assert found["likeness_to_reference"] == pytest.approx(1, abs=1e-4)
    assert found["multiid_copy_paste"] == pytest.approx(1, abs=0.01)
    assert [found[f"{name}_difference"] for name in ("pose", "expression", "framing")] == pytest.approx([0, 0, 0])


def test_other_photographs_of_the_person_copy_nothing_on_average(metric, people):
    likeness = [score.values["likeness_to_reference"] for score in metric.anchors(people[:1], people)["ceiling"]]
    assert len(likeness) == len(people[0].photographs) - 1
    assert np.mean(likeness) == pytest.approx(0, abs=0.1)
    for score in metric.anchors(people[:1], people)["ceiling"]:
        assert score.values["copying"] < 0.9
        assert score.values["framing_difference"] > 0


def test_a_stranger_copies_nothing_and_is_less_like_the_reference_than_the_person(metric, people):
    (floor,) = metric.anchors(people[:1], people)["floor"]
    assert floor.values["copying"] == 0
    assert floor.values["likeness_to_reference"] < -0.5


def test_copying_is_the_share_between_another_photograph_and_the_reference(metric, people, monkeypatch):
    """Embeddings of known cosines: others at .6, the face at .8, so half of what is left is copied."""
    reference, other = np.array([1.0, 0.0]), np.array([0.6, 0.8])
    face = metric._references.face(people[0])

    class Known:
        unusable = MappingProxyType({})

        def embeddings(self, subjects):
            return [reference for _ in subjects]

        def usable(self, subject, number):
            return type(face)(face.box, face.score, other, face.landmarks)

        def face(self, subject, number=0):
            return face

    monkeypatch.setattr(metric, "_references", Known())
    image = read_photograph(people[0].photographs[0])
    found = type(face)(face.box, face.score, np.array([0.8, 0.6]), face.landmarks)
    monkeypatch.setattr(metric._models, "find", lambda _: [found])
    values = shown(metric, image, people[0])
    assert values["copying"] == pytest.approx(0.5)
    angles = np.arccos([0.8 * 0.6 + 0.6 * 0.8, 0.8, 0.6])
    assert values["multiid_copy_paste"] == pytest.approx((angles[0] - angles[1]) / angles[2], abs=1e-4)


def test_a_turned_or_moved_face_differs_in_pose_or_framing_alone(metric, people):
    photograph = read_photograph(people[0].photographs[0])
    moved = Image.new("RGB", photograph.size, (120, 120, 120))
    moved.paste(photograph, (photograph.width // 8, 0))
    found = shown(metric, moved, people[0])
    assert found["framing_difference"] > 0.03
    assert found["pose_difference"] < 0.05


def test_nobody_and_people_with_one_photograph_are_left_out(metric, people):
    from dataclasses import replace

    empty = Image.new("RGB", (128, 128), (90, 90, 90))
    assert set(shown(metric, empty, people[0]).values()) == {None}
    single = replace(people[0], photographs=people[0].photographs[:1])
    found = shown(metric, read_photograph(people[0].photographs[0]), single)
    assert found["copying"] is None
    assert found["multiid_copy_paste"] is None
    assert found["framing_difference"] == 0
