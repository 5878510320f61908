"""A tiny training set in the layout of the released one, and tiny models to train on it."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fc_bench.model.fastcomposer.pipeline import FastComposerPipeline, load_fastcomposer
from fc_bench.model.training.config import TrainingConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "fastcomposer"
PEOPLE = ["p0", "p1", "p2"]
NOUNS = {"p0": "man", "p1": "woman", "p2": "boy"}


def write_image(root: Path, image_id: str, people: list[str], rng: np.random.Generator) -> None:
    """One image of colored boxes side by side, each a person."""
    width = 128 // len(people)
    picture = rng.integers(0, 80, (128, 128, 3), dtype=np.uint8)
    segmentation = np.zeros((128, 128), dtype=np.uint8)
    segments, caption = [], ""
    for index, person in enumerate(people):
        top, left = int(rng.integers(10, 40)), index * width + 8
        box = (top, left, 120, left + width - 16)
        color = np.array([200, 60, 60]) if person == "p0" else np.array([60, 60, 200])
        picture[box[0] : box[2], box[1] : box[3]] = color + rng.integers(0, 40, 3)
        segmentation[box[0] : box[2], box[1] : box[3]] = index + 1
        start = len(caption) + (5 if index else 0)
        caption += (" and " if index else "") + f"a {NOUNS[person]}"
        segments.append(
            {
                "id": index + 1,
                "start": start,
                "end": len(caption),
                "bbox": box,
                "coco_label": "person",
                "subject": person,
            }
        )
    caption += " on the beach"
    folder = root / image_id[:5]
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(folder / f"{image_id}.png")
    np.save(folder / f"{image_id}.npy", segmentation)
    (folder / f"{image_id}.json").write_text(json.dumps({"caption": caption, "segments": segments}))


@pytest.fixture(scope="session")
def loaded_pipeline() -> FastComposerPipeline:
    pipeline = load_fastcomposer(GOLDEN / "sd", GOLDEN / "pytorch_model.bin", image_encoder=GOLDEN / "clip")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def pipeline(loaded_pipeline: FastComposerPipeline) -> Iterator[FastComposerPipeline]:
    """The tiny pipeline; a test may change its scheduler."""
    scheduler = loaded_pipeline.scheduler
    yield loaded_pipeline
    loaded_pipeline.scheduler = scheduler


@pytest.fixture(scope="session")
def faces() -> list[Image.Image]:
    rng = np.random.default_rng(7)
    return [Image.fromarray(rng.integers(0, 256, (40, 32 + 8 * i, 3), dtype=np.uint8)) for i in range(4)]


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    groups = [["p0"], ["p1"], ["p2"], ["p0", "p1"], ["p1", "p2"], ["p2", "p0"]]
    ids = [f"{index:05d}{index:03d}" for index in range(len(groups))]
    for image_id, people in zip(ids, groups, strict=True):
        write_image(root, image_id, people, rng)
    (root / "image_ids_train.txt").write_text("\n".join(ids[:5]))
    (root / "image_ids_test.txt").write_text("\n".join(ids[5:]))
    return root


@pytest.fixture
def config_fields(training_set: Path, tmp_path: Path) -> dict:
    """A training of tiny models that takes a second or two; tests change single fields."""
    return {
        "pipeline": GOLDEN / "sd",
        "image_encoder": GOLDEN / "clip",
        "output": tmp_path / "run",
        "data": {"root": training_set, "resolution": 32, "variants": 2},
        "cache": {"folder": tmp_path / "cache", "dtype": "float32"},
        "batch_size": 3,
        "max_steps": 3,
        "mixed_precision": "no",
        "log_every": 1,
        "checkpoint_seconds": None,
        "optimizer": {"learning_rate": {"unet": 1e-3, "postfuse_module": 1e-3, "image_encoder": 1e-3}},
        "cpu": True,
    }


@pytest.fixture
def config(config_fields: dict) -> TrainingConfig:
    return TrainingConfig.model_validate(config_fields)
