"""The executor that is a Ray cluster: units on actors, each a process that holds the method it loaded last.

Events stream back to the driver, which alone writes records. A lost actor's unit is done again by another one, without
what has arrived. Run folder, photographs and weights have to lie at the same place on every node.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fc_bench.errors import Failure, UserError
from fc_bench.executing import Customized, Event, JobFailed, Loaded, Made, Options, Same, Unit
from fc_bench.plan import MethodRow
from fc_bench.protocols import Method, Setting
from fc_bench.records import RunFolder

TRIES = 3
"""How often a unit is begun until what it lacks is given up: a job that kills every worker must not go on forever."""
PASSED_ON = (
    "FC_BENCH_CACHE",
    "HF_HOME",
    "HF_HUB_DISABLE_TELEMETRY",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "DIFFUSERS_OFFLINE",
    "OMP_NUM_THREADS",
)
"""Environment variables that workers get from the driver, where it has them."""


@dataclass(frozen=True)
class Cluster:
    """Which cluster, and what a worker takes of it.

    `address` as `ray.init` takes it (None: `RAY_ADDRESS`, or a cluster of this machine for this command); `workers` at
    most (None: as many as the cluster has room for when the run begins).
    """

    address: str | None = None
    gpus_per_job: float = 0.0
    cpus_per_job: float = 1.0
    workers: int | None = None


class RayExecutor:
    """Does units on a Ray cluster.

    Units of one company go to one worker, in their order. `make_method` loads the method of a row; it, the setting and
    the options travel to the workers.
    """

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        setting: Setting,
        make_method: Callable[[MethodRow], Method],
        options: Options,
    ) -> None:
        self._ray = _imported()
        self._cluster = cluster
        self._arguments = str(folder.resolve()), setting, make_method, options
        self._started = False

    def workers(self) -> int:
        """As many as were asked for, or as the cluster has room for."""
        if self._cluster.workers is not None:
            return self._cluster.workers
        self._connect()
        return _room(self._ray, self._cluster)

    def events(self, units: Iterable[Unit], current: Callable[[Unit], Unit]) -> Iterator[tuple[Unit, Event]]:
        """What comes of the units, from all workers as it comes."""
        queue = _Queue(units, current)
        if not len(queue):
            self.close()
            return
        self._connect()
        crew = _Crew(self._ray, self._cluster, self._arguments, min(len(queue), self.workers()))
        try:
            yield from _streamed(self._ray, queue, crew)
        finally:
            crew.dismiss()
            self.close()

    def close(self) -> None:
        """Leave the cluster, if this executor joined it."""
        if self._started:
            self._ray.shutdown()
            self._started = False

    def _connect(self) -> None:
        ray = self._ray
        if ray.is_initialized():
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        address = self._cluster.address or os.environ.get("RAY_ADDRESS") or "local"  # not one that happens to run here
        if address != "local":
            quiet["runtime_env"] = {"env_vars": environment}
        else:
            quiet["include_dashboard"] = False
        ours = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, OSError, ValueError, RuntimeError) as error:
            where = "a Ray cluster here" if address == "local" else f"the Ray cluster {address}"
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"Connecting to {where} failed ({reason}); correct --address, or start it.") from None
        finally:
            if threading.current_thread() is threading.main_thread() and callable(ours):
                signal.signal(signal.SIGTERM, ours)  # Ray takes it, and would abort
        self._started = True


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f'The executor "ray" needs the package ray ({error}); install it: pip install "fc-bench[ray]".'
        ) from None
    return ray


class _Remote:
    """What an actor is: a worker whose events can be iterated over from elsewhere."""

    def __init__(
        self, folder: str, setting: Setting, make_method: Callable[[MethodRow], Method], options: Options
    ) -> None:
        from fc_bench.cli.app import quiet_libraries
        from fc_bench.progress import silence_loading_bars
        from fc_bench.working import Worker

        quiet_libraries()
        silence_loading_bars()
        self._lines: deque[Event] = deque()
        self._worker = Worker(RunFolder(Path(folder)), setting, make_method, options, _Silence(), self._record)

    def work(self, unit: Unit) -> Iterator[Event]:
        """The events of a unit; customizations come before what rests on them."""
        for event in self._worker.work(unit):
            while self._lines:
                yield self._lines.popleft()
            yield event

    def _record(self, line: Mapping[str, Any]) -> None:
        self._lines.append(Customized(line))


class _Silence:
    """Progress that nobody watches."""

    def advance(self, count: int = 1) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def during(self, text: str) -> nullcontext[None]:
        return nullcontext()


@dataclass
class _Begun:
    """A unit as it was given out, and how often it has been since anything of it arrived."""

    unit: Unit
    tries: int = 0
    done: set[str] = field(default_factory=set)
    """Samples that have arrived."""
    failed: set[str] = field(default_factory=set)
    """Jobs that have failed as a whole."""

    def take(self, event: Event) -> None:
        if isinstance(event, (Made, Same)):
            self.done.add(event.sample.id)
            self.tries = 1
        elif isinstance(event, JobFailed):
            self.failed.add(event.job)

    def rest(self) -> Unit:
        """The unit without what has arrived."""
        left = [
            replace(pending, wanted=pending.wanted - self.done)
            for pending in self.unit.jobs
            if pending.job.subject_set.key not in self.failed
        ]
        return replace(self.unit, jobs=tuple(pending for pending in left if pending.wanted))


class _Queue:
    """Units waiting, in companies; which one may begin now.

    Methods that customize subjects one by one share those artefacts between sets: what customizes a set of several has
    to be alone with its row until its subjects are there. Whether a method does so is known once it was loaded.
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
        """What a worker that has `row` loaded begins: the rest of its company first, then what needs no loading."""
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
        """Learn whether a row's method customizes one by one."""
        self._apart[unit.row.label] = apart
        if not apart:
            self._running = [
                (begun, alone and begun.unit.row.label != unit.row.label) for begun, alone in self._running
            ]

    def ended(self, begun: _Begun) -> None:
        """A unit is through, or its worker lost."""
        self._running = [running for running in self._running if running[0] is not begun]

    def again(self, begun: _Begun, company: deque[_Begun]) -> None:
        """A unit has to be done by another worker, the company with it."""
        company.appendleft(begun)
        self._waiting.insert(0, company)


@dataclass(eq=False)
class _Actor:
    handle: Any
    row: MethodRow | None = None
    company: deque[_Begun] | None = None
    begun: _Begun | None = None
    stream: Any = None


class _Crew:
    """The actors: as many as the cluster has room for and there is work for."""

    def __init__(self, ray: Any, cluster: Cluster, arguments: tuple[Any, ...], count: int) -> None:
        self._ray, self._cluster = ray, cluster
        self._arguments = arguments
        self._kind = ray.remote(_Remote)
        self.actors = [self.hire() for _ in range(count)]

    def hire(self) -> _Actor:
        """A new actor."""
        asked = {"num_cpus": self._cluster.cpus_per_job, "num_gpus": self._cluster.gpus_per_job}
        return _Actor(self._kind.options(**asked).remote(*self._arguments))

    def replace(self, lost: _Actor) -> None:
        """Another actor in the place of a lost one."""
        with suppress(Exception):
            self._ray.kill(lost.handle)
        self.actors[self.actors.index(lost)] = self.hire()

    def dismiss(self) -> None:
        """End all actors."""
        for actor in self.actors:
            with suppress(Exception):
                self._ray.kill(actor.handle)


def _room(ray: Any, cluster: Cluster) -> int:
    """How many workers fit into the cluster; raises UserError when none does."""
    there = ray.cluster_resources()
    rooms = [
        int(there.get(name, 0) // each)
        for name, each in (("CPU", cluster.cpus_per_job), ("GPU", cluster.gpus_per_job))
        if each
    ]
    room = min(rooms, default=1)
    if room < 1:
        raise UserError(
            f"The Ray cluster has {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs, not enough for one "
            f"job with {cluster.cpus_per_job:g} and {cluster.gpus_per_job:g}; ask for less with --gpus-per-job, or "
            "name --workers if the cluster grows."
        )
    return room


def _streamed(ray: Any, queue: _Queue, crew: _Crew) -> Iterator[tuple[Unit, Event]]:
    """Keep every actor busy; tell what they tell."""
    while True:
        for actor in crew.actors:
            if actor.begun is None:
                _give(queue, actor)
        busy = {actor.stream: actor for actor in crew.actors if actor.begun is not None}
        if not busy:
            return
        ready, _ = ray.wait(list(busy), num_returns=1)
        for stream in ready:
            actor = busy[stream]
            begun = actor.begun
            assert begun is not None
            try:
                event: Event = ray.get(next(stream))
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
    """Give an actor something to do, if there is anything it may begin."""
    found = queue.next(actor.row, actor.company)
    if found is None:
        return
    begun, company = found
    actor.begun, actor.company, actor.row = begun, company, begun.unit.row
    actor.stream = actor.handle.work.options(num_returns="streaming").remote(begun.unit)


def _lost(queue: _Queue, crew: _Crew, actor: _Actor, error: Exception) -> Iterator[tuple[Unit, Event]]:
    """A worker is gone: another one does what is left; a job at which workers go again and again fails."""
    begun, company = actor.begun, actor.company
    assert begun is not None
    assert company is not None
    queue.ended(begun)
    crew.replace(actor)
    rest = begun.rest()
    if begun.tries >= TRIES and rest.jobs:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        failed = JobFailed(
            rest.jobs[0].job.subject_set.key,
            Failure.of(RuntimeError(f"the worker doing it was lost {TRIES} times ({reason})")),
            None,
        )
        yield rest, failed
        begun.take(failed)
        begun.tries = 0
    queue.again(begun, company)
