"""The executor on a Ray cluster: each unit runs on an actor, a process that keeps the last loaded method.

Events stream back to the driver, which alone writes records. If an actor is lost, another one repeats its unit without
the results that have arrived. The run folder, the photographs and the weights need the same paths on every node.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fc_bench.errors import Failure, UserError
from fc_bench.generation.executor import Customized, Event, JobFailed, Loaded, Made, Options, Same
from fc_bench.generation.plan import MethodRow
from fc_bench.generation.ray_cluster import PATIENCE, Connection, reason
from fc_bench.generation.units import Unit
from fc_bench.protocols import Method, Setting
from fc_bench.run_folder.records import RunFolder

TRIES = 3
"""How often a unit is tried before it fails; a job that kills every worker must not be repeated forever."""


class RayExecutor:
    """Executes units on a Ray cluster.

    Units of one company go to one worker, in their order. `make_method` loads the method of a row; it is sent to the
    workers together with the setting and the options.
    """

    def __init__(
        self,
        connection: Connection,
        folder: Path,
        setting: Setting,
        make_method: Callable[[MethodRow], Method],
        options: Options,
    ) -> None:
        self._connection = connection
        self._arguments = str(folder.resolve()), setting, make_method, options

    def workers(self) -> int:
        """The requested number of workers, or as many as the cluster has room for."""
        return self._connection.cluster.workers or self._connection.room()

    def events(self, units: Iterable[Unit], current: Callable[[Unit], Unit]) -> Iterator[tuple[Unit, Event]]:
        """The events of the units from all workers, as they arrive; leaves the cluster afterwards."""
        queue = _Queue(units, current)
        if not len(queue):
            self._connection.close()
            return
        self._connection.check()
        crew = _Crew(self._connection, self._arguments, min(len(queue), self.workers()))
        try:
            yield from _streamed(queue, crew)
        finally:
            crew.dismiss()
            self._connection.close()


class _Remote:
    """The class of an actor: a worker whose events can be iterated over remotely."""

    def __init__(
        self, folder: str, setting: Setting, make_method: Callable[[MethodRow], Method], options: Options
    ) -> None:
        from fc_bench.generation.worker import Worker
        from fc_bench.progress import silence_loading_bars
        from fc_bench.quiet_libraries import quiet_libraries

        quiet_libraries()
        silence_loading_bars()
        self._lines: deque[Event] = deque()
        self._worker = Worker(RunFolder(Path(folder)), setting, make_method, options, _Silence(), self._record)

    def begin(self) -> None:
        """Answer; a worker does so as soon as it has its resources."""

    def work(self, unit: Unit) -> Iterator[Event]:
        """The events of a unit; a customization comes before the samples that depend on it."""
        for event in self._worker.work(unit):
            while self._lines:
                yield self._lines.popleft()
            yield event

    def _record(self, line: Mapping[str, Any]) -> None:
        self._lines.append(Customized(line))


class _Silence:
    """Progress that is not shown."""

    def advance(self, count: int = 1) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def during(self, text: str) -> nullcontext[None]:
        return nullcontext()


@dataclass
class _Begun:
    """A unit that was assigned, and how often it was tried since its last result."""

    unit: Unit
    tries: int = 0
    done: set[str] = field(default_factory=set)
    """Samples that have arrived."""
    failed: set[str] = field(default_factory=set)
    """Jobs that failed as a whole."""

    def take(self, event: Event) -> None:
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


class _Queue:
    """The waiting units, by company, and which of them may start.

    Methods that customize subjects one by one share those artefacts between sets: until a set's subjects are
    customized, its unit must be the only one of its row. Whether a method does so is known after it was loaded.
    """

    def __init__(self, units: Iterable[Unit], current: Callable[[Unit], Unit]) -> None:
        companies: dict[str, deque[_Begun]] = {}
        for unit in units:
            companies.setdefault(unit.company, deque()).append(_Begun(unit))
        self._waiting, self._current = list(companies.values()), current
        self._apart: dict[str, bool] = {}
        self._running: list[tuple[_Begun, bool]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def next(self, row: MethodRow | None, company: deque[_Begun] | None) -> tuple[_Begun, deque[_Begun]] | None:
        """The next unit for a worker with the loaded `row`: the rest of its company, else one without loading."""
        if company:
            return self._begin(company)
        loaded = [waiting for waiting in self._waiting if row and waiting[0].unit.row.label == row.label]
        for waiting in loaded or list(self._waiting):
            begun = self._begin(waiting)
            if begun is not None:
                self._waiting.remove(waiting)
                return begun
        return None

    def _begin(self, company: deque[_Begun]) -> tuple[_Begun, deque[_Begun]] | None:
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

    def loaded(self, unit: Unit, apart: bool) -> None:
        """Record whether a row's method customizes subjects one by one."""
        self._apart[unit.row.label] = apart
        if not apart:
            self._running = [
                (begun, alone and begun.unit.row.label != unit.row.label) for begun, alone in self._running
            ]

    def ended(self, begun: _Begun) -> None:
        """A unit is done, or its worker is lost."""
        self._running = [running for running in self._running if running[0] is not begun]

    def again(self, begun: _Begun, company: deque[_Begun]) -> None:
        """A unit must be done by another worker, together with its company."""
        company.appendleft(begun)
        self._waiting.insert(0, company)


@dataclass(eq=False)
class _Actor:
    handle: Any
    answer: Any
    """An actor that has its resources and has started."""
    tries: int = 1
    """How often an actor was started in this place since one answered, including this one."""
    answered: bool = False
    row: MethodRow | None = None
    company: deque[_Begun] | None = None
    begun: _Begun | None = None
    stream: Any = None


class _Crew:
    """The actors: as many as there is work for; some wait until the cluster has room."""

    def __init__(self, connection: Connection, arguments: tuple[Any, ...], count: int) -> None:
        self.connection, self.ray = connection, connection.ray
        self._arguments = arguments
        self._kind = self.ray.remote(_Remote)
        self.actors = [self._hire() for _ in range(count)]

    def _hire(self, tries: int = 1) -> _Actor:
        handle = self._kind.options(**self.connection.cluster.requested).remote(*self._arguments)
        return _Actor(handle, handle.begin.remote(), tries)

    def answer(self, actor: _Actor) -> None:
        """An actor has started or failed; a failed one is replaced at most `TRIES` times.

        Raises UserError if no actor is left.
        """
        try:
            self.ray.get(actor.answer)
        except self.ray.exceptions.RayError as error:
            if actor.tries < TRIES:
                self.replace(actor, actor.tries + 1)
                return
            self.actors.remove(actor)
            if not self.actors:
                raise UserError(
                    f"No worker on the Ray cluster could begin ({reason(error)}); install the same versions on all "
                    "nodes, then repeat the command: nothing finished is lost."
                ) from None
        else:
            actor.answered = True

    def replace(self, lost: _Actor, tries: int = 1) -> None:
        """Start another actor in place of a lost one."""
        with suppress(Exception):
            self.ray.kill(lost.handle)
        self.actors[self.actors.index(lost)] = self._hire(tries)

    def dismiss(self) -> None:
        """Stop all actors."""
        for actor in self.actors:
            with suppress(Exception):
                self.ray.kill(actor.handle)


def _streamed(queue: _Queue, crew: _Crew) -> Iterator[tuple[Unit, Event]]:
    """Keep every started actor busy and yield their events.

    An actor that still waits for resources gets no unit, because the others can do it.
    """
    ray, waited = crew.ray, 0.0
    while True:
        for actor in crew.actors:
            if actor.answered and actor.begun is None:
                _give(queue, actor)
        busy = {actor.stream: actor for actor in crew.actors if actor.begun is not None}
        if not busy and not len(queue):
            return
        starting = {actor.answer: actor for actor in crew.actors if not actor.answered}
        ready, _ = ray.wait([*busy, *starting], num_returns=1, timeout=None if busy else PATIENCE)
        waited = 0.0 if ready else waited + PATIENCE
        if waited:
            crew.connection.check_waiting(waited)
        for one in ready:
            if one in starting:
                crew.answer(starting[one])
                continue
            actor = busy[one]
            begun = actor.begun
            assert begun is not None
            try:
                event: Event = ray.get(next(one))
            except StopIteration:
                queue.ended(begun)
                actor.begun = None
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                yield from _lost(queue, crew, actor, error)
                continue
            begun.take(event)
            if isinstance(event, Loaded):
                queue.loaded(begun.unit, event.apart)
            yield begun.unit, event


def _give(queue: _Queue, actor: _Actor) -> None:
    """Assign a unit to an actor if one may start."""
    found = queue.next(actor.row, actor.company)
    if found is None:
        return
    begun, company = found
    actor.begun, actor.company, actor.row = begun, company, begun.unit.row
    actor.stream = actor.handle.work.options(num_returns="streaming").remote(begun.unit)


def _lost(queue: _Queue, crew: _Crew, actor: _Actor, error: Exception) -> Iterator[tuple[Unit, Event]]:
    """A worker is lost: another one does the rest; a job that loses workers repeatedly fails."""
    begun, company = actor.begun, actor.company
    assert begun is not None
    assert company is not None
    queue.ended(begun)
    crew.replace(actor)
    rest = begun.rest()
    if begun.tries >= TRIES and rest.jobs:
        failed = JobFailed(
            rest.jobs[0].job.subject_set.key,
            Failure.of(RuntimeError(f"its worker was lost {TRIES} times ({reason(error)})")),
            None,
        )
        yield rest, failed
        begun.take(failed)
        begun.tries = 0
    queue.again(begun, company)
