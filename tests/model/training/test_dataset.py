"""The training set's layout: read as documented, or refused with the file's name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fc_bench.model.errors import ModelInputError
from fc_bench.model.fastcomposer.pipeline import FastComposerPipeline
from fc_bench.model.training.config import AugmentationConfig, DataConfig
from fc_bench.model.training.dataset import (
    Record,
    Segment,
    read_image,
    read_records,
    read_segmentation,
    reference_crop,
    target_masks,
    target_pixels,
    tokenize,
)


@pytest.fixture
def record(training_set: Path) -> Record:
    """The image of two people."""
    return read_records(training_set, "train")[3]


def test_noun_phrases_boxes_and_identities(record: Record) -> None:
    phrases = [record.caption[segment.start : segment.end] for segment in record.segments]
    assert phrases == ["a man", "a woman"]
    assert [segment.subject for segment in record.segments] == ["p0", "p1"]


def test_image_tokens_are_the_nouns(record: Record, pipeline: FastComposerPipeline) -> None:
    tokenized = tokenize(record, pipeline.tokenizer)
    read = [pipeline.tokenizer.decode(tokenized.input_ids[1 : position + 1]) for position in tokenized.image_tokens]
    assert [text.strip() for text in read] == ["a man", "a man and a woman"]
    expected = pipeline.tokenizer(record.caption, padding="max_length").input_ids
    assert tokenized.input_ids.tolist() == expected


def test_masks_lie_on_their_subjects(record: Record) -> None:
    image = read_image(record)
    segmentation = read_segmentation(record, (128, 128))
    pixels, masks = target_pixels(image, 128), target_masks(segmentation, record.segments, 128)
    red, blue = (pixels[:, mask.bool()].mean(1) for mask in masks)
    assert red[0] > red[2] + 0.5
    assert blue[2] > blue[0] + 0.5
    smaller = target_masks(segmentation, record.segments, 32)
    torch.testing.assert_close(smaller.mean((1, 2)), masks.mean((1, 2)), rtol=0.1, atol=0)


@pytest.mark.parametrize(("size", "visible"), [((96, 128), slice(None)), ((128, 96), slice(6, 42)), ((9, 8), None)])
def test_target_crops_wide_images_and_pads_tall_ones(size: tuple[int, int], visible: slice | None) -> None:
    image, everywhere = torch.full((3, *size), 255, dtype=torch.uint8), Segment(1, 0, 5, None)
    pixels = target_pixels(image, 48)
    mask = target_masks(torch.ones(size, dtype=torch.long), (everywhere,), 48)
    expected = torch.zeros(48, 48)
    expected[:, visible or slice(None)] = 1
    inside = pixels > 0.99
    assert torch.equal(mask[0], expected)
    assert ((inside[0].float() - expected).abs().sum(1) <= 2).all()  # resizing blurs the edges
    image[:, size[0] // 2 :] = 0
    assert target_pixels(image, 48)[:, 26:].max() < -0.9
    assert target_pixels(image, 48)[:, 0, 24].min() > 0.99


def test_crop_shows_the_subject_on_noise(record: Record) -> None:
    data = DataConfig(root=Path(), augmentation=None)
    image, segmentation = read_image(record), read_segmentation(record, (128, 128))
    left, right = (
        reference_crop(image, segmentation, segment, data, 32, [0, index])
        for index, segment in enumerate(record.segments)
    )
    assert left[0, 16, 16] > left[2, 16, 16] + 100
    assert right[2, 16, 16] > right[0, 16, 16] + 100
    corners = segmentation.clone()
    corners[0, 0] = corners[-1, -1] = 1  # the box is the whole image
    noisy = reference_crop(image, corners, record.segments[0], data, 128, [0]).float()
    outside = noisy[:, corners != 1]
    assert outside.mean() == pytest.approx(127.5, abs=3)
    assert torch.equal(noisy[:, corners == 1], image[:, corners == 1].float())
    keep = data.model_copy(update={"background": "keep"})
    assert torch.equal(reference_crop(image, corners, record.segments[0], keep, 128, [0]), image)


def write_record(root: Path, image: np.ndarray, segmentation: np.ndarray, segments: list[dict]) -> None:
    folder = root / "00000"
    folder.mkdir()
    (root / "image_ids_train.txt").write_text("00000000")
    Image.fromarray(image).save(folder / "00000000.png")
    np.save(folder / "00000000.npy", segmentation)
    content = {"caption": "a man and a dog", "segments": segments}
    (folder / "00000000.json").write_text(json.dumps(content))


@pytest.mark.parametrize("box", [{}, {"bbox": [3, 10, 23, 60]}, {"bbox": [10, 3, 60, 23]}, {"bbox": "unknown"}])
def test_crop_is_where_the_map_has_the_subject(box: dict, tmp_path: Path) -> None:
    image, segmentation = np.zeros((64, 96, 3), dtype=np.uint8), np.zeros((64, 96), dtype=np.int32)
    segmentation[10:60, 3:23] = 7  # tall, at the left of a wide image
    image[segmentation == 7] = (200, 100, 50)
    write_record(tmp_path, image, segmentation, [{"id": 7, "start": 0, "end": 5, **box}])
    record = read_records(tmp_path, "train")[0]
    data = DataConfig(root=tmp_path, augmentation=None, background="keep")
    crop = reference_crop(read_image(record), read_segmentation(record, (64, 96)), record.segments[0], data, 50, [0])
    subject = crop.permute(1, 2, 0) == torch.tensor([200, 100, 50])
    expected = torch.zeros(50, 50, dtype=torch.bool)
    expected[:, 15:35] = True  # padded at the sides
    assert torch.equal(subject.all(2), expected)


def test_only_segments_of_the_labels_are_subjects(tmp_path: Path) -> None:
    man = {"id": 1, "start": 0, "end": 5, "coco_label": "person"}
    dog = {"id": 2, "start": 10, "end": 15, "coco_label": "dog"}
    write_record(tmp_path, np.zeros((8, 8, 3), dtype=np.uint8), np.ones((8, 8)), [man, dog])

    def ids(labels: tuple[str, ...] | None) -> list[int]:
        return [segment.id for segment in read_records(tmp_path, "train", labels)[0].segments]

    assert (ids(None), ids(("person",)), ids(("dog", "person")), ids(("cat",))) == ([1, 2], [1], [1, 2], [])
    del dog["coco_label"]
    (tmp_path / "00000" / "00000000.json").write_text(json.dumps({"caption": "a man and a dog", "segments": [dog]}))
    assert ids(None) == [2]
    with pytest.raises(ModelInputError, match=r"00000000\.json is not a record .*coco_label"):
        ids(("person",))


def test_augmentation_is_drawn_from_the_seed(record: Record) -> None:
    data = DataConfig(root=Path(), augmentation=AugmentationConfig())
    image, segmentation = read_image(record), read_segmentation(record, (128, 128))

    def crop(seed: int) -> torch.Tensor:
        return reference_crop(image, segmentation, record.segments[0], data, 32, [seed])

    assert torch.equal(crop(1), crop(1))
    assert all(not torch.equal(crop(0), crop(seed)) for seed in range(1, 6))


SWITCHED_OFF = dict.fromkeys(("zoom", "rotate", "color_jitter", "blur", "grayscale", "flip", "elastic"), 0.0)


@pytest.mark.parametrize("name", sorted(SWITCHED_OFF))
def test_each_augmentation_acts_alone(name: str) -> None:
    rng = np.random.default_rng(0)
    texture = torch.from_numpy(rng.integers(0, 256, (3, 128, 128), dtype=np.uint8))
    segmentation = torch.ones(128, 128, dtype=torch.long)

    def crop(**probabilities: float) -> np.ndarray:
        augmentation = AugmentationConfig.model_validate({**SWITCHED_OFF, **probabilities})
        data = DataConfig(root=Path(), augmentation=augmentation, background="keep")
        return reference_crop(texture, segmentation, everything, data, 128, [3]).float().numpy()

    everything = Segment(1, 0, 5, None)
    plain, changed = crop(), crop(**{name: 1.0})
    assert np.abs(changed - plain).mean() > 0.5
    if name == "flip":
        np.testing.assert_allclose(changed, plain[..., ::-1], atol=1)
    if name == "grayscale":
        np.testing.assert_allclose(changed[0], changed[2], atol=1)


def read_everything(root: Path) -> None:
    first = read_records(root, "train")[0]
    image = read_image(first)
    segmentation = read_segmentation(first, (image.shape[1], image.shape[2]))
    reference_crop(image, segmentation, first.segments[0], DataConfig(root=root), 32, [0])


def damage_a_chunk(file: Path) -> None:
    """A picture of noise, large enough for several chunks of pixels, whose second one has an unknown type."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    content = file.read_bytes()
    second = content.index(b"IDAT", content.index(b"IDAT") + 4)
    file.write_bytes(content[:second] + b"!!!!" + content[second + 4 :])


def drop(suffix: str) -> Callable[[Path], None]:
    return lambda stem: stem.with_suffix(suffix).unlink()


def rewrite(**fields: object) -> Callable[[Path], None]:
    def change(stem: Path) -> None:
        file = stem.with_suffix(".json")
        content = json.loads(file.read_text())
        content["segments"][0].update(fields)
        file.write_text(json.dumps(content))

    return change


def listing(content: str) -> Callable[[Path], object]:
    return lambda stem: (stem.parents[1] / "image_ids_train.txt").write_text(content)


def stand_in(suffix: str) -> Callable[[Path], object]:
    """A file as Git LFS leaves it until its content is fetched."""
    return lambda stem: stem.with_suffix(suffix).write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")


def unfetched(suffix: str) -> Callable[[Path], object]:
    """A file as git-annex leaves it until its content is fetched."""

    def change(stem: Path) -> None:
        stem.with_suffix(suffix).unlink()
        stem.with_suffix(suffix).symlink_to("../.git/annex/objects/gone")

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop(".png"), r"00000000\.jpg \(or \.png\) is missing"),
        (drop(".json"), r"00000000\.json cannot be read"),
        (drop(".npy"), r"00000000\.npy cannot be read"),
        (lambda stem: stem.with_suffix(".json").write_text("{"), r"00000000\.json is not a record"),
        (lambda stem: stem.with_suffix(".json").write_text('{"caption": "a"}'), r"00000000\.json is not a record"),
        (lambda stem: stem.with_suffix(".json").write_text('{"caption": "a man", "segments": [5]}'), "a segment is 5"),
        (lambda stem: stem.with_suffix(".json").write_text("[" * 100_000), r"00000000\.json is not a record"),
        (rewrite(id=float("inf")), r"00000000\.json is not a record"),
        (rewrite(end=99), "which are not a phrase of the caption"),
        (rewrite(start=1, end=2), "not a phrase .* that ends with a word"),
        (rewrite(id=9), r"00000000\.npy has no pixel of segment 9"),
        (lambda stem: stem.with_suffix(".png").write_bytes(b"no image"), r"00000000\.png cannot be decoded"),
        (lambda stem: damage_a_chunk(stem.with_suffix(".png")), r"00000000\.png cannot be decoded"),
        (lambda stem: stem.with_suffix(".npy").write_bytes(b""), r"00000000\.npy cannot be read"),
        (
            lambda stem: np.save(stem.with_suffix(".npy"), np.zeros((3, 3))),
            r"shape \(3, 3\), but its image, upright according to EXIF, has \(128, 128\)",
        ),
        (lambda stem: (stem.parents[1] / "image_ids_train.txt").unlink(), "write the image ids"),
        (lambda stem: (stem.parents[1] / "image_ids_train.txt").write_text(""), "lists no image"),
        (lambda stem: (stem.parents[1] / "image_ids_train.txt").write_bytes(b"\xff"), r"ids_train\.txt cannot be read"),
        (listing("00000000 00000001 00000000"), r"lists the image 00000000 2 times: keep one"),
        (listing("../secret"), r"'\.\./secret', which is not a file name"),
        (
            stand_in(".png"),
            r"00000000\.png cannot be decoded \(it is a pointer of Git LFS\): fetch it with git lfs pull",
        ),
        (stand_in(".npy"), r"00000000\.npy cannot be read \(it is a pointer of Git LFS\): fetch it with git lfs pull"),
        (unfetched(".png"), r"00000000\.png cannot be read \(it is a link to a file that is not here"),
    ],
)
def test_defective_set_is_one_sentence(
    change: Callable[[Path], None], reason: str, training_set: Path, tmp_path: Path
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(training_set, root)
    change(root / "00000" / "00000000")
    with pytest.raises(ModelInputError, match=reason) as error:
        read_everything(root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_texts_of_a_set_are_read_as_any_editor_writes_them(encoding: str, training_set: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(training_set, root)
    for file in (root / "image_ids_train.txt", *root.glob("00000/*.json")):
        file.write_text(file.read_text(encoding="utf-8"), encoding=encoding)
    for file in root.glob("00000/*.png"):
        file.rename(file.with_suffix(".PNG"))
    found, expected = read_records(root, "train"), read_records(training_set, "train")
    assert [(record.id, record.caption, record.segments) for record in found] == [
        (record.id, record.caption, record.segments) for record in expected
    ]


def test_image_of_a_set_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "turned.png", exif=exif)
    assert read_image(Record("turned", tmp_path / "turned.png", "", ())).shape == (3, 8, 6)


def test_sixteen_bits_become_eight_and_not_white(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 100 * 257, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert read_image(Record("deep", tmp_path / "deep.png", "", ())).unique().tolist() == [100]


def test_jpeg_and_gray_images_are_read(record: Record, tmp_path: Path) -> None:
    Image.open(record.image).convert("L").save(tmp_path / "gray.jpg")
    gray = Record("gray", tmp_path / "gray.jpg", "", ())
    assert read_image(gray).shape == (3, 128, 128)
