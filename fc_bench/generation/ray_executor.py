"""The executor on a Ray cluster: each unit runs on an actor, a process that keeps the last loaded method.

Events stream back to the driver, which alone writes records. If an actor is lost, another one repeats its unit without
the results that have arrived. The run folder, the photographs and the weights need the same paths on every node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fc_bench.errors import UserError
from fc_bench.generation.executor import Event, Options
from fc_bench.generation.plan import MethodRow
from fc_bench.generation.ray_cluster import PATIENCE, Connection, reason
from fc_bench.generation.remote_worker import RemoteWorker
from fc_bench.generation.unit_queue import TRIES, Place, UnitQueue
from fc_bench.generation.units import Unit
from fc_bench.protocols import Method, Setting


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
        queue = UnitQueue(units, current)
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


class _Remote(RemoteWorker):
    """The class of an actor: a worker whose events can be iterated over remotely."""

    def begin(self) -> None:
        """Answer; a worker does so as soon as it has its resources."""


@dataclass(eq=False)
class _Actor:
    handle: Any
    answer: Any
    """An actor that has its resources and has started."""
    tries: int = 1
    """How often an actor was started in this place since one answered, including this one."""
    answered: bool = False
    place: Place = field(default_factory=Place)
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


def _streamed(queue: UnitQueue, crew: _Crew) -> Iterator[tuple[Unit, Event]]:
    """Keep every started actor busy and yield their events.

    An actor that still waits for resources gets no unit, because the others can do it.
    """
    ray, waited = crew.ray, 0.0
    while True:
        for actor in crew.actors:
            if actor.answered and actor.place.begun is None and (unit := queue.give(actor.place)) is not None:
                actor.stream = actor.handle.work.options(num_returns="streaming").remote(unit)
        busy = {actor.stream: actor for actor in crew.actors if actor.place.begun is not None}
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
            begun = actor.place.begun
            assert begun is not None
            try:
                event: Event = ray.get(next(one))
            except StopIteration:
                queue.ended(actor.place)
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                crew.replace(actor)
                yield from queue.lost(actor.place, reason(error))
                continue
            queue.take(actor.place, event)
            yield begun.unit, event
