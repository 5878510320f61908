"""Commands on photographs of real people, with the face models of the extra `dlib`."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from fc_bench.scoring.faces import FaceFinder

pytestmark = pytest.mark.real_faces


@pytest.fixture
def backbone_file(dlib_backbone, tiny_backbone, tmp_path):
    """The tiny backbone with dlib's face models."""
    data = yaml.safe_load(tiny_backbone.read_text())
    for part in ("pipeline", "clip"):
        data[part] = str(tiny_backbone.parent / data[part])
    data["fastcomposer"]["variants"] = {"random": str(tiny_backbone.parent / "fastcomposer")}
    data["faces"] = {"name": "dlib", "kind": "dlib"}
    file = tmp_path / "real.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


@pytest.fixture
def photographs(real_people, tmp_path, monkeypatch):
    """A folder a person, the first photograph with much around the face, the second mirrored and darker; the cwd's."""
    monkeypatch.chdir(tmp_path)
    for name, image in real_people.items():
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        wide = Image.new("RGB", (3 * image.width, image.height), "gray")
        wide.paste(image, (image.width // 2, 0))
        wide.save(folder / "1.png")
        dark = np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) * 0.7
        Image.fromarray(dark.astype(np.uint8)).save(folder / "2.png")
    return tmp_path / "photos"


def test_a_suite_of_real_people_holds_portraits_around_their_faces(
    fc_bench, photographs, backbone_file, dlib_backbone, tmp_path
):
    done = fc_bench("init-suite", photographs, "--noun", "person", "--backbone", backbone_file, "--prompts", "pocket")
    assert done.code == 0, done.err
    finder = FaceFinder(dlib_backbone, "cpu")
    for person in ("astronaut", "hopper"):
        for number in (1, 2):
            with Image.open(tmp_path / "photos-suite" / "subjects" / person / f"{number}.png") as opened:
                portrait = opened.convert("RGB")
            (face,) = finder.find(portrait)
            assert portrait.width == portrait.height
            assert 0.25 < (face.box[2] - face.box[0]) / portrait.width < 0.9


def test_pictures_of_real_people_are_composed_and_measured(fc_bench, photographs, backbone_file, tmp_path):
    subject = ("--subject", f"eileen={photographs / 'astronaut'}:woman")
    done = fc_bench("compose", "a photo of a {eileen}", *subject, "--images", 1, "--backbone", backbone_file)
    assert done.code == 0, done.err
    (folder,) = (tmp_path / "composed").iterdir()
    record = json.loads((folder / "compose.json").read_text())
    assert record["images"][0]["scores"]["identity"] == 0  # random weights draw no face
    with Image.open(folder / "references" / "eileen-1.png") as reference:
        assert reference.width == reference.height


def test_a_run_verifies_real_people_with_dlib_s_own_rule(fc_bench, photographs, backbone_file, records, tmp_path):
    made = fc_bench("init-suite", photographs, "--noun", "person", "--backbone", backbone_file, "--prompts", "pocket")
    assert made.code == 0, made.err
    run = ("run", "photos-suite/suite.yaml", "-m", "text-only", "--images-per-prompt", 1, "--limit-subjects", 1)
    done = fc_bench(*run, "--backbone", backbone_file, "--out", "run")
    assert done.code == 0, done.err
    scores = records(tmp_path / "run" / "scores.jsonl")
    anchors = {
        one["sample"]: one["values"]["verified"]
        for one in scores
        if one["metric"] == "verification" and one["sample"].startswith("anchor")
    }
    assert anchors["anchor:ceiling:astronaut:0"] == 1
    assert anchors["anchor:floor:astronaut:0"] == 0
