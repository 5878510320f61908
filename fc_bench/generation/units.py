"""Units of work and what comes of them: plain records that batches, workers and executors pass around."""

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
    """Jobs of one method row that one worker does in this order, because they share what it computes.

    Of jobs that share prefixes a unit may be a part, some batches of each, so that several workers have something to
    do: `part` counts from 1 then. `company` is equal for units that share prefixes, of other rows, too: one worker does
    them all. `iterations` of each sample see the text alone and are shared (None: nothing is), `later` are the numbers
    of the units of the same company that follow. `images` maps the shared keys of finished samples to those samples'
    ids, `customized` (row label, subject set) to the last record of a customization: of the jobs here and their parts.
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
    """One image or the reason there is none.

    `seconds` is its share of its batch of `batch` images, None when that cannot be told: nothing was computed, or the
    batch failed on the way. `attention` are the maps that a method showed with it. `prefix` is what it shares with
    other images; `seconds` holds what that took when it was computed, too: what the image costs by itself.
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
    """Iterations that an image shares, how many of them were computed for another one, and the seconds of these."""

    iterations: int
    reused: int
    reused_seconds: float
