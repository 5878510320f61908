"""A cache of results by image, so that metrics which need the same result compute it once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from PIL import Image

from fc_bench.scoring.threads import in_threads

Value = TypeVar("Value")
Key = tuple[tuple[int, int], bytes]


class Remembering(Generic[Value]):
    """A function of an RGB image that keeps its last `most` results; images with the same pixels are the same.

    `compute` gives the results of several images, each independent of the others.
    """

    def __init__(self, compute: Callable[[Sequence[Image.Image]], Sequence[Value]], most: int = 4096) -> None:
        self._compute, self._most = compute, most
        self._kept: OrderedDict[Key, Value] = OrderedDict()

    def __call__(self, image: Image.Image) -> Value:
        """The result for this image."""
        image = image.convert("RGB")
        key = _key(image)
        if key not in self._kept:
            self._keep(key, self._compute([image])[0])
        self._kept.move_to_end(key)
        return self._kept[key]

    def look_ahead(self, images: Iterable[Image.Image], together: int, threads: bool = False) -> None:
        """Compute the missing results, of `together` images at a time; with `threads` on all cores at once.

        Images that cannot be computed together are left to their own call, which raises the error of that image alone.
        """
        missing: dict[Key, Image.Image] = {}
        for image in images:
            image = image.convert("RGB")
            if (key := _key(image)) not in self._kept:
                missing[key] = image
        keys = list(missing)
        parts = [keys[start : start + together] for start in range(0, len(keys), together)]

        def computed(part: Sequence[Key]) -> Sequence[Value]:
            with suppress(Exception):
                return self._compute([missing[key] for key in part])
            return ()

        for part, values in zip(parts, in_threads(computed, parts) if threads else map(computed, parts), strict=True):
            for key, value in zip(part, values, strict=False):
                self._keep(key, value)

    def _keep(self, key: Key, value: Value) -> None:
        self._kept[key] = value
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)


def _key(image: Image.Image) -> Key:
    return image.size, hashlib.sha256(image.tobytes()).digest()
