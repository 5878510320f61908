"""The interface of executors: they receive units of work and return events.

The events of each job arrive in order. An executor writes no records; its caller does. Artefacts and checkpoints are
written to the run folder, which every worker can access.
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
    """Options of all jobs of a command.

    Without a batch size, batches fill the accelerator's memory.
    """

    batch_size: int | None = FIRST
    keep_artefacts: bool = False
    checkpoint_every: int | None = None
    keep_attention: bool = False


@dataclass(frozen=True)
class Spent:
    """Seconds of a worker for loading methods, customization and sampling."""

    loading: float = 0.0
    customizing: float = 0.0
    sampling: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.loading + other.loading, self.customizing + other.customizing, self.sampling + other.sampling)

    @property
    def total(self) -> float:
        """The sum of all parts, in seconds."""
        return self.loading + self.customizing + self.sampling


@dataclass(frozen=True)
class Loaded:
    """The unit's method is loaded on this machine; `apart`: it customizes the subjects of a set one by one."""

    apart: bool
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class Customized:
    """A line for jobs.jsonl."""

    record: Mapping[str, Any]


@dataclass(frozen=True)
class Made:
    """A sample was generated or failed: `png` is the content of its image file."""

    sample: Sample
    mentions: Sequence[str]
    generated: Generated
    """The event without its image."""
    png: bytes | None


@dataclass(frozen=True)
class Same:
    """A sample shares the image of the finished sample with the same shared key."""

    sample: Sample
    mentions: Sequence[str]


@dataclass(frozen=True)
class JobFailed:
    """None of the requested samples of a job can be generated."""

    job: str
    """The key of the job's subject set."""
    failure: Failure
    mentions: Sequence[str] | None


@dataclass(frozen=True)
class JobDone:
    """A job is done; its artefact may be removed if all samples exist and it is not `apart`."""

    job: str
    apart: bool


@dataclass(frozen=True)
class RowFailed:
    """The method could not be loaded; `spent` is the cost of the attempt."""

    failure: Failure
    load: Mapping[str, Any]


@dataclass(frozen=True)
class UnitDone:
    """All events of a unit have been sent."""

    spent: Spent


Event = Loaded | Customized | Made | Same | JobFailed | JobDone | RowFailed | UnitDone


class Executor(Protocol):
    """Executes units of work."""

    def workers(self) -> int:
        """How many units are executed at a time."""
        ...

    def events(self, units: Iterable[Unit], current: Callable[[Unit], Unit]) -> Iterator[tuple[Unit, Event]]:
        """The events of the units, as they arrive; each unit ends with `UnitDone`.

        `current` returns a unit as it should start now: without samples that were recorded in the meantime, and with
        the known customizations. An error that ends the whole run is raised: UserError, ModelInputError, or OSError of
        a full disk.
        """
        ...
