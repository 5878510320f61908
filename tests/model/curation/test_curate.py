"""Curation: each stage through transformers' own classes, resumable, and right where the truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.model.curation import curate as stages
from fc_bench.model.curation.config import CurationConfig, MatcherConfig, PhrasesConfig, load_curation
from fc_bench.model.curation.curate import curate, match_phrases
from fc_bench.model.curation.phrases import Phrase, phrase_finder, phrases_of_nouns
from fc_bench.model.errors import ModelInputError
from fc_bench.model.training.dataset import read_image, read_records, read_segmentation

NOUNS = ("man", "woman")
WORDS = ("<pad>", "</s>", "<unk>", "<image>", "a", "man", "woman", "and", "photo", "of", "in", "the", "snow")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny random BLIP-2 and Mask2Former in transformers' own folders."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    _save_captioner(folder / "blip2")
    _save_segmenter(folder / "mask2former")
    return folder


@pytest.fixture
def config(models: Path, tmp_path: Path) -> CurationConfig:
    """A curation of three images by tiny models; the matching is the pocket CLIP's."""
    for number, color in enumerate(("red", "green", "blue")):
        folder = tmp_path / "images" / ("more" if number else ".")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40 + 10 * number), color).save(folder / f"{number}.png")
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no picture")
    return CurationConfig.model_validate(
        {
            "images": tmp_path / "images",
            "output": tmp_path / "set",
            "captioner": {"model": str(models / "blip2"), "prompt": "a photo of", "max_new_tokens": 5},
            "segmenter": {"model": str(models / "mask2former"), "threshold": 0.0},
            "phrases": {"spacy": None, "nouns": NOUNS},
            "matcher": {"clip": read_backbone("pocket").path("clip").as_posix(), "sentences": None},
            "test_share": 0.0,
        }
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def given(config: CurationConfig, name: str, caption: str, panoptic: np.ndarray, labels: list[str]) -> None:
    """What the first two stages would have left for an image, in place of their models."""
    work = config.output / "work"
    for stage in ("captions", "segments"):
        (work / stage).mkdir(parents=True, exist_ok=True)
    (work / "captions" / f"{name}.json").write_text(json.dumps({"caption": caption}))
    np.save(work / "segments" / f"{name}.npy", panoptic)
    segments = [{"id": number, "label": label, "score": 1.0} for number, label in enumerate(labels, start=1)]
    (work / "segments" / f"{name}.json").write_text(json.dumps({"segments": segments}))


def test_every_stage_runs_and_an_unreadable_image_is_counted(config):
    report = curate(config)
    assert report["images"] == 4
    assert report["unreadable"] == 1
    work = config.output / "work"
    for name in ("00000000", "00000002", "00000003"):  # 00000001 is the broken one
        assert isinstance(json.loads((work / "captions" / f"{name}.json").read_text())["caption"], str)
        panoptic = np.load(work / "segments" / f"{name}.npy")
        told = json.loads((work / "segments" / f"{name}.json").read_text())["segments"]
        source = config.images / json.loads((work / "images.json").read_text())[name]
        with Image.open(source) as image:
            assert panoptic.shape == (image.height, image.width)
        assert {segment["id"] for segment in told} >= set(np.unique(panoptic).tolist()) - {0}


def test_what_systems_and_data_tools_leave_among_the_images_is_skipped_or_named(config, caplog):
    (config.images / "__MACOSX").mkdir()
    for name in ("._0.png", "__MACOSX/0.png"):
        (config.images / name).write_bytes(b"\0\5\x16\7")
    (config.images / "5.heic").write_bytes(b"heic")
    (config.images / "6.png").symlink_to("../.git/annex/objects/gone")
    report = curate(config)
    assert (report["images"], report["unreadable"]) == (5, 2)
    assert "Left out: 5.heic; convert them to JPEG or PNG" in caplog.text
    assert "6.png cannot be read (it is a link to a file that is not here)" in caplog.text


def test_an_image_with_a_damaged_chunk_is_unreadable_whenever_it_was_damaged(config):
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    for name in ("before.png", "after.png"):
        Image.fromarray(noise).save(config.images / name)

    def damage(file: Path) -> None:
        content = file.read_bytes()
        second = content.index(b"IDAT", content.index(b"IDAT") + 4)
        file.write_bytes(content[:second] + b"!!!!" + content[second + 4 :])
        with pytest.raises(SyntaxError), Image.open(file) as image:
            image.load()

    damage(config.images / "before.png")
    panoptic = np.ones((256, 256), dtype=np.uint16)
    given(config, "00000001", "a man", panoptic, ["person"])
    report = curate(config)
    assert json.loads((config.output / "work" / "images.json").read_text())["00000001"] == "after.png"
    assert report["unreadable"] == 2
    assert "00000001" in (config.output / "image_ids_train.txt").read_text().split()
    damage(config.images / "after.png")
    assert curate(config)["unreadable"] == 3
    assert "00000001" not in (config.output / "image_ids_train.txt").read_text().split()


def test_an_image_that_was_repaired_is_taken_in_and_one_that_was_not_is_not_tried_again(config, monkeypatch):
    assert curate(config)["unreadable"] == 1
    tried = []
    monkeypatch.setattr("fc_bench.model.curation.curate._models", lambda _, stage, device: tried.append(stage))
    assert curate(config)["unreadable"] == 1
    assert tried == []
    monkeypatch.undo()
    names = json.loads((config.output / "work" / "images.json").read_text())
    Image.new("RGB", (40, 60), "teal").save(config.images / names["00000001"])
    assert "unreadable" not in curate(config)
    assert (config.output / "work" / "matches" / "00000001.json").is_file()


@pytest.mark.parametrize("damaged", ["captions/00000000.json", "matches/00000000.json"])
def test_a_file_of_a_curation_without_what_it_should_hold_is_reported(config, damaged):
    given(config, "00000000", "a man", np.ones((40, 60), dtype=np.uint16), ["person"])
    curate(config)
    (config.output / "work" / damaged).write_text("{}")
    with pytest.raises(ModelInputError, match=f"{damaged} is damaged: delete it and repeat the command"):
        curate(config)


def test_sixteen_bits_become_eight_and_not_white(config):
    Image.fromarray(np.full((40, 40), 100 * 257, dtype=np.uint16)).save(config.images / "deep.png")
    given(config, "00000002", "a man", np.ones((40, 40), dtype=np.uint16), ["person"])
    curate(config)
    record = next(one for one in read_records(config.output, "train") if one.id == "00000002")
    assert abs(read_image(record).float() - 100).max() <= 1


def test_an_interrupted_curation_goes_on_and_computes_nothing_twice(config, monkeypatch):
    first = stages.Segmenter.segments

    def dies(self: Any, images: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages.Segmenter, "segments", dies)
    with pytest.raises(KeyboardInterrupt):
        curate(config)
    monkeypatch.setattr(stages.Segmenter, "segments", first)
    with monkeypatch.context() as second:
        second.setattr(stages, "Captioner", None)  # captions are done
        curate(config)
    done = contents(config.output)
    for model in ("Captioner", "Segmenter", "Similarity"):
        monkeypatch.setattr(stages, model, None)
    curate(config)
    assert contents(config.output) == done


def test_new_images_join_and_the_others_keep_their_ids(config):
    curate(config)
    ids = json.loads((config.output / "work" / "images.json").read_text())
    Image.new("RGB", (50, 50), "white").save(config.images / "0-first.png")
    assert curate(config)["images"] == 5
    now = json.loads((config.output / "work" / "images.json").read_text())
    assert {name: now[name] for name in ids} == ids
    assert now["00000004"] == "0-first.png"


def test_other_settings_are_not_mixed_into_a_stage(config):
    curate(config)
    other = config.captioner.model_copy(update={"max_new_tokens": 9})
    with pytest.raises(ModelInputError, match="captions was made with other settings"):
        curate(config.model_copy(update={"captioner": other}))


def test_a_setting_is_corrected_until_a_stage_has_results_and_later_models_are_reported_before_the_first_works(config):
    def changed(section: str, **fields: Any) -> CurationConfig:
        return config.model_copy(update={section: getattr(config, section).model_copy(update=fields)})

    mistakes = {
        "captioner nowhere": changed("captioner", model="nowhere"),
        "segmenter nowhere": changed("segmenter", model="nowhere"),
        "CLIP model nowhere": changed("matcher", clip="nowhere"),
        "sentence model nowhere": changed("matcher", sentences="nowhere"),
        "spacy download": changed("phrases", spacy="en_core_web_of_nobody"),
    }
    for message, mistaken in mistakes.items():
        with pytest.raises(ModelInputError, match=message):
            curate(mistaken)
        assert not list((config.output / "work" / "captions").iterdir())
    assert curate(config)["images"] == 4


def test_an_output_inside_the_images_is_not_taken_in(config, tmp_path):
    inside = config.model_copy(update={"output": config.images / "more" / "set"})
    given(inside, "00000000", "a man", np.ones((40, 60), dtype=np.uint16), ["person"])
    first = curate(inside)
    assert first["kept"] >= 1
    assert (inside.output / "sheet.png").is_file()
    assert curate(inside) == first
    (tmp_path / "link").symlink_to(config.images)
    assert curate(inside.model_copy(update={"images": tmp_path / "link"})) == first
    with pytest.raises(ModelInputError, match="is the folder of the images itself: name another output"):
        curate(config.model_copy(update={"output": tmp_path / "link"}))


@pytest.mark.parametrize(
    ("damaged", "remedy"),
    [
        ("images.json", "work to start again"),
        ("captions.json", "delete it if .*captions was made with the current settings"),
        ("captions/00000000.json", "delete it and repeat"),
        ("segments/00000000.npy", r"delete it and 00000000\.json beside it"),
        ("matches/00000000.json", "delete it and repeat"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_damaged_file_of_a_curation_is_reported_with_what_to_do(config, damaged, remedy, content):
    panoptic = np.ones((40, 60), dtype=np.uint16)
    given(config, "00000000", "a man", panoptic, ["person"])
    curate(config)
    (config.output / "work" / damaged).write_bytes(content)
    with pytest.raises(ModelInputError, match=f"{damaged}.*{remedy}") as error:
        curate(config)
    assert "\n" not in str(error.value)


def test_the_result_is_read_as_a_training_set(config):
    panoptic = np.zeros((40, 60), dtype=np.uint16)
    panoptic[5:35, 5:25], panoptic[5:35, 35:55] = 1, 2
    given(config, "00000000", "a man and a woman in the snow", panoptic, ["person", "person"])
    report = curate(config)
    record = read_records(config.output, "train", ["person"])[0]
    assert [record.caption[s.start : s.end] for s in record.segments] == ["a man", "a woman"]
    segmentation = read_segmentation(record, tuple(read_image(record).shape[1:]))
    assert {segment.id for segment in record.segments} == {1, 2}
    assert int((segmentation == 1).sum()) == 600
    content = json.loads((config.output / "00000" / "00000000.json").read_text())
    boxes = [segment["bbox"] for segment in content["segments"]]
    assert sorted(boxes) == [[5, 5, 35, 25], [5, 35, 35, 55]]  # top, left, bottom, right
    assert report["kept"] >= 1
    with Image.open(config.output / "sheet.png") as sheet:
        assert sheet.width > 200


def test_the_list_of_all_images_is_that_of_both_splits(config):
    for name in ("00000000", "00000002"):
        with Image.open(config.images / {"00000000": "0.png", "00000002": "more/1.png"}[name]) as image:
            panoptic = np.ones((image.height, image.width), dtype=np.uint16)
        given(config, name, "a man", panoptic, ["person"])
    report = curate(config.model_copy(update={"test_share": 0.5}))
    every, *splits = (
        (config.output / f"image_ids{split}.txt").read_text().split() for split in ("", "_train", "_test")
    )
    assert all(splits)
    assert every == sorted(splits[0] + splits[1])
    assert len(every) == report["kept"]


def test_on_pocket_pictures_phrases_find_the_people_they_name(tmp_path):
    """True captions and masks; what is measured is the finding of phrases and their matching by CLIP."""
    from fc_bench.model.pocket.people import TRAINING_PEOPLE
    from fc_bench.model.pocket.render import compose_caption, render_seed

    images = tmp_path / "images"
    images.mkdir()
    config = CurationConfig.model_validate(
        {
            "images": images,
            "output": tmp_path / "set",
            "phrases": {"spacy": None, "nouns": NOUNS},
            "matcher": {"clip": str(read_backbone("pocket").path("clip")), "sentences": None},
        }
    )
    truth: dict[str, list[str]] = {}
    for number in range(80):
        picture = render_seed(number, range(TRAINING_PEOPLE.start, TRAINING_PEOPLE.start + 200), 0.75)
        caption, spans = compose_caption(picture.people, picture.scene, np.random.default_rng(number), 3)
        Image.fromarray(picture.image).save(images / f"{number:03d}.png")
        panoptic = np.zeros(picture.image.shape[:2], dtype=np.uint16)
        for place, mask in enumerate(picture.masks, start=1):
            panoptic[mask > 127] = place
        given(config, f"{number:08d}", caption, panoptic, ["person"] * len(picture.people))
        truth[f"{number:08d}"] = [caption[span.start : span.end] for span in spans]
    assert curate(config)["kept"] == len(truth)
    right = found = told_apart = pairs = 0
    for name, phrases in truth.items():
        content = json.loads((config.output / name[:5] / f"{name}.json").read_text())
        matches = [
            content["caption"][segment["start"] : segment["end"]] == phrases[segment["id"] - 1]
            for segment in content["segments"]
        ]
        found, right = found + len(matches), right + sum(matches)
        if len(set(phrases)) == 2:
            pairs, told_apart = pairs + 1, told_apart + all(matches)
    people = sum(map(len, truth.values()))
    print(f"precision {right / found:.3f}, recall {right / people:.3f}, pairs told apart {told_apart} of {pairs}")
    assert found == people  # every phrase is found, and each has a segment
    assert right / found == right / people > 0.85
    # By chance half of the pairs would be right.
    assert pairs > 40
    assert told_apart / pairs > 0.8


def test_matches_are_one_to_one_and_as_similar_as_configured():
    phrases, segments = [Phrase(0, 5), Phrase(6, 9)], [{"id": 4, "label": "person"}, {"id": 7, "label": "dog"}]
    similarities = np.array([[0.3, 0.4], [0.35, 0.5]])
    both = match_phrases(phrases, segments, similarities, MatcherConfig(min_similarity=0.0))
    assert [(match.start, match.segment, match.label) for match in both] == [(0, 4, "person"), (6, 7, "dog")]
    assert [
        match.segment for match in match_phrases(phrases, segments, similarities, MatcherConfig(min_similarity=0.4))
    ] == [7]


def test_a_phrase_that_is_like_everything_does_not_choose_first_unless_requested():
    phrases, segments = [Phrase(0, 5), Phrase(6, 9)], [{"id": 1, "label": "person"}, {"id": 2, "label": "person"}]
    similarities = np.array([[0.5, 0.52], [0.1, 0.3]])
    assert [match.segment for match in match_phrases(phrases, segments, similarities, MatcherConfig())] == [1, 2]
    greedy = MatcherConfig(assignment="greedy")
    assert [match.segment for match in match_phrases(phrases, segments, similarities, greedy)] == [2, 1]


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("a man and a woman reading", ["a man", "a woman"]),
        ("A tall old man, woman", ["A tall old man", "woman"]),
        ("the woman with a manual in a human hand", ["the woman"]),
        ("a dog on the left of woman", ["woman"]),
        ("nobody", []),
    ],
)
def test_phrases_of_listed_nouns(caption, phrases):
    assert [phrase.text(caption) for phrase in phrases_of_nouns(caption, NOUNS)] == phrases


def test_a_model_that_is_a_folder_beside_the_file_is_that_folder(tmp_path):
    (tmp_path / "blip2").mkdir()
    file = tmp_path / "curation.yaml"
    file.write_text(yaml.safe_dump({"images": "images", "output": "set", "captioner": {"model": "blip2"}}))
    config = load_curation(file)
    assert config.captioner.model == str(tmp_path / "blip2")
    assert config.segmenter.model == "facebook/mask2former-swin-large-coco-panoptic"
    assert config.phrases.spacy == "en_core_web_sm"


@pytest.mark.parametrize(
    ("caption", "told"),
    [
        ("a man with red hair and a woman in the snow", ["a man with red hair", "a woman in the snow"]),
        ("a man, and a woman. It is cold", ["a man", "a woman"]),
        ("a man next to a woman", ["a man", "a woman"]),
        ("a man sits with a woman", ["a man sits", "a woman"]),
    ],
)
def test_the_description_of_a_listed_noun_ends_before_the_next(caption, told):
    assert [phrase.description(caption) for phrase in phrases_of_nouns(caption, NOUNS)] == told


def test_missing_models_and_images_are_reported(config, tmp_path, fc_bench):
    with pytest.raises(ModelInputError, match="python -m spacy download"):
        phrase_finder(PhrasesConfig(spacy="en_core_web_of_nobody"))
    file = tmp_path / "curation.yaml"
    (tmp_path / "empty").mkdir()
    file.write_text(yaml.safe_dump({"images": "empty", "output": "set"}))
    done = fc_bench("curate", file)
    assert done.code == 2
    assert "has no image" in done.err
    file.write_text(yaml.safe_dump({"images": "images", "output": "set", "captioner": {"model": "nowhere/at-all"}}))
    done = fc_bench("curate", file, "--offline")
    assert done.code == 2
    assert "the captioner nowhere/at-all cannot be loaded" in done.err


def _save_captioner(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, PreTrainedTokenizerFast
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "model_type": "opt", "ffn_dim": 32, "vocab_size": len(WORDS), "word_embed_proj_dim": 16}
    config = Blip2Config(
        vision_config={**small, "intermediate_size": 32, "image_size": 32, "patch_size": 16},
        qformer_config={**small, "intermediate_size": 32, "vocab_size": 20, "encoder_hidden_size": 16},
        text_config={**text, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1},
        num_query_tokens=4,
        image_token_index=3,
    )
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="</s>"
    )
    processor = BlipImageProcessorPil(size={"height": 32, "width": 32})
    Blip2Processor(processor, tokenizer, num_query_tokens=4).save_pretrained(folder)


def _save_segmenter(folder: Path) -> None:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig
    from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

    features = [f"stage{number}" for number in range(1, 5)]
    backbone = SwinConfig(
        image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=2, out_features=features
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=32,
        num_queries=6,
        id2label={0: "person", 1: "snow"},
        label2id={"person": 0, "snow": 1},
    )
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    Mask2FormerImageProcessorPil(size={"height": 64, "width": 64}, num_labels=2).save_pretrained(folder)
