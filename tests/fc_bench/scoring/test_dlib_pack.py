"""dlib's face models on photographs of real people that installed libraries ship."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import DLIB_DISTANCE, DLIB_EXTRA, DLIB_THRESHOLD, read_backbone
from fc_bench.model.errors import MissingWeightsError, ModelInputError
from fc_bench.model.pocket.people import HELD_OUT_RECOGNIZER_PEOPLE, make_person
from fc_bench.model.pocket.render import render_photograph
from fc_bench.scoring.faces import FaceFinder, FaceModels

WITH_DLIB = "name: with-dlib\ndescription: dlib's faces\nextends: pocket\nfaces:\n  - {name: dlib, kind: dlib}\n"


@pytest.fixture(scope="module")
def models(dlib_backbone):
    return FaceModels(dlib_backbone, "cpu")


@pytest.mark.real_faces
def test_a_real_face_is_found_once_where_it_is(models, real_people):
    for person, (left, top, right, bottom) in {
        "astronaut": (155, 60, 290, 200),
        "hopper": (150, 110, 400, 380),
    }.items():
        (found,) = models.find(real_people[person])
        assert left < found.box[0] < found.box[2] < right
        assert top < found.box[1] < found.box[3] < bottom
        assert np.linalg.norm(found.embedding) == pytest.approx(1)


@pytest.mark.real_faces
def test_a_mirrored_smaller_compressed_photograph_is_the_same_person_and_another_one_is_not(models, real_people):
    faces = {name: models.find(image)[0].embedding for name, image in real_people.items()}
    for name, image in real_people.items():
        changed = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((image.width // 2, image.height // 2))
        again = models.find(changed)[0].embedding
        assert again @ faces[name] > DLIB_THRESHOLD
        assert all(again @ faces[other] < DLIB_THRESHOLD for other in faces if other != name)


@pytest.mark.real_faces
def test_the_declared_cosine_says_what_dlib_s_distance_says(dlib_backbone):
    """Of drawn people, whose embeddings lie near the threshold, pairs are judged alike by cosine and by distance."""
    from fc_bench.scoring.dlib_pack import DlibPack

    pack = DlibPack(dlib_backbone.path("faces"), dlib_backbone.faces[0], "cpu", "")
    found = []
    for seed in HELD_OUT_RECOGNIZER_PEOPLE[:12]:
        for number in range(3):
            pixels = np.ascontiguousarray(render_photograph(make_person(seed), number).image[..., ::-1])
            found += pack.embed([(pixels, face) for face in pack.detect(pixels)[:1]])
    embeddings = np.array(found)
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    pairs = np.triu_indices(len(units), 1)
    distances = np.linalg.norm(embeddings[:, None] - embeddings[None], axis=-1)[pairs]
    by_cosine = (units @ units.T)[pairs] > DLIB_THRESHOLD
    assert len(units) >= 10
    assert np.mean(by_cosine == (distances < DLIB_DISTANCE)) > 0.95


@pytest.mark.real_faces
def test_a_photograph_without_a_face_has_none(models):
    assert models.find(Image.new("RGB", (300, 200), "gray")) == []


@pytest.mark.real_faces
def test_a_face_in_a_long_photograph_is_found_in_squares_of_it(dlib_backbone, real_people):
    image = real_people["astronaut"]
    long = Image.new("RGB", (5 * image.width, image.height), "gray")
    long.paste(image, (3 * image.width, 0))
    (found,) = FaceFinder(dlib_backbone, "cpu").search(long)
    assert 3 * image.width < found.box[0] < found.box[2] < 4 * image.width


@pytest.mark.real_faces
def test_weights_that_are_no_network_are_refused_with_their_folder(dlib_backbone, tmp_path):
    from fc_bench.model.backbones.layouts import dlib_files

    for file in dlib_files(tmp_path):
        file.path.write_bytes(b"not a network")
    (tmp_path / "b.yaml").write_text(WITH_DLIB.replace("kind: dlib}", f'kind: dlib, pack: "{tmp_path}"}}'))
    with pytest.raises(UserError, match=f"{tmp_path}.*cannot be loaded"):
        FaceModels(read_backbone(str(tmp_path / "b.yaml")), "cpu")


def test_without_the_extra_the_backbone_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("fc_bench.model.backbones.backbone.find_spec", lambda name: None)
    (tmp_path / "b.yaml").write_text(WITH_DLIB)
    backbone = read_backbone(str(tmp_path / "b.yaml"))
    with pytest.raises(MissingWeightsError) as raised:
        backbone.require("faces")
    assert DLIB_EXTRA in str(raised.value)
    assert len(backbone.missing_files("faces")) == 3


def test_a_recognizer_beside_dlib_is_refused(tmp_path):
    recognizer = "kind: dlib, recognizer: {file: a.onnx}}"
    (tmp_path / "b.yaml").write_text(WITH_DLIB.replace("kind: dlib}", recognizer))
    with pytest.raises(ModelInputError, match="dlib has a recognizer of its own"):
        read_backbone(str(tmp_path / "b.yaml"))


@pytest.mark.parametrize(("kind", "score"), [("kind: dlib", -2), ("kind: dlib", 3), ("pack: faces", 0)])
def test_a_detection_score_that_a_detector_does_not_give_is_refused(tmp_path, kind, score):
    (tmp_path / "b.yaml").write_text(WITH_DLIB.replace("kind: dlib", f"{kind}, det_thresh: {score}"))
    with pytest.raises(ModelInputError, match=f"det_thresh is {score}; give a number between"):
        read_backbone(str(tmp_path / "b.yaml"))


def test_a_face_pack_of_another_kind_without_a_folder_is_refused(tmp_path):
    (tmp_path / "b.yaml").write_text(WITH_DLIB.replace(", kind: dlib", ""))
    with pytest.raises(ModelInputError, match="pack"):
        read_backbone(str(tmp_path / "b.yaml"))


@pytest.mark.real_faces
def test_a_folder_of_the_files_in_use_has_the_fingerprint_of_the_whole_package(dlib_backbone, tmp_path):
    from fc_bench.model.backbones.layouts import dlib_files

    for file in dlib_files(dlib_backbone.path("faces")):
        (tmp_path / file.path.name).symlink_to(file.path)
    (tmp_path / "b.yaml").write_text(WITH_DLIB.replace("kind: dlib}", f'kind: dlib, pack: "{tmp_path}"}}'))
    backbone = read_backbone(str(tmp_path / "b.yaml"))
    assert backbone.fingerprint("faces") == dlib_backbone.fingerprint("faces")
