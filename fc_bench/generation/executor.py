"""Where jobs run: what is given out as one piece, what comes back, and the interface behind which both happen.

An executor is given units and gives back events, each job's in their order. It writes no record: its caller does,
alone. Artefacts and checkpoints go below the run folder, which every worker sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fc_bench.errors import Failure
from fc_bench.generation.batch_size import FIRST
from fc_bench.generation.plan import Sample
from fc_bench.generation.units import Generated, Unit


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
