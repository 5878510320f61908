"""The stages of a curation: captions, segments, matches of phrases and segments, and the training set.

    output/work/images.json          id -> image, in the order in which they were found
           work/captions/<id>.json   one file per image and stage, so that an interrupted curation can continue
           work/segments/<id>.npy, <id>.json
           work/matches/<id>.json    the phrases of the caption, and the matches of phrases and segments
           work/<stage>/<id>.unreadable   for an unreadable image, which is read again when it changes
           00000/00000000.jpg, .json, .npy   the training set, with `bbox` as in the released one
           image_ids.txt, image_ids_train.txt, image_ids_test.txt   its images, all and by split
           sheet.png                 captions, phrases and masks, for a visual check
           report.json               how many images were kept, and why others were not

This follows the description of FastComposer's data (arXiv 2305.10431, section 5.1), whose code was not released.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fc_bench.model.contact_sheet import Tile, contact_sheet, in_rows
from fc_bench.model.curation.config import CurationConfig, MatcherConfig
from fc_bench.model.curation.models import Captioner, Segmenter, Similarity
from fc_bench.model.curation.phrases import FindPhrases, Phrase, phrase_finder
from fc_bench.model.errors import ModelInputError
from fc_bench.model.masks import bounding_box
from fc_bench.model.matching import greedy_matching, optimal_matching
from fc_bench.model.pictures import (
    OTHER_SUFFIXES,
    SUFFIXES,
    UNREADABLE,
    describe_left_out,
    describe_unreadable,
    image_files,
    read_picture,
)
from fc_bench.model.whole import write_whole

log = logging.getLogger(__name__)

NOTE = ".unreadable"
"""Suffix of a note about an unreadable image, with the image's size and time and the reason."""
GRAY = 127
MASK_COLORS = ((230, 60, 60), (60, 120, 230), (60, 180, 90), (230, 180, 40))


@dataclass(frozen=True)
class Match:
    """A match of a phrase, at the characters [start, end), and a segment."""

    segment: int
    label: str
    start: int
    end: int
    similarity: float


def curate(config: CurationConfig) -> dict[str, Any]:
    """Run all stages that are not finished; returns the counts in `report.json`.

    Raises ModelInputError when there are no images, a model cannot be loaded, or earlier results are damaged or have
    other settings.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = _list_images(config)
    work = config.output / "work"
    for stage in ("captions", "segments", "matches"):
        (work / stage).mkdir(parents=True, exist_ok=True)
    _check_settings(config, work)
    stages: dict[str, Callable[..., None]] = {"captions": _caption, "segments": _segment, "matches": _match}
    unfinished = [stage for stage in stages if _pending(config, stage, images)[1]]
    for place, stage in enumerate(unfinished):
        models = _models(config, stage, device)
        if place == 0:
            for later in unfinished[1:]:  # missing models are reported before the first stage runs for hours
                _models(config, later, torch.device("cpu"))
        stages[stage](config, images, *models)
        del models
    return _write(config, images)


def _models(config: CurationConfig, stage: str, device: torch.device) -> tuple[Any, ...]:
    """The models of a stage."""
    dtype = getattr(torch, config.dtype)
    if stage == "captions":
        return (Captioner(config.captioner, device, dtype),)
    if stage == "segments":
        return (Segmenter(config.segmenter, device, dtype),)
    return phrase_finder(config.phrases), Similarity(config.matcher, device, dtype)


def _list_images(config: CurationConfig) -> dict[str, Path]:
    """Id -> image; known images keep their ids, and new images get the next ids."""
    if not config.images.is_dir():
        raise ModelInputError(f"{config.images} is not a folder: name a folder with images")
    images, output = config.images.resolve(), config.output.resolve()
    if output == images:
        raise ModelInputError(f"{config.output} is the folder of the images itself: name another output")
    own = config.images / output.relative_to(images) if output.is_relative_to(images) else None
    try:
        found, others = (
            sorted(path for path in image_files(config.images, True, suffixes) if own not in path.parents)
            for suffixes in (SUFFIXES, OTHER_SUFFIXES)
        )
    except OSError as error:
        raise ModelInputError(f"{error.filename} cannot be read ({error.strerror}): make it readable") from error
    if others:
        log.warning("Left out: %s; convert them to JPEG or PNG", describe_left_out(others))
    if not found:
        raise ModelInputError(f"{config.images} has no image ({', '.join(SUFFIXES)}): name another folder")
    file = config.output / "work" / "images.json"
    remedy = f"restore it, or delete {file.parent} to start again, because it assigns the results there to the images"
    known: dict[str, str] = _read(file, remedy=remedy) if file.is_file() else {}
    if not all(isinstance(name, str) for name in known.values()):
        raise ModelInputError(f"{file} is damaged: {remedy}")
    names = set(known.values())
    for path in found:
        name = path.relative_to(config.images).as_posix()
        if name not in names:
            known[f"{len(known):08d}"] = name
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(known, indent=0, ensure_ascii=False).encode())
    here = {path.relative_to(config.images).as_posix() for path in found}
    return {name: config.images / place for name, place in known.items() if place in here}


def _check_settings(config: CurationConfig, work: Path) -> None:
    """Refuse stages with results of other settings, so that no training set mixes different settings."""
    current = {
        "captions": config.captioner.model_dump(mode="json", exclude={"batch_size"}),
        "segments": config.segmenter.model_dump(mode="json", exclude={"batch_size", "min_share"}),
        "matches": [config.phrases.model_dump(mode="json"), config.matcher.model_dump(mode="json"),
                    config.segmenter.min_share],
    }  # fmt: skip
    for stage, settings in current.items():
        file = work / f"{stage}.json"
        if not file.is_file() or not any((work / stage).glob("*.json")):
            continue
        remedy = (
            f"delete it if {work / stage} was made with the current settings; otherwise delete it together with that "
            "folder and the folders of later stages"
        )
        if _parsed(file, remedy) != settings:
            raise ModelInputError(
                f"{work / stage} was made with other settings (see {file}): delete {file.name}, this folder and the "
                "folders of later stages, or name another output"
            )
    for stage, settings in current.items():
        write_whole(work / f"{stage}.json", json.dumps(settings, indent=1).encode())


def _pending(config: CurationConfig, stage: str, images: Mapping[str, Path]) -> tuple[Path, list[str]]:
    """A stage's folder, and the images without a result, except for unreadable ones that have not changed."""
    folder = config.output / "work" / stage
    missing = [name for name in images if not (folder / f"{name}.json").is_file()]
    return folder, [name for name in missing if _stamp_in(folder / f"{name}{NOTE}") != _stamp(images[name])]


def _stamp(image: Path) -> str:
    """Size and time of an image, which change when the image changes."""
    status = image.stat() if image.exists() else image.lstat()
    return f"{status.st_size} bytes of {status.st_mtime_ns}"


def _stamp_in(note: Path) -> str | None:
    return note.read_text(encoding="utf-8").split("\n")[0] if note.is_file() else None


def _caption(config: CurationConfig, images: dict[str, Path], captioner: Captioner) -> None:
    folder, pending = _pending(config, "captions", images)
    for names, pictures in _batches(pending, images, config.captioner.batch_size, folder):
        for name, caption in zip(names, captioner.captions(pictures), strict=True):
            _save(folder / f"{name}.json", {"caption": caption})


def _segment(config: CurationConfig, images: dict[str, Path], segmenter: Segmenter) -> None:
    folder, pending = _pending(config, "segments", images)
    for names, pictures in _batches(pending, images, config.segmenter.batch_size, folder):
        for name, (panoptic, segments) in zip(names, segmenter.segments(pictures), strict=True):
            with (folder / f"{name}.npy").open("wb") as file:
                np.save(file, panoptic)
            _save(folder / f"{name}.json", {"segments": [asdict(segment) for segment in segments]})


def _match(config: CurationConfig, images: dict[str, Path], find: FindPhrases, similarity: Similarity) -> None:
    work = config.output / "work"
    folder, pending = _pending(config, "matches", images)
    for (name,), (picture,) in _batches(pending, images, 1, folder):
        caption = _read(work / "captions" / f"{name}.json", "caption")["caption"]
        segments = _read(work / "segments" / f"{name}.json", "segments")["segments"]
        panoptic = _segmentation(work / "segments" / f"{name}.npy") if segments else np.zeros((1, 1))
        large = [one for one in segments if (panoptic == one["id"]).mean() >= max(config.segmenter.min_share, 1e-9)]
        phrases = find(caption)
        matches: list[Match] = []
        if phrases and large:
            crops = [_crop(picture, panoptic == one["id"], config.matcher.background) for one in large]
            texts, labels = [phrase.text(caption) for phrase in phrases], [one["label"] for one in large]
            descriptions = [phrase.description(caption) for phrase in phrases]
            read = descriptions if config.matcher.reads == "description" else texts
            matches = match_phrases(phrases, large, similarity.matrix(texts, crops, labels, read), config.matcher)
        content = {
            "phrases": [asdict(phrase) for phrase in phrases],
            "matches": [asdict(match) for match in matches],
        }
        _save(folder / f"{name}.json", content)


def match_phrases(
    phrases: Sequence[Phrase], segments: Sequence[dict[str, Any]], similarities: np.ndarray, config: MatcherConfig
) -> list[Match]:
    """One-to-one matches of phrases and segments, in caption order, from similarities [phrases, segments].

    Pairs below the configured smallest similarity are left out.
    """
    assign = optimal_matching if config.assignment == "optimal" else greedy_matching
    found = [
        Match(segments[column]["id"], segments[column]["label"], phrases[row].start, phrases[row].end, float(value))
        for row, column in assign(similarities).items()
        if (value := similarities[row, column]) >= config.min_similarity
    ]
    return sorted(found, key=lambda match: match.start)


def _write(config: CurationConfig, images: dict[str, Path]) -> dict[str, Any]:
    """Write the training set of all images with a subject, the contact sheet and the report."""
    work, counts = config.output / "work", Counter({"images": len(images)})
    kept: list[str] = []
    for name, source in images.items():
        file = work / "matches" / f"{name}.json"
        if not file.is_file():
            counts["unreadable"] += 1
            continue
        matches = _read(file, "phrases", "matches")
        if not matches["matches"]:
            counts["without a phrase" if not matches["phrases"] else "without a matched segment"] += 1
            continue
        try:
            picture = read_picture(source)
        except UNREADABLE as error:
            log.warning("%s cannot be read (%s); %s", source, *describe_unreadable(source, error))
            counts["unreadable"] += 1
            continue
        stem = config.output / name[:5] / name
        stem.parent.mkdir(exist_ok=True)
        picture.save(stem.with_suffix(".jpg"), quality=95)
        panoptic = _segmentation(work / "segments" / f"{name}.npy")
        shutil.copyfile(work / "segments" / f"{name}.npy", stem.with_suffix(".npy"))
        segments = [
            {
                "id": match["segment"],
                "start": match["start"],
                "end": match["end"],
                "bbox": _released_box(panoptic == match["segment"]),
                "coco_label": match["label"],
                "similarity": round(match["similarity"], 4),
            }
            for match in matches["matches"]
        ]
        caption = _read(work / "captions" / f"{name}.json", "caption")["caption"]
        _save(stem.with_suffix(".json"), {"caption": caption, "segments": segments})
        counts["segments"] += len(segments)
        kept.append(name)
    counts["kept"] = len(kept)
    order = np.random.default_rng(config.seed).permutation(len(kept))
    held_out = {kept[place] for place in order[: round(config.test_share * len(kept))]}
    splits = {"": kept, "_train": [name for name in kept if name not in held_out], "_test": sorted(held_out)}
    for split, names in splits.items():
        write_whole(config.output / f"image_ids{split}.txt", "".join(f"{name}\n" for name in names).encode())
    if kept:
        shown = [kept[place] for place in sorted(order[: config.sheet_images])]
        sheet = contact_sheet(in_rows([_tile(config.output, name) for name in shown], 5), side=224)
        sheet.save(config.output / "sheet.png")
    report = dict(sorted(counts.items()))
    _save(config.output / "report.json", report)
    return report


def _released_box(mask: np.ndarray) -> list[int]:
    """Top, left, bottom and right, as FastComposer's own loader reads them (its data.py: [h1, w1, h2, w2])."""
    left, top, right, bottom = bounding_box(mask)
    return [top, left, bottom, right]


def _tile(output: Path, name: str) -> Tile:
    """An image with its subjects' masks in color, and its caption with their phrases numbered."""
    stem = output / name[:5] / name
    content, panoptic = _read(stem.with_suffix(".json")), np.load(stem.with_suffix(".npy"))
    pixels = np.asarray(read_picture(stem.with_suffix(".jpg")), dtype=np.float32).copy()
    caption, shift = content["caption"], 0
    for number, segment in enumerate(content["segments"]):
        inside = panoptic == segment["id"]
        pixels[inside] = 0.5 * pixels[inside] + 0.5 * np.array(MASK_COLORS[number % len(MASK_COLORS)])
        mark = f" [{number + 1} {('red', 'blue', 'green', 'yellow')[number % 4]}]"
        caption = caption[: segment["end"] + shift] + mark + caption[segment["end"] + shift :]
        shift += len(mark)
    return Tile(Image.fromarray(pixels.round().astype(np.uint8)), f"{name}: {caption}")


def _batches(
    pending: Sequence[str], images: dict[str, Path], size: int, folder: Path
) -> Iterator[tuple[list[str], list[Image.Image]]]:
    """Images in batches; for an unreadable image, a note is written into the stage's folder instead."""
    names: list[str] = []
    pictures: list[Image.Image] = []
    for count, name in enumerate(pending, start=1):
        try:
            pictures.append(read_picture(images[name]))
            names.append(name)
        except UNREADABLE as error:
            reason, remedy = describe_unreadable(images[name], error)
            log.warning("%s cannot be read (%s); %s", images[name], reason, remedy)
            write_whole(folder / f"{name}{NOTE}", f"{_stamp(images[name])}\n{reason}; {remedy}\n".encode())
        if len(names) == size or (names and count == len(pending)):
            yield names, pictures
            names, pictures = [], []
        if count % 100 == 0 or count == len(pending):
            log.info("%s: %d of %d images", folder.name, count, len(pending))


def _crop(picture: Image.Image, mask: np.ndarray, background: str) -> Image.Image:
    """The square around a segment, gray outside the picture and, unless the background is kept, outside the segment."""
    left, top, right, bottom = bounding_box(mask)
    pixels = np.asarray(picture)
    if background == "gray":
        pixels = np.where(mask[..., None], pixels, GRAY).astype(np.uint8)
    side = max(right - left, bottom - top, 16)
    canvas = Image.new("RGB", (side, side), (GRAY,) * 3)
    corner = ((left + right - side) // 2, (top + bottom - side) // 2)
    canvas.paste(Image.fromarray(pixels), (-corner[0], -corner[1]))
    return canvas


def _segmentation(file: Path) -> np.ndarray:
    try:
        return np.load(file)
    except (OSError, ValueError, EOFError) as error:
        remedy = f"delete it and {file.stem}.json beside it, and repeat the command"
        raise ModelInputError(f"{file} cannot be read ({error}): {remedy}") from error


def _read(file: Path, *fields: str, remedy: str = "delete it and repeat the command") -> dict[str, Any]:
    """A JSON object with these fields; raises ModelInputError, with `remedy` at its end, for anything else."""
    content = _parsed(file, remedy)
    if not isinstance(content, dict) or not all(field in content for field in fields):
        raise ModelInputError(f"{file} is damaged: {remedy}")
    return content


def _parsed(file: Path, remedy: str) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelInputError(f"{file} cannot be read ({error}): {remedy}") from error


def _save(file: Path, content: Any) -> None:
    write_whole(file, json.dumps(content, ensure_ascii=False).encode())
