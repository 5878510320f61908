"""`fc-bench audit --photographs`: the calibration of a face embedder on labelled photographs."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from fc_bench.model.pocket.people import HELD_OUT_RECOGNIZER_PEOPLE, make_person
from fc_bench.model.pocket.render import Scene, render, render_photograph

RATE = ("--false-accept-rate", 0.02)
STYLES = {style: Scene(style) for style in ("photo", "sketch")}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Twelve drawn people that no suite shows: two photographs and two sketches of each, in folders of their own."""
    folder = tmp_path_factory.mktemp("labelled") / "people"
    for number in range(12):
        person = make_person(HELD_OUT_RECOGNIZER_PEOPLE[number])
        for style, scene in STYLES.items():
            for shot in range(2):
                file = folder / f"person-{number:02d}" / style / f"{shot}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                picture = render([person], scene, np.random.default_rng([number, shot, len(style)]))
                Image.fromarray(picture.image).save(file)
    return folder


@pytest.fixture(scope="module")
def numbers():
    def read(out):
        with (out / "calibration.csv").open(newline="", encoding="utf-8") as file:
            return {(row["photographs"], row["quantity"]): row for row in csv.DictReader(file)}

    return read


def test_the_command_ends_with_a_threshold_and_what_to_write_down(fc_bench, photographs, numbers, tmp_path):
    done = fc_bench("audit", "--photographs", photographs, *RATE, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    found = numbers(tmp_path / "out")
    threshold = found["all", "threshold"]
    assert float(threshold["low"]) <= float(threshold["value"]) <= float(threshold["high"])
    assert f"threshold: {float(threshold['value']):.2f}"[:14] in done.out
    assert "verification: {pocket-faces:" in done.out
    assert float(found["all", "auc"]["value"]) > 0.95
    assert float(found["all", "same"]["value"]) > float(threshold["value"]) > float(found["all", "other"]["value"])
    assert float(found["all", "accepted_other"]["value"]) <= RATE[1]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"calibration.md", "calibration.csv", "calibration.tex", "photographs.csv", "similarities.svg"} <= names


def test_subfolders_have_rows_of_their_own_and_one_for_pairs_between_them(fc_bench, photographs, numbers, tmp_path):
    assert fc_bench("audit", "--photographs", photographs, *RATE, "--out", tmp_path / "out").code == 0
    found = numbers(tmp_path / "out")
    pairs = {place: int(float(found[place, "same_pairs"]["value"])) for place in ("all", *STYLES, "across folders")}
    assert pairs["all"] == pairs["photo"] + pairs["sketch"] + pairs["across folders"]
    assert float(found["across folders", "same"]["value"]) < float(found["photo", "same"]["value"])
    assert int(float(found["sketch", "photographs"]["value"])) == 24


def test_lost_photographs_are_counted_where_they_lie(fc_bench, photographs, numbers, tmp_path):
    folder = tmp_path / "people"
    shutil.copytree(photographs, folder)
    Image.new("RGB", (128, 128), "gray").save(folder / "person-00" / "sketch" / "0.png")
    (folder / "person-01" / "photo" / "0.png").write_bytes(b"nothing that can be read")
    done = fc_bench("audit", "--photographs", folder, *RATE, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    found = numbers(tmp_path / "out")
    assert found["sketch", "without_face"]["value"] == "1.0"
    assert found["photo", "unreadable"]["value"] == "1.0"
    assert float(found["all", "lost"]["value"]) == pytest.approx(2 / 48)


def test_a_copy_of_a_photograph_is_no_pair_of_the_same_person(fc_bench, photographs, numbers, tmp_path):
    folder = tmp_path / "people"
    shutil.copytree(photographs, folder)
    shutil.copy(folder / "person-00" / "photo" / "0.png", folder / "person-00" / "photo" / "again.png")
    done = fc_bench("audit", "--photographs", folder, *RATE, "--out", tmp_path / "copied")
    assert fc_bench("audit", "--photographs", photographs, *RATE, "--out", tmp_path / "plain").code == 0
    before, after = (int(float(numbers(tmp_path / name)["all", "same_pairs"]["value"])) for name in ("plain", "copied"))
    assert after == before + 3  # with the other three photographs, not with its original
    assert "again.png" in done.out


def test_a_photograph_in_the_wrong_folder_is_named(fc_bench, photographs, tmp_path):
    folder = tmp_path / "people"
    shutil.copytree(photographs, folder)
    stranger = render_photograph(make_person(HELD_OUT_RECOGNIZER_PEOPLE[1]), 7)
    Image.fromarray(stranger.image).save(folder / "person-00" / "photo" / "wrong.png")
    done = fc_bench("audit", "--photographs", folder, *RATE, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "wrong.png" in done.out


def test_the_same_photographs_give_the_same_files(fc_bench, photographs, tmp_path):
    for name in ("one", "other"):
        assert fc_bench("audit", "--photographs", photographs, *RATE, "--out", tmp_path / name).code == 0
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes(), file.name


@pytest.mark.parametrize(
    ("people", "shots", "rate", "said"),
    [
        (2, 2, 0.02, "at least 3 people"),
        (4, 1, 0.5, "second photograph"),
        (4, 2, 0.001, "needs 5000 pairs of different people"),
        (4, 2, 0, "is no rate"),
        (4, 2, 1.5, "is no rate"),
    ],
)
def test_too_few_people_or_photographs_are_told_what_is_needed(
    fc_bench, photographs, tmp_path, people, shots, rate, said
):
    folder = tmp_path / "people"
    for number in range(people):
        for shot in range(shots):
            target = folder / f"person-{number:02d}" / f"{shot}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photographs / target.parent.name / "photo" / f"{shot}.png", target)
    done = fc_bench("audit", "--photographs", folder, "--false-accept-rate", rate, "--out", tmp_path / "out")
    assert done.code == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_unusable_arguments_are_one_sentence(fc_bench, photographs, tmp_path):
    (tmp_path / "empty" / "nobody").mkdir(parents=True)
    for arguments, said in (
        (("--photographs", tmp_path / "none"), "does not exist"),
        (("--photographs", tmp_path / "empty"), "has no photograph"),
        (("--photographs", photographs, "--embedder", "pocket-face"), 'did you mean "pocket-faces"?'),
        (("--photographs", photographs, "--out", photographs / "out"), "lies in the folder of photographs"),
        (("--photographs", photographs, "--metrics", "identity"), "leave it out with --photographs"),
        (("--embedder", "pocket-faces"), "--embedder chooses what --photographs calibrates"),
    ):
        done = fc_bench("audit", *arguments)
        assert done.code == 2
        assert said in done.err
        assert len(done.err.strip().splitlines()) == 1


@pytest.mark.real_faces
def test_an_embedder_of_another_kind_is_calibrated_by_the_same_command(
    fc_bench, photographs, dlib_backbone, numbers, tmp_path
):
    """Few drawn faces are found by a detector of real ones, and the table says how many are lost."""
    declared = tmp_path / "backbone.yaml"
    declared.write_text(
        "name: both\ndescription: two embedders\nextends: pocket\nfaces:\n"
        f"  - {{name: pocket-faces, pack: '{dlib_backbone.declared_path('clip').parent / 'faces'}', "
        "det_size: [128, 128], det_thresh: 0.4}\n  - {name: dlib, kind: dlib}\n"
    )
    arguments = ("--backbone", declared, "--embedder", "dlib", "--false-accept-rate", 0.1)
    done = fc_bench("audit", "--photographs", photographs, *arguments, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    found = numbers(tmp_path / "out")
    assert 0.2 < float(found["all", "lost"]["value"]) < 0.9
    assert float(found["all", "auc"]["value"]) > 0.8
    assert float(found["all", "other"]["value"]) > 0.8  # strangers lie high on the scale of this embedder
