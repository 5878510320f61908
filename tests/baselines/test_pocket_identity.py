"""On the pocket backbone every method that tunes makes its subject more alike than the base model does."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from fc_bench.generation.plan import resolve_method
from fc_bench.metrics.identity import Identity
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.protocols import Customization, Request, Sampler, ScoredSample, Setting, Subject, fill
from fc_bench.registry import suite_file
from fc_bench.suites.suite import read_suite

TEMPLATES = ("a photo of a {subject}", "a photo of a {subject} in the snow")
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting(read_backbone("pocket"), Sampler("dpm", 15, 3.0, 128), "cpu", "float32")


@pytest.fixture(scope="module")
def subject() -> Subject:
    """Somebody of the training range."""
    return read_suite(suite_file("pocket-tuning")).subjects[0]


@pytest.fixture(scope="module")
def identity(setting: Setting, subject: Subject) -> Identity:
    metric = Identity(setting)
    metric.prepare([subject])
    return metric


def mean_identity(name: str, setting: Setting, subject: Subject, identity: Identity, folder: Path) -> float:
    """Identity over templates and seeds of a method with its settings for the backbone."""
    kind, options, _ = resolve_method(name, {}, setting)
    method = kind(setting, options)
    folder.mkdir()
    customization: Customization = method.customize([subject], 1, folder, None)
    values = []
    for template in TEMPLATES:
        prompt = fill(template, [method.mention(subject, 0)])
        for image in method.generate(customization, [Request(prompt, "", seed) for seed in SEEDS]):
            found = identity.score(ScoredSample(image, fill(template, [subject.noun]), (subject,)))
            values.append(found.values["identity"])
    return statistics.fmean(values)


@pytest.fixture(scope="module")
def text_only(setting, subject, identity, tmp_path_factory) -> float:
    return mean_identity("text-only", setting, subject, identity, tmp_path_factory.mktemp("plain") / "artefact")


@pytest.mark.parametrize("name", ["dreambooth", "dreambooth-lora", "textual-inversion", "custom-diffusion"])
def test_the_subject_is_more_alike_than_without_tuning(
    name, setting, subject, identity, text_only, tmp_path, tmp_path_factory, monkeypatch
):
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "pocket-class-images"))
    assert mean_identity(name, setting, subject, identity, tmp_path / "artefact") > text_only + 0.03
