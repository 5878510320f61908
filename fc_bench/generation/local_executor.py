"""The executor that is several processes of this machine: one for each accelerator, or for each core of a small model.

A small UNet keeps one core busy and no more: two processes of one thread do about 1.5 times the work of one process of
two threads. Processes share the run folder and nothing else; their events come back through pipes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from fc_bench.generation.executor import Event, Options, UnitDone
from fc_bench.generation.plan import MethodRow
from fc_bench.generation.unit_queue import Place, UnitQueue
from fc_bench.generation.units import Unit
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.model.backbones.fingerprint import WEIGHT_SUFFIXES, files_of
from fc_bench.protocols import Method, Setting

SMALL = 256 << 20
"""Bytes of a pipeline's weights up to which one core does a model justice."""
MEMORY = 1 << 30
"""Bytes that a process takes beside its models: the interpreter and the libraries."""
SAMPLES = 12
"""For fewer samples a process does not pay for its start of some seconds."""
PATIENCE = 5.0
"""Seconds that a process has to end by itself."""


def worker_count(setting: Setting, wanted: int | None, samples: int) -> int:
    """How many processes generate `samples` images: `wanted`, or as many as make it faster here.

    One for each accelerator where none is named, one for each core where the pipeline is small (`SMALL`) and memory
    allows, otherwise one.
    """
    useful = wanted or min(_places(setting), max(1, samples // SAMPLES))
    return max(1, min(useful, samples))


def _places(setting: Setting) -> int:
    import psutil
    import torch

    if setting.device == "cuda":
        return torch.cuda.device_count()
    weights = _weight_bytes(setting.backbone)
    if setting.device != "cpu" or weights > SMALL:
        return 1
    return min(torch.get_num_threads(), psutil.virtual_memory().available // (MEMORY + 4 * weights))


def _weight_bytes(backbone: Backbone) -> int:
    return sum(file.stat().st_size for file in files_of(backbone.path("pipeline")) if file.suffix in WEIGHT_SUFFIXES)


class LocalExecutor:
    """Does units in `count` processes of this machine; `make_method` loads the method of a row in each.

    An accelerator belongs to one process. Processes on a CPU divide the threads of torch. What a process was at when it
    was lost another one does again, without what has arrived.
    """

    def __init__(
        self,
        folder: Path,
        setting: Setting,
        make_method: Callable[[MethodRow], Method],
        options: Options,
        count: int,
    ) -> None:
        self._arguments = str(folder.resolve()), setting, make_method, options
        self._count, self._accelerators = count, _accelerators(setting.device)

    def workers(self) -> int:
        """Number of processes."""
        return self._count

    def events(self, units: Iterable[Unit], current: Callable[[Unit], Unit]) -> Iterator[tuple[Unit, Event]]:
        """What comes of the units, from all processes as it comes; none is left after that."""
        queue = UnitQueue(units, current)
        crew = [self._hire(number) for number in range(min(len(queue), self._count))]
        try:
            while True:
                for process in crew:
                    if process.place.begun is None and (unit := queue.give(process.place)) is not None:
                        process.begin(unit)
                busy: dict[Any, _Process] = {one.connection: one for one in crew if one.place.begun is not None}
                if not busy:
                    return
                for connection in wait(list(busy)):
                    process = busy[connection]
                    begun = process.place.begun
                    assert begun is not None
                    event = process.receive()
                    if event is None:
                        how = process.end()
                        yield from queue.lost(process.place, how)
                        crew[crew.index(process)] = self._hire(process.number)
                        continue
                    queue.take(process.place, event)
                    if isinstance(event, UnitDone):
                        queue.ended(process.place)
                    yield begun.unit, event
        finally:
            for process in crew:
                process.end()

    def _hire(self, number: int) -> _Process:
        import torch

        accelerator = self._accelerators[number % len(self._accelerators)] if self._accelerators else None
        threads = max(1, torch.get_num_threads() // self._count)
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_serve, args=(theirs, threads, accelerator, *self._arguments), daemon=True)
        process.start()
        theirs.close()
        return _Process(number, process, ours)


_SPAWN = multiprocessing.get_context("spawn")
"""A fork would share locks with the threads that onnxruntime and torch have begun here."""


@dataclass(frozen=True)
class _Raised:
    """What ends the whole run."""

    error: BaseException


@dataclass(eq=False)
class _Process:
    number: int
    process: Any
    connection: Connection
    place: Place = field(default_factory=Place)

    def begin(self, unit: Unit) -> None:
        """Give the process a unit; that it is gone shows when its answer is read."""
        with suppress(BrokenPipeError):
            self.connection.send(unit)

    def receive(self) -> Event | None:
        """The next event; None: the process is gone. Raises what ends the run."""
        try:
            event = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return None
        if isinstance(event, _Raised):
            raise event.error
        return event

    def end(self) -> str:
        """End the process; how it ended, in words."""
        self.connection.close()
        self.process.join(0.1 if self.place.begun is not None else PATIENCE)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _accelerators(device: str) -> list[str]:
    """What CUDA_VISIBLE_DEVICES names for each process; empty where processes get the device as it is."""
    if device != "cuda":
        return []
    import torch

    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible or [str(number) for number in range(torch.cuda.device_count())]


def _serve(
    connection: Connection,
    threads: int,
    accelerator: str | None,
    folder: str,
    setting: Setting,
    make_method: Callable[[MethodRow], Method],
    options: Options,
) -> None:
    """What a process does: units as they come, until the pipe is closed. Ctrl-C is its parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if accelerator is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = accelerator
    import torch

    from fc_bench.generation.remote_worker import RemoteWorker

    torch.set_num_threads(threads)
    worker: RemoteWorker | None = None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            unit: Unit = connection.recv()
            try:
                worker = worker or RemoteWorker(folder, setting, make_method, options)
                for event in worker.work(unit):
                    connection.send(event)
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:
                connection.send(_Raised(error))
