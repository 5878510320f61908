"""Where jobs run: what is given out as one piece, what comes back, and the interface behind which both happen.

An executor is given units and gives back events, each job's in their order. It writes no record: its caller does,
alone. Artefacts and checkpoints go below the run folder, which every worker sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fc_bench.generation.batches import Generated
from fc_bench.errors import Failure
from fc_bench.generation.batch_size import FIRST
from fc_bench.generation.plan import Job, MethodRow, Sample


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
class Options:
    """How jobs are done, the same for all of a command.

    Without a batch size batches are filled up to the accelerator's memory.
    """

    batch_size: int | None = FIRST
    keep_artefacts: bool = False
    checkpoint_every: int | None = None
    keep_attention: bool = False


@dataclass(frozen=True)
class Spent:
    """Seconds of a worker on loading methods, customizing and sampling."""

    loading: float = 0.0
    customizing: float = 0.0
    sampling: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.loading + other.loading, self.customizing + other.customizing, self.sampling + other.sampling)

    @property
    def total(self) -> float:
        """All of it."""
        return self.loading + self.customizing + self.sampling


@dataclass(frozen=True)
class Loaded:
    """The unit's method is loaded, on this machine; whether it customizes the subjects of a set one by one."""

    apart: bool
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class Customized:
    """A line for jobs.jsonl."""

    record: Mapping[str, Any]


@dataclass(frozen=True)
class Made:
    """A sample was computed, or could not be: `png` is the file to write."""

    sample: Sample
    mentions: Sequence[str]
    generated: Generated
    """Without its image."""
    png: bytes | None


@dataclass(frozen=True)
class Same:
    """A sample's image is that of the finished sample with its shared key."""

    sample: Sample
    mentions: Sequence[str]


@dataclass(frozen=True)
class JobFailed:
    """None of a job's wanted samples can be made."""

    job: str
    """Its subject set's key."""
    failure: Failure
    mentions: Sequence[str] | None


@dataclass(frozen=True)
class JobDone:
    """A job has been gone through; its artefact may go if its samples are all there and it is not `apart`."""

    job: str
    apart: bool


@dataclass(frozen=True)
class RowFailed:
    """The method could not be loaded, with what trying cost."""

    failure: Failure
    load: Mapping[str, Any]


@dataclass(frozen=True)
class UnitDone:
    """All events of a unit are told."""

    spent: Spent


Event = Loaded | Customized | Made | Same | JobFailed | JobDone | RowFailed | UnitDone


class Executor(Protocol):
    """Does units somewhere."""

    def workers(self) -> int:
        """How many units it does at a time."""
        ...

    def events(self, units: Iterable[Unit], current: Callable[[Unit], Unit]) -> Iterator[tuple[Unit, Event]]:
        """What comes of the units, as it comes; each ends with `UnitDone`.

        `current` gives a unit as it is to be begun now: without what is recorded meanwhile, with what is known. What
        ends the whole run is raised: UserError, ModelInputError, OSError of a disk that takes no more.
        """
        ...
