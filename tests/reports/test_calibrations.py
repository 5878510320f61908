"""Published calibrations: the backbone's threshold is the published one, and drawing again gives the same numbers."""

from __future__ import annotations

import csv
from functools import cache

import pytest
from rich.console import Console

from fc_bench.audit.photographs import calibrate
from fc_bench.model.backbones.backbone import DLIB_THRESHOLD, read_backbone
from fc_bench.progress import progress
from fc_bench.reports.audit.photographs import summary
from fc_bench.reports.calibrations import FALSE_ACCEPT_RATE, PEOPLE, SHOTS, SUMMARY, TARGET, backbones, draw_people
from tests.documentation import REPOSITORY


@cache
def published(embedder):
    with (REPOSITORY / TARGET / embedder / "calibration.csv").open(newline="", encoding="utf-8") as file:
        return {row["quantity"]: row for row in csv.DictReader(file) if row["photographs"] == "all"}


def test_the_threshold_of_the_pocket_backbone_is_the_published_one():
    declared = read_backbone("pocket").faces[0].threshold
    found = published("pocket-faces")
    assert declared is not None
    assert 0 <= declared - float(found["threshold"]["value"]) < 0.001
    assert float(found["false_accept_rate"]["value"]) == FALSE_ACCEPT_RATE
    assert int(float(found["photographs"]["value"])) == PEOPLE * SHOTS
    assert float(found["declared_threshold"]["value"]) == declared


def test_an_embedder_of_real_faces_separates_drawn_people_on_a_scale_of_its_own():
    found = published("dlib")
    assert float(found["auc"]["low"]) > 0.95
    assert float(found["other"]["value"]) > DLIB_THRESHOLD > 0.9
    assert float(found["other_at_declared"]["value"]) > 0.5


def test_people_drawn_again_are_the_published_ones(tmp_path):
    """The same six people give the same cosines, whichever folder they lie in."""
    (backbone, *_) = backbones(tmp_path)
    made = []
    for name in ("one", "other"):
        people = draw_people(tmp_path / name, people=6, shots=3)
        with progress(Console(quiet=True), "", 18) as show:
            made.append(summary(calibrate(people, backbone, 0, 0.05, show)))
    assert made[0] == made[1]
    assert (REPOSITORY / TARGET / "pocket-faces" / SUMMARY).read_text().splitlines()[0] == made[0].splitlines()[0]


@pytest.mark.real_faces
@pytest.mark.slow
def test_the_published_calibration_of_dlib_is_made_again(dlib_backbone, tmp_path):
    (_, drawn) = backbones(tmp_path)
    people = draw_people(tmp_path / "people")
    with progress(Console(quiet=True), "", PEOPLE * SHOTS) as show:
        assert summary(calibrate(people, drawn, 0, FALSE_ACCEPT_RATE, show)) == (
            REPOSITORY / TARGET / "dlib" / SUMMARY
        ).read_text(encoding="utf-8")
