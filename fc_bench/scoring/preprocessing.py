"""Image preprocessing of vision models, as declared in the model's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of a model's input.

    `size` is height and width, or the length of the shorter side alone; `crop` is height and width of the center crop
    (None: no crop).
    """

    size: tuple[int, int] | int
    resample: Image.Resampling
    crop: tuple[int, int] | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def apply(self, image: Image.Image) -> np.ndarray:
        """The picture's pixels, resized, cropped and normalized; float32 [3, height, width]."""
        image = image.convert("RGB")
        if isinstance(self.size, int):
            shorter, longer = sorted(image.size)
            side = int(self.size * longer / shorter)
            width, height = (self.size, side) if image.width <= image.height else (side, self.size)
        else:
            height, width = self.size
        image = image.resize((width, height), self.resample)
        if self.crop is not None:
            top, left = (height - self.crop[0]) // 2, (width - self.crop[1]) // 2
            image = image.crop((left, top, left + self.crop[1], top + self.crop[0]))
        pixels = np.asarray(image, dtype=np.float32) / 255
        mean, std = (np.asarray(values, dtype=np.float32) for values in (self.mean, self.std))
        return ((pixels - mean) / std).transpose(2, 0, 1).copy()


def read_preprocessing(folder: Path, image_size: int) -> Preprocessing:
    """The preprocessing in a folder's preprocessor_config.json, as transformers' image processors read it.

    Missing values follow DINO's models: the whole picture resized to the model's square, bilinear, with ImageNet's mean
    and standard deviation. Raises ValueError for an invalid file.
    """
    from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    file = folder / "preprocessor_config.json"
    config: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    cropped = bool(config.get("do_center_crop"))
    mean, std = config.get("image_mean", IMAGENET_DEFAULT_MEAN), config.get("image_std", IMAGENET_DEFAULT_STD)
    try:
        return Preprocessing(
            size=_size(config.get("size", image_size), cropped),
            resample=Image.Resampling(config.get("resample", Image.Resampling.BILINEAR)),
            crop=_height_and_width(config.get("crop_size", image_size)) if cropped else None,
            mean=(float(mean[0]), float(mean[1]), float(mean[2])),
            std=(float(std[0]), float(std[1]), float(std[2])),
        )
    except (LookupError, TypeError) as error:
        raise ValueError(f"{file.name} is not understood: {type(error).__name__} {error}") from None


def _size(size: int | Mapping[str, int], cropped: bool) -> tuple[int, int] | int:
    """Height and width; a single number is the shorter side if the image is cropped afterwards, else both sides."""
    if isinstance(size, Mapping):
        return int(size["shortest_edge"]) if "shortest_edge" in size else _height_and_width(size)
    return int(size) if cropped else _height_and_width(size)


def _height_and_width(size: int | Mapping[str, int]) -> tuple[int, int]:
    return (int(size["height"]), int(size["width"])) if isinstance(size, Mapping) else (int(size), int(size))
