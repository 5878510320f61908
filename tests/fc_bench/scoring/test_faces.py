"""The face pack through insightface: boxes, embeddings, order, errors."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from PIL import Image

from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.model.errors import ModelInputError
from fc_bench.scoring.faces import FaceModels


@pytest.fixture(scope="module")
def models(tiny_backbone):
    return FaceModels(read_backbone(str(tiny_backbone)), "cpu")


def test_a_face_is_found_where_it_is(models, portrait):
    (found,) = models.find(portrait((250, 20, 20)))
    assert found.box == pytest.approx((36, 32, 84, 80))
    assert found.score > 0.9
    assert np.linalg.norm(found.embedding) == pytest.approx(1)


def test_embedding_sees_red_and_blue_as_red_and_blue(models, portrait):
    red, blue = (models.find(portrait(color))[0].embedding for color in ((250, 20, 20), (20, 20, 250)))
    planes = red.reshape(3, -1).mean(axis=1), blue.reshape(3, -1).mean(axis=1)
    assert planes[0][0] > planes[0][2]
    assert planes[1][2] > planes[1][0]
    assert float(red @ blue) < 0


def test_no_face_is_an_empty_list(models):
    assert models.find(Image.new("RGB", (128, 128), "gray")) == []


def test_provider_that_really_ran_is_reported(models):
    described = models.provenance()["models"]
    assert described["detection"] == {"file": "det.onnx", "providers": ["CPUExecutionProvider"]}


def test_pack_without_a_recognizer_is_refused_with_its_folder(tiny_backbone, tmp_path):
    declared = yaml.safe_load(tiny_backbone.read_text())
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "det.onnx").write_bytes((tiny_backbone.parent / "faces" / "det.onnx").read_bytes())
    declared["faces"]["pack"] = str(pack)
    file = tmp_path / "half.yaml"
    file.write_text(yaml.safe_dump(declared))
    with pytest.raises(UserError, match=r"pack.*no recognizer"):
        FaceModels(read_backbone(str(file)), "cpu")


def test_damaged_model_file_is_refused_with_its_folder(tiny_backbone, tmp_path):
    declared = yaml.safe_load(tiny_backbone.read_text())
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "det.onnx").write_bytes(b"not a network")
    declared["faces"]["pack"] = str(pack)
    file = tmp_path / "damaged.yaml"
    file.write_text(yaml.safe_dump(declared))
    with pytest.raises(UserError, match="cannot be loaded"):
        FaceModels(read_backbone(str(file)), "cpu")


def test_accelerator_s_number_reaches_onnxruntime(tiny_backbone, monkeypatch):
    import insightface.app

    seen = {}

    class Recorder:
        def __init__(self, **arguments):
            self.models = {"recognition": None}
            seen.update(arguments)

        def prepare(self, **arguments):
            seen.update(arguments)

    monkeypatch.setattr(insightface.app, "FaceAnalysis", Recorder)
    FaceModels(read_backbone(str(tiny_backbone)), "cuda:1")
    assert seen["providers"] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert seen["provider_options"] == [{"device_id": "1"}, {}]
    assert seen["ctx_id"] == 1


@pytest.fixture
def declared(tiny_backbone, tmp_path):
    """Writes the tiny backbone with these face models and returns it as read."""

    def write(faces):
        data = yaml.safe_load(tiny_backbone.read_text())
        for part in ("pipeline", "clip"):
            data[part] = str(tiny_backbone.parent / data[part])
        data["fastcomposer"]["variants"] = {"random": str(tiny_backbone.parent / "fastcomposer")}
        file = tmp_path / "declared.yaml"
        file.write_text(yaml.safe_dump({**data, "faces": faces}))
        return read_backbone(str(file))

    return write


@pytest.fixture
def faces_entry(tiny_backbone):
    """An entry of `faces:` whose recognizer is declared: the tiny one, as insightface would call it."""

    def entry(**recognizer):
        own = {"file": "rec.onnx", "size": 112, "mean": 127.5, "std": 127.5, **recognizer}
        pack = str(tiny_backbone.parent / "faces")
        return {"name": "declared", "pack": pack, "det_size": [128, 128], "det_thresh": 0.4, "recognizer": own}

    return entry


def test_declared_recognizer_on_aligned_crops_gives_what_insightface_gives(models, declared, faces_entry, portrait):
    again = FaceModels(declared(faces_entry(crop="aligned")), "cpu")
    image = portrait((250, 120, 20))
    (one,), (other,) = models.find(image), again.find(image)
    assert one.box == other.box
    assert other.embedding == pytest.approx(one.embedding, abs=1e-5)


@pytest.mark.parametrize(("margin", "box"), [(0, (36, 32, 84, 80)), (16, (32, 28, 88, 84))])
def test_declared_recognizer_sees_the_box_widened_by_its_margin(declared, faces_entry, portrait, margin, box):
    import onnxruntime

    backbone = declared(faces_entry(crop="box", margin=margin))
    image = portrait((250, 120, 20))
    (found,) = FaceModels(backbone, "cpu").find(image)
    crop = np.asarray(image.crop(box).resize((112, 112), Image.Resampling.BILINEAR), dtype=np.float32)
    session = onnxruntime.InferenceSession(str(backbone.path("faces") / "rec.onnx"))
    inputs = ((crop - 127.5) / 127.5).transpose(2, 0, 1)[None]
    (expected,) = session.run(None, {session.get_inputs()[0].name: inputs})
    assert found.embedding == pytest.approx(expected[0] / np.linalg.norm(expected[0]), abs=1e-5)


def test_declared_recognizer_that_is_not_in_the_pack_is_refused(declared, faces_entry):
    with pytest.raises(UserError, match=r"the recognizer absent\.onnx is not in the pack"):
        FaceModels(declared(faces_entry(file="absent.onnx")), "cpu")


@pytest.mark.parametrize(
    ("change", "told"),
    [({"file": "../rec.onnx"}, "file"), ({"margin": 112}, "not smaller than the size"), ({"std": 0}, "std")],
)
def test_recognizer_that_cannot_be_is_refused_where_the_backbone_is_read(declared, faces_entry, change, told):
    with pytest.raises(ModelInputError, match=told):
        declared(faces_entry(**change))


def test_two_face_models_of_one_name_are_refused(declared, faces_entry):
    with pytest.raises(ModelInputError, match='two face models are called "declared"'):
        declared([faces_entry(), faces_entry()])
