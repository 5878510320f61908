"""Scores against all photographs equal the plain means over all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from fc_bench.metrics.all_photographs import AllPhotographs
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.protocols import Sampler, ScoredSample, Setting
from fc_bench.registry import suite_file
from fc_bench.scoring.clip import ClipScorer
from fc_bench.scoring.faces import FaceModels
from fc_bench.suites.photographs import read_photograph
from fc_bench.suites.suite import read_suite


@pytest.fixture(scope="module")
def people():
    return read_suite(suite_file("pocket")).subjects[:2]


@pytest.fixture(scope="module")
def setting():
    return Setting(read_backbone("pocket"), Sampler("ddim", 2, 2.0, 128), "cpu", "float32")


@pytest.fixture(scope="module")
def metric(people, setting):
    made = AllPhotographs(setting)
    made.prepare(people)
    return made


def test_clip_i_is_the_mean_over_all_photographs_and_subjects(metric, people, setting):
    clip = ClipScorer.shared(setting.backbone.path("clip"), "cpu")
    image = read_photograph(people[1].photographs[2])
    expected = [
        np.mean([float(clip.image(image) @ clip.image(read_photograph(file))) for file in person.photographs])
        for person in people
    ]
    found = metric.score(ScoredSample(image, "a photo of a man", people)).values
    assert found["clip_i_all"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert found["dino_all"] is None
    cosine = float(clip.image(image) @ clip.text("a photo of a man"))
    assert found["customconcept101_text"] == pytest.approx(2.5 * max(0, cosine), abs=1e-6)


def test_detect_and_compare_prefers_the_person_to_a_stranger_and_counts_faces(metric, people):
    own, other = (
        metric.score(ScoredSample(read_photograph(person.photographs[1]), "a photo", people[:1])).values
        for person in people
    )
    assert own["mudi_detect_and_compare"] > other["mudi_detect_and_compare"] + 0.2
    alone = metric.score(ScoredSample(read_photograph(people[0].photographs[1]), "a photo", people)).values
    assert alone["mudi_detect_and_compare"] == 0


def test_detect_and_compare_is_the_spectral_distance_of_plain_means(metric, people, setting):
    models = FaceModels.shared(setting.backbone, "cpu")
    embeddings = np.stack([models.find(read_photograph(file))[0].embedding for file in people[0].photographs])
    image = read_photograph(people[1].photographs[0])
    face = models.find(image)[0].embedding
    expected = 1 - abs(np.mean(embeddings @ face) - np.mean(embeddings @ embeddings.T))
    found = metric.score(ScoredSample(image, "a photo", people[:1])).values["mudi_detect_and_compare"]
    assert found == pytest.approx(expected, abs=1e-5)
