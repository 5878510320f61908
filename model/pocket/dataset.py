"""Pocket pictures on disk, in the layout of the released FastComposer training set, and packed for fast reading.

    <folder>/00000/00000000.png    picture
    <folder>/00000/00000000.json   caption; segments with id, start/end of the noun phrase, bbox (left, top,
                                   right, bottom), subject
    <folder>/00000/00000000.npy    segmentation map: 0 background, 1.. the segments' ids
    <folder>/image_ids_train.txt, image_ids_test.txt, image_ids_references.txt
    <folder>/packed/images.npy     all pictures, [N, 128, 128, 3]
    <folder>/packed/annotations.jsonl   one line a picture: captions, people, face boxes, landmarks
    <folder>/packed/photographs.npy, photographs.jsonl   the same of the photographs

One reader serves both this and the released set; `packed` feeds the stages that need no subject crops.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fc_bench.model.errors import ModelInputError
from fc_bench.model.masks import bounding_box
from fc_bench.model.pocket.canvas import SIZE
from fc_bench.model.pocket.people import TRAINING_PEOPLE, make_person
from fc_bench.model.pocket.render import Picture, compose_caption, render_photograph, render_seed

PLAN = "plan.json"
CHUNK = 1000
"""Pictures in one chunk folder."""
RICH_CAPTIONS = 3
"""How many captions describing traits each picture has beside its plain one."""


@dataclass(frozen=True)
class DatasetPlan:
    """Which pictures: `count` seeds from `first_seed`, showing people with `people` seeds from `first_person`."""

    folder: Path
    count: int
    people: int
    first_person: int
    first_seed: int
    share_of_pairs: float
    test_count: int
    photographs: int = 0
    """Plain photographs of each person besides, which FastComposer takes its references from."""


def training_plan(folder: Path, pictures: int, people: int, test_count: int) -> DatasetPlan:
    """Pictures and photographs of people of the training range, for generator and CLIP."""
    return DatasetPlan(
        folder=folder,
        count=pictures,
        people=people,
        first_person=TRAINING_PEOPLE.start,
        first_seed=0,
        share_of_pairs=0.5,
        test_count=test_count,
        photographs=2,
    )


def write_dataset(plan: DatasetPlan, workers: int = 2) -> Path:
    """Render a dataset, skipping what is complete, and return its folder; the last `test_count` ids are for tests.

    Raises ModelInputError when the folder holds a dataset of another plan.
    """
    _claim(plan)
    with ProcessPoolExecutor(workers) as pool:
        if not (plan.folder / "image_ids_test.txt").exists():
            _write_pictures(plan, pool)
        if plan.photographs and not (plan.folder / "image_ids_references.txt").exists():
            _write_photographs(plan, pool)
    return plan.folder


def _claim(plan: DatasetPlan) -> None:
    """Write the plan beside the data, or compare with the one that is there."""
    wanted = {name: value for name, value in asdict(plan).items() if name != "folder"}
    file = plan.folder / PLAN
    if file.exists():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found != wanted:
            different = ", ".join(name for name in wanted if found.get(name) != wanted[name])
            raise ModelInputError(f"{plan.folder} holds other pictures ({different}): delete it or use another folder")
        return
    plan.folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")


def _write_pictures(plan: DatasetPlan, pool: ProcessPoolExecutor) -> None:
    packed = plan.folder / "packed"
    packed.mkdir(parents=True, exist_ok=True)
    shape = (plan.count, SIZE, SIZE, 3)
    np.lib.format.open_memmap(packed / "images.npy", mode="w+", dtype=np.uint8, shape=shape).flush()
    starts = range(0, plan.count, CHUNK)
    chunks = pool.map(_write_chunk, [plan] * len(starts), starts)
    with (packed / "annotations.jsonl").open("w", encoding="utf-8") as lines:
        for annotations in chunks:
            lines.writelines(json.dumps(annotation) + "\n" for annotation in annotations)
    ids = [f"{index:08d}" for index in range(plan.count)]
    split = plan.count - plan.test_count
    (plan.folder / "image_ids_train.txt").write_text("\n".join(ids[:split]) + "\n", encoding="utf-8")
    (plan.folder / "image_ids_test.txt").write_text("\n".join(ids[split:]) + "\n", encoding="utf-8")


def _write_photographs(plan: DatasetPlan, pool: ProcessPoolExecutor) -> None:
    """Photographs take the ids after the pictures, so that neither list changes the other."""
    packed = plan.folder / "packed"
    first = -(-plan.count // CHUNK) * CHUNK
    total = plan.people * plan.photographs
    shape = (total, SIZE, SIZE, 3)
    np.lib.format.open_memmap(packed / "photographs.npy", mode="w+", dtype=np.uint8, shape=shape).flush()
    starts = range(0, total, CHUNK)
    chunks = pool.map(_write_photograph_chunk, [plan] * len(starts), [first] * len(starts), starts)
    with (packed / "photographs.jsonl").open("w", encoding="utf-8") as lines:
        for annotations in chunks:
            lines.writelines(json.dumps(annotation) + "\n" for annotation in annotations)
    ids = [f"{first + index:08d}" for index in range(total)]
    (plan.folder / "image_ids_references.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")


def _write_photograph_chunk(plan: DatasetPlan, first: int, start: int) -> list[dict[str, Any]]:
    images = np.load(plan.folder / "packed" / "photographs.npy", mmap_mode="r+")
    annotations = []
    for index in range(start, min(start + CHUNK, plan.people * plan.photographs)):
        person = make_person(plan.first_person + index // plan.photographs)
        stem = plan.folder / f"{(first + index) // CHUNK:05d}" / f"{first + index:08d}"
        stem.parent.mkdir(exist_ok=True)
        picture = render_photograph(person, index % plan.photographs)
        images[index] = picture.image
        annotations.append(_write_picture(stem, picture, first + index))
    images.flush()
    return annotations


@dataclass(frozen=True)
class PackedDataset:
    """A packed dataset in memory-mapped form: `images` [N, 128, 128, 3] and one annotation a picture."""

    images: NDArray[np.uint8]
    annotations: list[dict[str, Any]]
    test_count: int

    @property
    def train_count(self) -> int:
        """Number of pictures for training."""
        return len(self.annotations) - self.test_count


def read_packed(folder: Path) -> PackedDataset:
    """Open what `write_dataset` packed."""
    test_count = len((folder / "image_ids_test.txt").read_text(encoding="utf-8").split())
    return _open_packed(folder / "packed", "images", "annotations", test_count)


def read_photographs(folder: Path) -> PackedDataset:
    """Open the packed photographs of people, none of which is for tests."""
    return _open_packed(folder / "packed", "photographs", "photographs", 0)


def _open_packed(packed: Path, images: str, annotations: str, test_count: int) -> PackedDataset:
    with (packed / f"{annotations}.jsonl").open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return PackedDataset(np.load(packed / f"{images}.npy", mmap_mode="r"), records, test_count)


def _write_chunk(plan: DatasetPlan, start: int) -> list[dict[str, Any]]:
    people = range(plan.first_person, plan.first_person + plan.people)
    images = np.load(plan.folder / "packed" / "images.npy", mmap_mode="r+")
    folder = plan.folder / f"{start // CHUNK:05d}"
    folder.mkdir(exist_ok=True)
    annotations = []
    for index in range(start, min(start + CHUNK, plan.count)):
        picture = render_seed(plan.first_seed + index, people, plan.share_of_pairs)
        images[index] = picture.image
        annotations.append(_write_picture(folder / f"{index:08d}", picture, plan.first_seed + index))
    images.flush()
    return annotations


def _write_picture(stem: Path, picture: Picture, seed: int) -> dict[str, Any]:
    caption, spans = compose_caption(picture.people, picture.scene)
    segmentation = np.zeros((SIZE, SIZE), np.uint8)
    segments = []
    for number, (person, mask, span) in enumerate(zip(picture.people, picture.masks, spans, strict=True), start=1):
        inside = mask > 127
        segmentation[inside] = number
        segments.append(
            {
                "id": number,
                "start": span.start,
                "end": span.end,
                "word": person.noun,
                "bbox": bounding_box(inside),
                "coco_label": "person",
                "subject": str(person.seed),
            }
        )
    Image.fromarray(picture.image).save(stem.with_suffix(".png"))
    np.save(stem.with_suffix(".npy"), segmentation)
    stem.with_suffix(".json").write_text(json.dumps({"caption": caption, "segments": segments}), encoding="utf-8")
    rng = np.random.default_rng([13, seed])
    most = 5 if len(picture.people) == 1 else 4
    rich = [compose_caption(picture.people, picture.scene, rng, most)[0] for _ in range(RICH_CAPTIONS)]
    return {
        "caption": caption,
        "rich_captions": rich,
        "people": [person.seed for person in picture.people],
        "face_boxes": picture.face_boxes.round(2).tolist(),
        "landmarks": picture.landmarks.round(2).tolist(),
        "context": picture.scene.context,
    }
