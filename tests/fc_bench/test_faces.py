"""The face pack through insightface: boxes, embeddings, order, errors."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from PIL import Image

from fc_bench.errors import UserError
from fc_bench.faces import FaceModels
from fc_bench.model.backbone import read_backbone


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
