"""A worker in another process, which reports everything as events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fc_bench.generation.executor import Customized, Event, Options
from fc_bench.generation.plan import MethodRow
from fc_bench.generation.units import Unit
from fc_bench.protocols import Method, Setting
from fc_bench.run_folder.records import RunFolder


class RemoteWorker:
    """Executes units without writing records or showing progress."""

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
