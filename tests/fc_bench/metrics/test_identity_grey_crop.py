"""Identity with grey crops equals identity while all faces are there, and fills up where one is missing."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fc_bench.metrics.identity import Identity
from fc_bench.metrics.identity_grey_crop import IdentityGreyCrop
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.protocols import Sampler, ScoredSample, Setting
from fc_bench.registry import suite_file
from fc_bench.scoring.faces import FaceModels
from fc_bench.suites.photographs import read_photograph
from fc_bench.suites.suite import read_suite


@pytest.fixture
def metrics(tiny_backbone):
    setting = Setting(read_backbone(str(tiny_backbone)), Sampler("ddim", 2, 2.0, 64), "cpu", "float32")
    return Identity(setting), IdentityGreyCrop(setting)


@pytest.fixture
def people_of_suite(suite):
    return {subject.id: subject for subject in read_suite(suite).subjects}


def values(metrics, image, *subjects):
    sample = ScoredSample(image, "a photo", subjects)
    plain, grey = (metric.score(sample).values for metric in metrics)
    return plain["identity"], grey["identity_grey_crop"]


def test_one_subject_is_scored_as_without_grey_crops(metrics, people_of_suite, people, portrait):
    plain, grey = values(metrics, portrait(people["ann"][1]), people_of_suite["ann"])
    assert plain == grey == pytest.approx(1.0, abs=1e-3)


def test_missing_face_is_compared_as_an_empty_crop(metrics, people_of_suite, people, portrait, monkeypatch):
    ann, bob = people_of_suite["ann"], people_of_suite["bob"]
    models = metrics[1]._models
    of_bob = models.find(portrait(people["bob"][1]))[0].embedding
    of_ann = models.find(portrait(people["ann"][1]))[0].embedding
    half = 0.6 * of_bob + 0.8 * (of_ann - (of_ann @ of_bob) * of_bob) / np.sqrt(1 - (of_ann @ of_bob) ** 2)
    monkeypatch.setattr(models, "empty_crop", lambda: half)
    plain, grey = values(metrics, portrait(people["ann"][1]), ann, bob)
    assert plain == 0
    assert grey == pytest.approx(0.6, abs=1e-2)


def test_order_of_the_subjects_does_not_matter_where_a_face_is_missing(metrics, people_of_suite, people, portrait):
    ann, bob = people_of_suite["ann"], people_of_suite["bob"]
    image = portrait(people["ann"][1], shade=40)
    assert values(metrics, image, ann, bob) == pytest.approx(values(metrics, image, bob, ann))


def test_image_without_any_face_counts_zero(metrics, people_of_suite):
    empty = Image.new("RGB", (128, 128), (90, 90, 90))
    assert values(metrics, empty, people_of_suite["ann"], people_of_suite["bob"]) == (0, 0)


def test_empty_crop_of_the_pocket_recognizer_is_a_unit_vector_and_nobody():
    models = FaceModels(read_backbone("pocket"), "cpu")
    empty = models.empty_crop()
    assert np.linalg.norm(empty) == pytest.approx(1.0, abs=1e-5)
    person = models.find(read_photograph(read_suite(suite_file("pocket")).subjects[0].photographs[0]))[0]
    assert float(empty @ person.embedding) < 0.9
