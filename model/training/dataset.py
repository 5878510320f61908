"""Training images with captions and subjects, in the layout of the released FFHQ training set.

    root/image_ids_train.txt, image_ids_test.txt    one image id per line
    root/<first five characters of the id>/<id>.jpg or .png
                                           <id>.npy   segmentation map, integers [height, width]
                                           <id>.json  caption and segments

    {"caption": "a man and a woman reading",
     "segments": [{"id": 1, "start": 0, "end": 5, "coco_label": "person", "subject": "p7"}]}

`id` is the segment's value in the map, `start` and `end` are the characters of its noun phrase (end exclusive), and
`coco_label` is its class, by which `data.labels` selects. The position of a segment comes from the map; `bbox` and
other fields are ignored. `subject`, the identity, is an extension that allows references from other images of the same
person. Only the first four segments of a caption are read.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad
from transformers import CLIPTokenizer

from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.condition import Framing
from fc_bench.model.fastcomposer.prompts import (
    PLACEHOLDER,
    TRAINED_SUBJECTS,
    ParsedPrompt,
    ends_with_word,
    insert_placeholders,
    parse_prompt,
)
from fc_bench.model.fastcomposer.references import square
from fc_bench.model.pictures import UNREADABLE, describe_unreadable, read_picture
from fc_bench.model.text_file import encoding_of
from fc_bench.model.training.augmentation import augment
from fc_bench.model.training.config import DataConfig


@dataclass(frozen=True)
class Segment:
    """A subject in an image: its value in the segmentation map, its noun phrase and its identity."""

    id: int
    start: int
    end: int
    subject: str | None


@dataclass(frozen=True)
class Record:
    """An image with its caption and its subjects, in caption order."""

    id: str
    image: Path
    caption: str
    segments: tuple[Segment, ...]


def read_records(root: Path, split: str, labels: Sequence[str] | None = None) -> list[Record]:
    """All records of a split, with the segments of the classes `labels`; None means all classes.

    Raises ModelInputError, which names the file, for missing or malformed files.
    """
    listing = root / f"image_ids_{split}.txt"
    if not listing.is_file():
        raise ModelInputError(f"{listing} is missing: write the image ids of the split {split!r} into it, one per line")
    try:
        ids = listing.read_text(encoding=encoding_of(listing)).split()
    except (OSError, UnicodeError) as error:
        raise ModelInputError(f"{listing} cannot be read ({error}): restore it, with one image id per line") from error
    if not ids:
        raise ModelInputError(f"{listing} lists no image: write one image id per line")
    for image_id, count in Counter(ids).items():
        if count > 1:
            raise ModelInputError(f"{listing} lists the image {image_id} {count} times: keep one")
        if not re.fullmatch(r"[^/\\\0]*[^/\\\0.][^/\\\0]*", image_id):
            raise ModelInputError(
                f"{listing} lists {image_id!r}, which is not a file name: write one image id per line"
            )
    return [_read_record(root, image_id, labels) for image_id in ids]


def _read_record(root: Path, image_id: str, labels: Sequence[str] | None) -> Record:
    stem = root / image_id[:5] / image_id
    names = [stem.with_name(image_id + ending) for suffix in (".jpg", ".png") for ending in (suffix, suffix.upper())]
    image = next((path for path in names if path.is_file()), None)
    if image is None:
        if link := next((path for path in names if path.is_symlink()), None):
            raise ModelInputError(
                f"the image {link} cannot be read ({': '.join(describe_unreadable(link, OSError()))})"
            )
        raise ModelInputError(f"the image {stem}.jpg (or .png) is missing: restore it or drop its id from the list")
    file = stem.with_name(image_id + ".json")
    try:
        content = json.loads(file.read_text(encoding=encoding_of(file)))
        entries = content["segments"]
        segments = [_segment(entry) for entry in entries if labels is None or entry["coco_label"] in labels]
        caption = str(content["caption"])
    except OSError as error:
        raise ModelInputError(f"{file} cannot be read ({error.strerror}): restore it or drop its id") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        label = "" if labels is None else ", coco_label"
        raise ModelInputError(
            f"{file} is not a record with a caption and segments (id, start, end{label}): restore it or drop its id "
            f"({type(error).__name__} {error})"
        ) from error
    for segment in segments:
        in_caption = 0 <= segment.start < segment.end <= len(caption) and PLACEHOLDER not in caption
        if not in_caption or not ends_with_word(caption[segment.start : segment.end]):
            raise ModelInputError(
                f"{file}: segment {segment.id} names the characters {segment.start} to {segment.end}, which are not a "
                f"phrase of the caption {caption!r} that ends with a word: correct them"
            )
    by_end = {segment.end: segment for segment in reversed(segments)}  # the first one of equal ends
    return Record(image_id, image, caption, tuple(by_end[end] for end in sorted(by_end))[:TRAINED_SUBJECTS])


def _segment(entry: Any) -> Segment:
    if not isinstance(entry, dict):
        raise TypeError(f"a segment is {json.dumps(entry):.40}")
    subject = str(entry["subject"]) if entry.get("subject") is not None else None
    return Segment(int(entry["id"]), int(entry["start"]), int(entry["end"]), subject)


def tokenize(record: Record, tokenizer: CLIPTokenizer) -> ParsedPrompt:
    """The caption's tokens, which do not depend on the subjects that a training step keeps.

    A segment beyond the end of a truncated caption has no image token. Raises ModelInputError, which names the file, if
    the caption cannot be parsed.
    """
    ends = [segment.end for segment in record.segments]
    try:
        return parse_prompt(insert_placeholders(record.caption, ends), tokenizer, truncate=True)
    except ModelInputError as error:
        raise ModelInputError(f"{record.image.with_suffix('.json')}: {error}") from error


def read_image(record: Record) -> Tensor:
    """The upright image, uint8 [3, height, width]; raises ModelInputError if it cannot be decoded."""
    try:
        array = np.array(read_picture(record.image))
    except UNREADABLE as error:
        reason, remedy = describe_unreadable(record.image, error)
        raise ModelInputError(
            f"the image {record.image} cannot be decoded ({reason}): {remedy}, or drop its id"
        ) from error
    return torch.from_numpy(array).permute(2, 0, 1)


def read_segmentation(record: Record, size: tuple[int, int]) -> Tensor:
    """The segmentation map, int64 [height, width].

    Raises ModelInputError if it does not have the image's size or has no pixel of one of the record's segments.
    """
    file = record.image.with_suffix(".npy")
    try:
        array = np.load(file, allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            raise ValueError("not an array of numbers")
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        reason, remedy = describe_unreadable(file, error)
        raise ModelInputError(
            f"the segmentation map {file} cannot be read ({reason}): {remedy}, or drop its id"
        ) from error
    if array.shape != size:
        raise ModelInputError(
            f"the segmentation map {file} has the shape {array.shape}, but its image, upright according to EXIF, has "
            f"{size}: make them the same size"
        )
    for segment in record.segments:
        if not (array == segment.id).any():
            raise ModelInputError(
                f"the segmentation map {file} has no pixel of segment {segment.id}: restore it or drop the segment "
                f"from {file.with_suffix('.json').name}"
            )
    return torch.from_numpy(array.astype(np.int64))


def target_pixels(image: Tensor, resolution: int) -> Tensor:
    """The training target, [3, resolution, resolution] in -1..1; wide images are cropped, tall ones padded black."""
    pixels = _pad_tall(image)[None].float() / 127.5 - 1
    size = _resized(pixels.shape[-2:], resolution)
    if pixels.shape[-2:] != size:
        pixels = interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
    return _center(pixels[0], resolution)


def target_framing(image: Tensor, resolution: int) -> Framing:
    """What the training target shows of the image, uint8 [3, height, width]; its padding counts as the image's."""
    height, width = _pad_tall(image[:1]).shape[-2:]
    tall, wide = _resized((height, width), resolution)
    return Framing((height, width), _corner((tall, wide), resolution), (resolution, resolution))


def target_masks(segmentation: Tensor, segments: tuple[Segment, ...], resolution: int) -> Tensor:
    """The segments' masks in the training target, float32 of 0 and 1, [segments, resolution, resolution]."""
    values = torch.tensor([segment.id for segment in segments], dtype=segmentation.dtype)
    masks = _pad_tall((segmentation[None] == values.view(-1, 1, 1)).float())
    size = _resized(masks.shape[-2:], resolution)
    if masks.shape[-2:] != size and len(segments):
        masks = interpolate(masks[None], size, mode="nearest-exact")[0]
    return _center(masks, resolution)


def reference_crop(
    image: Tensor, segmentation: Tensor, segment: Segment, data: DataConfig, size: int, seed: list[int]
) -> Tensor:
    """A segment's crop for the image encoder, uint8 [3, size, size], with one draw of noise and augmentation.

    The crop is the bounding box of the segment's pixels in the map, which must not be empty.
    """
    rng = np.random.default_rng(seed)
    mask = segmentation == segment.id
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    box = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    crop, mask = image[:, box[0], box[1]], mask[box]
    if data.background == "noise":
        noise = torch.from_numpy(rng.integers(0, 256, crop.shape, dtype=np.uint8))
        crop = torch.where(mask, crop, noise)
    pixels = square(crop, size)
    if data.augmentation is None:
        return pixels
    return (augment(pixels.float() / 255, data.augmentation, rng).clamp(0, 1) * 255).round().to(torch.uint8)


def _pad_tall(pixels: Tensor) -> Tensor:
    """A tall image padded with zeros at its sides to a square; other images unchanged."""
    border = max(0, pixels.shape[-2] - pixels.shape[-1]) // 2
    return pad(pixels, (border, border, 0, 0))


def _resized(size: tuple[int, ...], resolution: int) -> tuple[int, int]:
    height, width = size
    scale = resolution / min(height, width)
    return max(resolution, round(height * scale)), max(resolution, round(width * scale))


def _center(pixels: Tensor, resolution: int) -> Tensor:
    top, left = _corner(pixels.shape[-2:], resolution)
    return pixels[..., top : top + resolution, left : left + resolution]


def _corner(size: tuple[int, ...], resolution: int) -> tuple[int, int]:
    return (size[0] - resolution) // 2, (size[1] - resolution) // 2
