"""The units that wait for workers: which may start now, and what is left of one whose worker is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from fc_bench.errors import Failure
from fc_bench.generation.executor import Event, JobFailed, Loaded, Made, Same
from fc_bench.generation.plan import MethodRow
from fc_bench.generation.units import Unit

TRIES = 3
"""How often a unit is tried before it fails; a job that kills every worker must not be repeated forever."""


@dataclass
class Begun:
    """A unit that was assigned, and how often it was tried since its last result."""

    unit: Unit
    tries: int = 0
    done: set[str] = field(default_factory=set)
    """Samples that have arrived."""
    failed: set[str] = field(default_factory=set)
    """Jobs that failed as a whole."""

    def take(self, event: Event) -> None:
        """Record what has arrived of the unit."""
        if isinstance(event, (Made, Same)):
            self.done.add(event.sample.id)
            self.tries = 1
        elif isinstance(event, JobFailed):
            self.failed.add(event.job)

    def rest(self) -> Unit:
        """The unit without the results that have arrived."""
        left = [
            replace(pending, wanted=pending.wanted - self.done)
            for pending in self.unit.jobs
            if pending.job.subject_set.key not in self.failed
        ]
        return replace(self.unit, jobs=tuple(pending for pending in left if pending.wanted))


@dataclass(eq=False)
class Place:
    """The state of a worker: its loaded row, its company and its current unit."""

    row: MethodRow | None = None
    company: deque[Begun] | None = None
    begun: Begun | None = None


class UnitQueue:
    """The waiting units, by company, and which of them may start.

    Methods that customize subjects one by one share those artefacts between sets: until a set's subjects are
    customized, its unit must be the only one of its row. Whether a method does so is known after it was loaded.
    """

    def __init__(self, units: Iterable[Unit], current: Callable[[Unit], Unit]) -> None:
        companies: dict[str, deque[Begun]] = {}
        for unit in units:
            companies.setdefault(unit.company, deque()).append(Begun(unit))
        self._waiting, self._current = list(companies.values()), current
        self._apart: dict[str, bool] = {}
        self._running: list[tuple[Begun, bool]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def give(self, place: Place) -> Unit | None:
        """The next unit for a free worker: of its company, else of its loaded row; None if none may start."""
        found = self._next(place)
        if found is None:
            return None
        place.begun, place.company = found
        place.row = place.begun.unit.row
        return place.begun.unit

    def _next(self, place: Place) -> tuple[Begun, deque[Begun]] | None:
        if place.company:
            return self._begin(place.company)
        row = place.row
        loaded = [waiting for waiting in self._waiting if row and waiting[0].unit.row.label == row.label]
        for waiting in loaded or list(self._waiting):
            begun = self._begin(waiting)
            if begun is not None:
                self._waiting.remove(waiting)
                return begun
        return None

    def _begin(self, company: deque[Begun]) -> tuple[Begun, deque[Begun]] | None:
        begun = company[0]
        begun.unit = self._current(begun.rest())
        alone = self._wants_to_be_alone(begun.unit)
        others = [running for running in self._running if running[0].unit.row == begun.unit.row]
        if others and (alone or any(running[1] for running in others)):
            return None
        company.popleft()
        begun.tries += 1
        self._running.append((begun, alone))
        return begun, company

    def _wants_to_be_alone(self, unit: Unit) -> bool:
        parts = {part.subject_set.key for pending in unit.jobs for part in pending.job.parts}
        if not parts or self._apart.get(unit.row.label) is False:
            return False
        made = {key for (_, key), record in unit.customized.items() if record.get("status") == "ok"}
        return not parts <= made

    def take(self, place: Place, event: Event) -> None:
        """Record an event of a worker: finished samples, and whether a row customizes subjects one by one."""
        begun = place.begun
        assert begun is not None
        begun.take(event)
        if isinstance(event, Loaded):
            self._apart[begun.unit.row.label] = event.apart
            if not event.apart:
                self._running = [
                    (each, alone and each.unit.row.label != begun.unit.row.label) for each, alone in self._running
                ]

    def ended(self, place: Place) -> None:
        """A worker has finished its unit."""
        self._running = [running for running in self._running if running[0] is not place.begun]
        place.begun = None

    def lost(self, place: Place, reason: str) -> Iterator[tuple[Unit, Event]]:
        """A worker is lost: another one does the rest, with its company. A job that loses workers repeatedly fails."""
        begun, company = place.begun, place.company
        assert begun is not None
        assert company is not None
        self.ended(place)
        place.company = place.row = None
        rest = begun.rest()
        if begun.tries >= TRIES and rest.jobs:
            failed = JobFailed(
                rest.jobs[0].job.subject_set.key,
                Failure.of(RuntimeError(f"its worker was lost {TRIES} times ({reason})")),
                None,
            )
            yield rest, failed
            begun.take(failed)
            begun.tries = 0
        company.appendleft(begun)
        self._waiting.insert(0, company)
