"""A cache of results by image, so that metrics which need the same result compute it once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from PIL import Image

Value = TypeVar("Value")


class Remembering(Generic[Value]):
    """A function of an RGB image that keeps its last `most` results; images with the same pixels are the same."""

    def __init__(self, compute: Callable[[Image.Image], Value], most: int = 4096) -> None:
        self._compute, self._most = compute, most
        self._kept: OrderedDict[tuple[tuple[int, int], bytes], Value] = OrderedDict()

    def __call__(self, image: Image.Image) -> Value:
        """The result for this image."""
        image = image.convert("RGB")
        key = (image.size, hashlib.sha256(image.tobytes()).digest())
        if key not in self._kept:
            self._kept[key] = self._compute(image)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]
