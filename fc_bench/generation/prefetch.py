"""Computes the next items in a thread while the current ones are processed."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from queue import Full, Queue
from typing import TypeVar

Item = TypeVar("Item")

MOST = 64
"""Largest number of waiting items: images of a few batches."""
LOOK_EVERY = 0.2
"""Seconds between two checks whether the consumer still exists."""
LONGEST = 60.0
"""Seconds to wait for a thread whose consumer is gone."""


@dataclass(frozen=True)
class _Ended:
    error: BaseException | None = None


def ahead(items: Iterator[Item], most: int = MOST) -> Generator[Item, None, None]:
    """The items in their order, computed ahead by a thread.

    An exception of the thread is raised here, after the items before it. If this iteration ends early, the thread is
    stopped: a thread that still computes while the interpreter exits would crash the process.
    """
    waiting: Queue[Item | _Ended] = Queue(most)
    left = threading.Event()

    def put(item: Item | _Ended) -> bool:
        while not left.is_set():
            try:
                waiting.put(item, timeout=LOOK_EVERY)
            except Full:
                continue
            return True
        return False

    def compute() -> None:
        ended = _Ended()
        try:
            for item in items:
                if not put(item):
                    break
        except BaseException as error:  # whatever it is, it is raised where the items are used
            ended = _Ended(error)
        if isinstance(items, Generator):
            items.close()
        put(ended)

    thread = threading.Thread(target=compute, daemon=True, name="ahead")
    thread.start()
    last: _Ended | None = None
    try:
        while not isinstance(item := waiting.get(), _Ended):
            yield item
        last = item
    finally:
        if last is None:
            left.set()
            _interrupt(thread)
    assert last is not None
    if last.error is not None:
        raise last.error


class _LeftError(BaseException):
    """The consumer is gone; not an Exception, so that nothing handles it as a failure."""


def _interrupt(thread: threading.Thread) -> None:
    """Raise an exception in the thread at its next line of Python, and wait for its end for a limited time."""
    if thread.is_alive() and thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_LeftError))
        thread.join(LONGEST)
