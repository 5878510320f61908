"""Scoring in batches: the values of single images, in the order of the records, and failures that stay alone."""

from __future__ import annotations

from io import StringIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from rich.console import Console

from fc_bench.commands.run import setting_of
from fc_bench.metrics.diversity import Diversity
from fc_bench.metrics.identity import Identity
from fc_bench.metrics.identity_grey_crop import IdentityGreyCrop
from fc_bench.metrics.image_similarity import ImageSimilarity
from fc_bench.metrics.prompt_consistency import PromptConsistency
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.progress import progress
from fc_bench.protocols import Column, Score
from fc_bench.registry import suite_file
from fc_bench.run_folder.json_lines import read_lines
from fc_bench.run_folder.records import PLAN, SAMPLES, SCORES, RunFolder, write_lines
from fc_bench.scoring import score as scoring
from fc_bench.scoring.recognizers import PackRecognizer
from fc_bench.suites.photographs import read_photograph
from fc_bench.suites.suite import read_suite

BROKEN = ("broken", "missing", "empty")


class DrawsOnImage:
    """A plug-in without a batch form, which changes the image that it gets."""

    columns = (Column("corner", "corner", None, "the corner's red"),)

    def score(self, sample: Any) -> Score:
        red = float(sample.image.getpixel((0, 0))[0])
        ImageDraw.Draw(sample.image).rectangle((0, 0, *sample.image.size), fill="red")
        return Score({"corner": red})

    def anchors(self, subjects, others):
        return {}


@pytest.fixture(scope="module")
def suite():
    return read_suite(suite_file("pocket"))


@pytest.fixture
def folder(suite, tmp_path):
    """A run folder of images in several shapes: one face, two, none, no subject's, and files that are no image."""
    photographs = [read_photograph(file) for subject in suite.subjects[:4] for file in subject.photographs]
    wide = Image.new("RGB", (256, 128))
    wide.paste(photographs[0], (0, 0))
    wide.paste(photographs[6], (128, 0))
    images = {f"{number:02}-face": image for number, image in enumerate(photographs)}
    images |= {"two": wide, "tall": wide.rotate(90, expand=True), "none": Image.new("RGB", (128, 128), "gray")}
    images |= {"large": photographs[3].resize((300, 300)), "flat": photographs[2].resize((160, 90))}
    path = tmp_path / "run"
    (path / "images").mkdir(parents=True)
    records = []
    for number, name in enumerate([*list(images)[:7], *BROKEN, *list(images)[7:]]):
        file = path / "images" / f"{name}.png"
        if name in images:
            images[name].save(file)
        elif name == "broken":
            images["two"].save(file)
            file.write_bytes(file.read_bytes()[:5000])
        elif name == "empty":
            file.write_bytes(b"")
        subjects = ["p01", "p02"] if name in ("two", "tall") else ["p01"]
        prompt = f"a photo of a man in the {('snow', 'garden', 'rain')[number % 3]}"
        template = name if name in BROKEN else prompt  # they are siblings of no image
        sample = {"id": name, "method": "m", "subjects": subjects, "category": "c", "template": template}
        sample |= {"index": number}
        planned = {**sample, "prompt": prompt, "seed": None, "shared_key": name}
        records.append({**planned, "status": "ok", "image": f"images/{name}.png", "seconds": None})
    write_lines(path / PLAN, [{key: one[key] for key in one if key not in ("status", "image")} for one in records])
    write_lines(path / SAMPLES, records)
    return RunFolder(path)


def scored(folder, suite, monkeypatch, batch: int, **further: Any) -> list[dict[str, Any]]:
    """The records of scoring in batches of so many images, by models that remember nothing."""
    for shared in ("fc_bench.scoring.faces._SHARED", "fc_bench.scoring.clip._SHARED"):
        monkeypatch.setattr(shared, {})
    monkeypatch.setattr(scoring, "BATCH", batch)
    (folder.path / SCORES).unlink(missing_ok=True)
    setting = setting_of(suite, read_backbone("pocket"), "cpu")
    kinds = (Identity, IdentityGreyCrop, PromptConsistency, ImageSimilarity, Diversity)
    metrics: Any = {kind.__name__: kind(setting) for kind in kinds} | {"corner": DrawsOnImage(), **further}
    pending = scoring.PendingScores(folder, metrics)
    with progress(Console(file=StringIO()), "Scoring", len(pending)) as show:
        scoring.score(suite, folder, metrics, show, pending)
    return read_lines(folder.path / SCORES)


def close(one: Any, other: Any) -> bool:
    """Whether two records are equal up to 1e-6 in their numbers, and in the last line of their errors."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            str(one[key]).splitlines()[-1] == str(other[key]).splitlines()[-1]
            if key == "error"
            else close(one[key], other[key])
            for key in one
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float):
        # Details are rounded to six digits, boxes to two.
        return one == pytest.approx(other, abs=2e-6 if round(one, 6) == one else 1e-6)
    return one == other


def test_batches_give_the_values_of_single_images_in_the_same_order(folder, suite, monkeypatch):
    together = scored(folder, suite, monkeypatch, batch=13)
    alone = scored(folder, suite, monkeypatch, batch=1)
    assert [(one["sample"], one["metric"]) for one in together] == [(one["sample"], one["metric"]) for one in alone]
    for one, other in zip(together, alone, strict=True):
        assert close(one, other), (one, other)
    faces = {
        one["sample"]: len(one["details"]["faces"])
        for one in together
        if one["metric"] == "Identity" and "details" in one
    }
    assert (faces["none"], faces["two"]) == (0, 2)


def test_files_that_are_no_images_fail_alone(folder, suite, monkeypatch):
    records = [one for one in scored(folder, suite, monkeypatch, batch=32) if not one["sample"].startswith("anchor")]
    failed = {one["sample"] for one in records if one["status"] == "error"}
    assert failed == set(BROKEN)
    assert len(records) == 6 * len(read_lines(folder.path / SAMPLES))


def test_image_that_fails_when_embedded_with_others_fails_alone(folder, suite, monkeypatch):
    unlucky = np.asarray(read_photograph(suite.subjects[0].photographs[3]))[..., ::-1]

    def crop(self, pixels, found, crop=PackRecognizer._crop):
        if np.array_equal(pixels, unlucky):
            raise RuntimeError("it cannot be cropped")
        return crop(self, pixels, found)

    monkeypatch.setattr(PackRecognizer, "_crop", crop)
    records = scored(folder, suite, monkeypatch, batch=32)
    failed = {one["sample"] for one in records if one["metric"] == "Identity" and one["status"] == "error"}
    assert failed == {*BROKEN, "03-face"}


def test_recognizer_whose_values_change_in_company_gets_one_face_at_a_time(folder, suite, monkeypatch):
    alone = scored(folder, suite, monkeypatch, batch=1)

    def run(self, crops, run=PackRecognizer._run):
        found = run(self, crops)
        return found if len(crops) == 1 else found + found.mean()

    monkeypatch.setattr(PackRecognizer, "_run", run)
    assert all(map(close, scored(folder, suite, monkeypatch, batch=32), alone))


def test_interruption_loses_no_finished_score_and_the_rest_follows(folder, suite, monkeypatch):
    class Interrupted(DrawsOnImage):
        left = 9

        def score(self, sample: Any) -> Score:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            return Score({"corner": 1.0})

    with pytest.raises(KeyboardInterrupt):
        scored(folder, suite, monkeypatch, batch=32, interrupted=Interrupted())
    before = read_lines(folder.path / SCORES)
    assert sum((one["metric"], one["status"]) == ("interrupted", "ok") for one in before) == 8
    monkeypatch.setattr(scoring, "BATCH", 32)
    metrics: Any = {"interrupted": DrawsOnImage(), "corner": DrawsOnImage()}
    pending = scoring.PendingScores(folder, metrics)
    with progress(Console(file=StringIO()), "Scoring", len(pending)) as show:
        scoring.score(suite, folder, metrics, show, pending)
    after = read_lines(folder.path / SCORES)
    assert after[: len(before)] == before
    assert len({(one["sample"], one["metric"]) for one in after}) == len(after)


def test_large_images_come_in_smaller_batches(folder, suite, monkeypatch):
    seen: list[int] = []

    class Counts(DrawsOnImage):
        def look_ahead(self, samples: Any) -> None:
            seen.append(len(samples))

    monkeypatch.setattr(scoring, "BATCH_BYTES", 3 * 128 * 128 * 4)
    scored(folder, suite, monkeypatch, batch=32, counts=Counts())
    assert max(seen) <= 4 + len(BROKEN)
