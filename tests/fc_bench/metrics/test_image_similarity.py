"""Image similarity against plain transformers, and what it says of copies, strangers and things."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from fc_bench.metrics.image_similarity import ImageSimilarity, face_crop
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.model.errors import ModelInputError
from fc_bench.protocols import ScoredSample
from fc_bench.scoring.image_features import ImageFeatures

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def save_vit(folder):
    """A random ViT as DINO's are published: the whole picture squeezed to a square."""
    import torch
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(3)
    model = ViTModel(ViTConfig(**SIZES, image_size=32, patch_size=8), add_pooling_layer=False).eval()
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.485, 0.456, 0.406])
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


def save_dinov2(folder):
    """A random DINOv2: the shorter side resized, the middle cropped."""
    import torch
    from transformers import Dinov2Config, Dinov2Model
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    torch.manual_seed(4)
    model = Dinov2Model(Dinov2Config(**SIZES, image_size=56, patch_size=7)).eval()
    processor = BitImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 28, "width": 28})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


def cls_cosine(model, processor, one, other):
    """The plain computation: class tokens of the last hidden state, cosine in float64."""
    import torch

    with torch.no_grad():
        tokens = [model(**processor(image, return_tensors="pt")).last_hidden_state[0, 0] for image in (one, other)]
    return float(torch.nn.functional.cosine_similarity(*(token.double() for token in tokens), dim=0))


def clip_cosine(folder, one, other):
    """The plain computation: CLIPModel's image features after transformers' own preprocessing."""
    import torch
    from transformers import CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    with torch.no_grad():
        outputs = [model.get_image_features(**processor(image, return_tensors="pt")) for image in (one, other)]
    features = [getattr(output, "pooler_output", output)[0].double() for output in outputs]
    return float(torch.nn.functional.cosine_similarity(*features, dim=0))


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(5).integers(0, 255, (90, 120, 3), dtype=np.uint8))


@pytest.fixture
def with_features(tiny_backbone, tmp_path, setting):
    """The setting of the tiny backbone with image features; makes them by the function given."""

    def make(save):
        model, processor = save(tmp_path / "features")
        declared = yaml.safe_load(tiny_backbone.read_text())
        parts = {"pipeline": declared["pipeline"], "clip": declared["clip"]}
        declared |= {name: str(tiny_backbone.parent / value) for name, value in parts.items()}
        declared["faces"]["pack"] = str(tiny_backbone.parent / "faces")
        declared["fastcomposer"] = None
        declared["image_features"] = "features"
        (tmp_path / "featured.yaml").write_text(yaml.safe_dump(declared))
        return replace(setting, backbone=read_backbone(str(tmp_path / "featured.yaml"))), model, processor

    return make


@pytest.mark.parametrize("save", [save_vit, save_dinov2])
def test_dino_is_the_class_tokens_cosine_of_plain_transformers(save, with_features, subjects, picture):
    setting, model, processor = with_features(save)
    ann, bob = subjects["ann"], subjects["bob"]
    metric = ImageSimilarity(setting)
    expected = [cls_cosine(model, processor, picture, Image.open(who.photographs[0])) for who in (ann, bob)]
    alone = metric.score(ScoredSample(picture, "a photo", (ann,))).values["dino"]
    together = metric.score(ScoredSample(picture, "a photo", (ann, bob))).values["dino"]
    assert alone == pytest.approx(expected[0], abs=1e-5)
    assert together == pytest.approx(np.mean(expected), abs=1e-5)
    assert expected[0] != pytest.approx(expected[1], abs=1e-3)


def test_clip_i_is_the_image_features_cosine_of_plain_transformers(setting, tiny_backbone, subjects, picture):
    ann, bob = subjects["ann"], subjects["bob"]
    folder = tiny_backbone.parent / "clip"
    metric = ImageSimilarity(setting)
    expected = [clip_cosine(folder, picture, Image.open(who.photographs[0])) for who in (ann, bob)]
    alone = metric.score(ScoredSample(picture, "a photo", (ann,))).values["clip_i"]
    together = metric.score(ScoredSample(picture, "a photo", (ann, bob))).values["clip_i"]
    assert alone == pytest.approx(expected[0], abs=1e-5)
    assert together == pytest.approx(np.mean(expected), abs=1e-5)
    assert expected[0] != pytest.approx(expected[1], abs=1e-3)


def test_face_clip_i_is_that_of_the_cut_out_faces_matched_as_for_identity(
    setting, tiny_backbone, subjects, people, portrait, side_by_side
):
    # Bob stands left of Ann: matching by place would compare each with the other.
    image = side_by_side(portrait(people["bob"][1], shade=60), portrait(people["ann"][1], shade=90))
    metric = ImageSimilarity(setting)
    score = metric.score(ScoredSample(image, "a photo", (subjects["ann"], subjects["bob"])))
    boxes = {"bob": (4, 32, 52, 80), "ann": (68, 32, 116, 80)}
    assert {name: tuple(box) for name, box in score.details["faces"].items()} == boxes
    expected = []
    for name, box in boxes.items():
        photograph = Image.open(subjects[name].photographs[0])
        cosine = clip_cosine(tiny_backbone.parent / "clip", image.crop(box), photograph.crop((36, 32, 84, 80)))
        expected.append(cosine)
    assert score.values["face_clip_i"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert max(expected) < 1 - 1e-4


def test_copied_photograph_has_the_highest_values_there_are(setting, subjects):
    copy = Image.open(subjects["ann"].photographs[0])
    score = ImageSimilarity(setting).score(ScoredSample(copy, "a photo", (subjects["ann"],))).values
    assert score["clip_i"] == pytest.approx(1, abs=1e-6)
    assert score["face_clip_i"] == pytest.approx(1, abs=1e-6)


def test_subject_without_a_face_has_whole_image_similarity_alone(setting, subjects, picture, tmp_path):
    Image.new("RGB", (64, 64), (90, 120, 30)).save(tmp_path / "vase.png")
    vase = replace(subjects["ann"], id="vase", noun="vase", photographs=(tmp_path / "vase.png",))
    metric = ImageSimilarity(setting)
    metric.prepare([vase])
    score = metric.score(ScoredSample(picture, "a photo", (vase,))).values
    assert score["clip_i"] is not None
    assert score["face_clip_i"] is None


def test_image_without_a_face_leaves_the_face_column_missing(setting, subjects, picture):
    score = ImageSimilarity(setting).score(ScoredSample(picture, "a photo", (subjects["ann"],))).values
    assert score["face_clip_i"] is None


def test_backbone_without_image_features_leaves_dino_missing_and_says_why(setting, subjects, picture):
    metric = ImageSimilarity(setting)
    assert metric.score(ScoredSample(picture, "a photo", (subjects["ann"],))).values["dino"] is None
    assert metric.provenance()["missing_columns"] == {"dino": 'the backbone "tiny" declares no image_features'}


def test_score_does_not_depend_on_the_order_of_the_subjects(with_features, subjects, people, portrait, side_by_side):
    setting, *_ = with_features(save_vit)
    image = side_by_side(portrait(people["cid"][1], shade=50), portrait(people["ann"][1], shade=90))
    metric = ImageSimilarity(setting)
    order = [subjects["ann"], subjects["bob"], subjects["cid"]]
    forward, backward = (
        metric.score(ScoredSample(image, "a photo", tuple(who))).values for who in (order, order[::-1])
    )
    assert forward == pytest.approx(backward, abs=1e-7)
    assert None not in forward.values()


def test_ceiling_is_another_photograph_of_the_person_and_floor_one_of_somebody_else(setting, tiny_backbone, subjects):
    metric = ImageSimilarity(setting)
    rows = metric.anchors([subjects["ann"]], list(subjects.values()))
    folder = tiny_backbone.parent / "clip"
    first, second = (Image.open(file) for file in subjects["ann"].photographs)
    # Ann is the suite's only woman, so that the next person stands in for her.
    stranger = Image.open(subjects["bob"].photographs[0])
    assert rows["ceiling"][0].values["clip_i"] == pytest.approx(clip_cosine(folder, first, second), abs=1e-5)
    assert rows["floor"][0].values["clip_i"] == pytest.approx(clip_cosine(folder, first, stranger), abs=1e-5)
    assert rows["ceiling"][0].values["face_clip_i"] > rows["floor"][0].values["face_clip_i"]


def test_unreadable_photograph_leaves_its_anchor_out_and_is_named(setting, subjects):
    subjects["ann"].photographs[1].write_bytes(b"no image")
    metric = ImageSimilarity(setting)
    assert "ceiling" not in metric.anchors([subjects["ann"]], list(subjects.values()))
    assert list(metric.provenance()["photographs_left_out"]) == ["ann/ann-2.png"]


@pytest.mark.parametrize("box", [(-5, -5, 20, 30), (90, 100, 140, 128), (-9, -9, -2, -2), (130, 3, 140, 9)])
def test_face_at_or_beyond_the_border_is_cut_out_within_the_picture(box, picture):
    from fc_bench.scoring.faces import Face

    crop = face_crop(picture, Face(box, 1.0, np.zeros(3, np.float32)))
    assert crop.width >= 1
    assert crop.height >= 1
    assert crop.width <= picture.width
    assert crop.height <= picture.height


def test_features_of_a_damaged_or_other_model_are_refused_in_one_sentence(tmp_path):
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import ResNetConfig, ResNetModel

    save_vit(tmp_path / "vit")
    state = load_file(tmp_path / "vit" / "model.safetensors")
    del state["embeddings.cls_token"]
    save_file(state, tmp_path / "vit" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelInputError, match=r"lack 1 weights, first embeddings\.cls_token"):
        ImageFeatures(tmp_path / "vit")
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path / "resnet")
    with pytest.raises(ModelInputError, match="no class token"):
        ImageFeatures(tmp_path / "resnet")
    save_vit(tmp_path / "small")
    (tmp_path / "small" / "preprocessor_config.json").write_text('{"size": 48}')
    with pytest.raises(ModelInputError, match="preprocessing of the image features"):
        ImageFeatures(tmp_path / "small")


def test_pooler_that_is_missing_is_of_no_account(tmp_path, picture):
    """DINO's published ViT has none."""
    import torch

    model, processor = save_vit(tmp_path / "vit")
    features = ImageFeatures(tmp_path / "vit")
    with torch.no_grad():
        token = model(**processor(picture, return_tensors="pt")).last_hidden_state[0, 0]
    np.testing.assert_allclose(features.image(picture).numpy(), (token / token.norm()).numpy(), atol=1e-6)
