"""Progress of long work: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console

LINE_EVERY = 10.0
"""Seconds between plain progress lines."""


class Progress(Protocol):
    """Told about the work; shows it."""

    def advance(self, count: int = 1) -> None:
        """`count` more pieces are done."""
        ...

    def say(self, text: str) -> None:
        """Show a line of text."""
        ...


@contextmanager
def progress(console: Console, title: str, total: int) -> Iterator[Progress]:
    """Show `total` pieces of work on the console until the context ends."""
    if console.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        with Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        ) as bar:
            yield _BarProgress(bar, bar.add_task(title, total=total))
    else:
        yield _LineProgress(console, title, total)


class _BarProgress:
    def __init__(self, bar, task) -> None:
        self._bar, self._task = bar, task

    def advance(self, count: int = 1) -> None:
        self._bar.advance(self._task, count)

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)


class _LineProgress:
    def __init__(self, console: Console, title: str, total: int) -> None:
        self._console, self._title, self._total = console, title, total
        self._done = 0
        self._start = self._last = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last >= LINE_EVERY or self._done >= self._total:
            self._last = now
            left = (now - self._start) / self._done * (self._total - self._done)
            self.say(f"{self._title}: {self._done} of {self._total}, about {left:.0f} s left")

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
