"""Units of work and their results: plain records that batches, workers and executors exchange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from fc_bench.errors import Failure
from fc_bench.generation.plan import Job, MethodRow


@dataclass(frozen=True)
class Pending:
    """A job and the ids of its samples that are to be generated."""

    job: Job
    wanted: frozenset[str]


@dataclass(frozen=True)
class Unit:
    """Jobs of one method row that one worker does in this order because they share computations.

    A unit may hold only some batches of each job that shares prefixes, so that several workers have work; `part` then
    counts from 1. `company` is equal for all units that share prefixes, also of other rows: one worker does them all.
    The first `iterations` of each sample use the text alone and are shared (None: nothing is). `later` are the numbers
    of the later units of the same company. `images` maps the shared keys of finished samples to their ids. `customized`
    maps (row label, subject set) to the last record of a customization, of the jobs and their parts.
    """

    row: MethodRow
    jobs: tuple[Pending, ...]
    company: str
    iterations: int | None = None
    later: tuple[int, ...] = ()
    part: int = 0
    images: Mapping[str, str] = field(default_factory=dict)
    customized: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

    def pending(self, key: str) -> Pending:
        """The job of a subject set."""
        return next(item for item in self.jobs if item.job.subject_set.key == key)

    @property
    def size(self) -> int:
        """Number of samples to generate."""
        return sum(len(pending.wanted) for pending in self.jobs)


@dataclass(frozen=True)
class Generated:
    """One image, or the reason for its failure.

    `seconds` is its share of the time of its batch of `batch` images, None if unknown (nothing was computed, or the
    batch failed). `attention` are the attention maps of the method. `prefix` is what the image shares with others;
    `seconds` includes the time that the prefix took, so it is the cost of the image alone.
    """

    image: Image.Image | None
    failure: Failure | None
    seconds: float | None
    peak_memory: int | None
    batch: int
    attention: np.ndarray | None = None
    prefix: Shared | None = None


@dataclass(frozen=True)
class Shared:
    """Iterations that an image shares, how many of them were computed for another image, and their seconds."""

    iterations: int
    reused: int
    reused_seconds: float
