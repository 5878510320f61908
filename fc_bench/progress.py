"""Progress of long work: a bar with the remaining time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape

LINE_EVERY = 10.0
"""Seconds between plain progress lines, and before a long step gets a line."""


class Progress(Protocol):
    """Displays the progress of some work."""

    def advance(self, count: int = 1) -> None:
        """`count` more pieces are done."""
        ...

    def say(self, text: str) -> None:
        """Show a line of text."""
        ...

    def during(self, text: str) -> AbstractContextManager[None]:
        """Show the current step until the context ends: next to the bar, or as a line if it takes long."""
        ...


@contextmanager
def progress(console: Console, title: str, total: int) -> Iterator[Progress]:
    """Show the progress of `total` pieces of work on the console until the context ends."""
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
            yield _BarProgress(bar, bar.add_task(title, total=total), title)
    else:
        yield _LineProgress(console, title, total)


def silence_loading_bars() -> None:
    """Turn off the libraries' bars for loading weights, which would break ours."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


class Uncounted:
    """The progress of work within other work: its lines and steps are shown, its pieces are not counted."""

    def __init__(self, show: Progress) -> None:
        self.say, self.during = show.say, show.during

    def advance(self, count: int = 1) -> None:
        """Nothing."""


class _BarProgress:
    def __init__(self, bar, task, title: str) -> None:
        self._bar, self._task, self._title = bar, task, title

    def advance(self, count: int = 1) -> None:
        self._bar.advance(self._task, count)

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)

    @contextmanager
    def during(self, text: str) -> Iterator[None]:
        self._bar.update(self._task, description=escape(text))
        try:
            yield
        finally:
            self._bar.update(self._task, description=self._title)


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

    @contextmanager
    def during(self, text: str) -> Iterator[None]:
        late = threading.Timer(LINE_EVERY, self.say, [text])
        late.daemon = True
        late.start()
        try:
            yield
        finally:
            late.cancel()
