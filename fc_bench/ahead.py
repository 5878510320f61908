"""Computing what comes next while what came before is dealt with."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from queue import Full, Queue
from typing import TypeVar

Item = TypeVar("Item")

MOST = 64
"""Items that wait at most: images of a few batches."""
LOOK_EVERY = 0.2
"""Seconds between two looks whether anybody still wants what waits."""


@dataclass(frozen=True)
class _Ended:
    error: BaseException | None = None


def ahead(items: Iterator[Item], most: int = MOST) -> Generator[Item, None, None]:
    """The items, in their order, computed by a thread that goes on meanwhile, at most so many further.

    What it raises is raised here, after the items before it. When this iteration is left early, so is that one, as soon
    as it has its next item; nobody waits for it.
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
                    return
        except BaseException as error:  # whatever it is, it is raised where the items are used
            ended = _Ended(error)
        put(ended)

    threading.Thread(target=compute, daemon=True, name="ahead").start()
    try:
        while not isinstance(item := waiting.get(), _Ended):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        left.set()
