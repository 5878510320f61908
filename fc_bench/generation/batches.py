"""Batches: the images of one job, generated together as far as memory and the method's errors allow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fc_bench.errors import Failure, raise_if_disk_refuses
from fc_bench.generation.faults import BlackImageError, ran_out_of_memory, require_device, require_picture
from fc_bench.generation.peak_memory import PeakMemory
from fc_bench.generation.units import Generated, Shared
from fc_bench.protocols import Customization, Method, Request, ShowsAttention

if TYPE_CHECKING:
    from fc_bench.generation.shared_prefixes import SharedPrefix, UnitPrefixes


class Batches:
    """Generates the batches of one job.

    If a batch fails, each of its missing images is tried alone. If memory runs out, the job continues with half the
    batch size, at most `halvings` times. If that is not enough, all remaining images of the job fail.
    """

    def __init__(
        self,
        method: Method,
        customized: Customization,
        device: str,
        batch_size: int,
        keep_attention: bool = False,
        prefixes: UnitPrefixes | None = None,
        halvings: int = 1,
    ) -> None:
        self._method, self._customized, self._device = method, customized, device
        self._keep_attention, self._prefixes = keep_attention, prefixes
        self.seconds = 0.0
        """Seconds spent on all batches."""
        self.most, self._halvings = batch_size, halvings
        """The batch size, as far as it is known now."""
        self._given_up: Failure | None = None

    def generate(self, requests: Sequence[Request]) -> list[Generated]:
        """One result per request."""
        results: list[Generated] = []
        while len(results) < len(requests):
            part = _of_one_size(requests[len(results) : len(results) + self.most])
            if self._given_up is not None:
                results += [Generated(None, self._given_up, None, None, len(part))] * len(part)
                continue
            attempt = self._attempt(part)
            results += attempt.done
            missing = part[len(attempt.done) :]
            if not missing:
                continue
            assert attempt.failure is not None
            if attempt.out_of_memory:
                self._after_running_out(attempt.failure)
            elif len(part) == 1:
                results.append(Generated(None, attempt.failure, None, None, 1))
            else:
                results += [self._alone(request) for request in missing]
        return results

    def _after_running_out(self, failure: Failure) -> None:
        free_memory()
        if not self._halvings or self.most == 1:
            self._given_up = failure
        self.most, self._halvings = (self.most + 1) // 2, self._halvings - 1

    def _alone(self, request: Request) -> Generated:
        attempt = self._attempt([request])
        return attempt.done[0] if attempt.done else Generated(None, attempt.failure, None, None, 1)

    def _attempt(self, requests: Sequence[Request]) -> _Attempt:
        """Generate a batch; an image that is entirely black counts as generated, with its failure."""
        made: list[tuple[Image.Image | Failure, np.ndarray | None]] = []
        begun = time.perf_counter()
        failure: Failure | None = None
        out_of_memory = False
        prefix: SharedPrefix | None = None
        with PeakMemory(self._device) as memory:
            try:
                prefix = self._prefixes.of(requests) if self._prefixes is not None else None
                for image, maps in self._images(requests, prefix):
                    if maps is not None:
                        _check_maps(maps, len(self._customized.subjects))
                    made.append((_picture(image, requests[0].conditions.size), maps))
                if len(made) != len(requests):
                    raise RuntimeError(f"the method gave {len(made)} images for {len(requests)} requests")
            except Exception as error:
                raise_if_disk_refuses(error)
                require_device(self._device)
                failure, out_of_memory = Failure.of(error), ran_out_of_memory(error)
        spent = time.perf_counter() - begun
        self.seconds += spent
        count = len(requests)
        reused = None
        if prefix is not None:
            spent += prefix.reused_seconds
            reused = Shared(prefix.iterations, prefix.reused, prefix.reused_seconds / count)
        each = spent / count if failure is None else None
        done = [
            Generated(None, image, each, memory.bytes, count, prefix=reused)
            if isinstance(image, Failure)
            else Generated(image, None, each, memory.bytes, count, maps, reused)
            for image, maps in made[:count]
        ]
        return _Attempt(done, failure, out_of_memory)

    def _images(
        self, requests: Sequence[Request], prefix: SharedPrefix | None
    ) -> Iterator[tuple[Image.Image, np.ndarray | None]]:
        """The method's images, each with its attention maps if they are requested and available."""
        going_on: dict[str, Any] = {} if prefix is None else {"prefix": prefix.state}
        if self._keep_attention and isinstance(self._method, ShowsAttention):
            yield from self._method.generate_with_attention(self._customized, requests, **going_on)
        else:
            for image in self._method.generate(self._customized, requests, **going_on):
                yield image, None


@dataclass(frozen=True)
class _Attempt:
    """The images of a batch that were generated, and the error that ended it."""

    done: list[Generated]
    failure: Failure | None
    out_of_memory: bool


def _of_one_size(requests: Sequence[Request]) -> list[Request]:
    """The first requests that have the same size."""
    return list(takewhile(lambda request: request.conditions.size == requests[0].conditions.size, requests))


def _picture(image: Any, size: tuple[int, int] | None) -> Image.Image | Failure:
    """The image, or its failure if it is black or has another size than the prompt asks for.

    Raises TypeError for an object that is not an image.
    """
    try:
        picture = require_picture(image)
        if size is not None and picture.size != tuple(size):
            found = f"{picture.width} x {picture.height} pixels instead of {size[0]} x {size[1]}"
            return Failure.of(ValueError(f"the method gave an image of {found}"))
        return picture
    except BlackImageError as error:
        return Failure.of(error)


def _check_maps(maps: np.ndarray, subjects: int) -> None:
    """Raise TypeError or ValueError unless these are attention maps of `subjects` subjects."""
    if not isinstance(maps, np.ndarray) or not np.issubdtype(maps.dtype, np.floating):
        raise TypeError(f"the method gave {type(maps).__name__} as attention maps instead of an array of floats")
    if maps.ndim != 3 or len(maps) != subjects or not maps.size:
        raise ValueError(f"the method gave attention maps of the shape {maps.shape} for {subjects} subjects")
    if not np.isfinite(maps).all() or (maps < 0).any() or (np.abs(maps.sum(axis=(1, 2)) - 1) > 1e-3).any():
        raise ValueError("the method gave attention maps that are negative or do not sum to 1")


def free_memory() -> None:
    """Release unused memory, also on the accelerator."""
    import gc

    import torch

    gc.collect()
    with suppress(RuntimeError):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
