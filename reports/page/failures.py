"""What failed, by reason, for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fc_bench.reports.page.gallery import PageRun

NAMED = 12
"""Samples linked for one reason."""


@dataclass(frozen=True)
class FailureGroup:
    """Samples that failed for the same reason; `what` is missing of them."""

    what: str
    message: str
    traceback: str
    count: int
    samples: tuple[tuple[str, str], ...]
    """Key and a few words of the first of them."""


def failures(runs: Sequence[PageRun]) -> list[FailureGroup]:
    """What failed, by reason, the most frequent first."""
    groups: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for run in runs:
        for view in run.views:
            words = f"{run.names[view.method]}, {'+'.join(view.subjects)}: {view.prompt}"
            failures = {"image": view.failure, **view.score_failures}
            for what, failure in failures.items():
                if failure is not None:
                    group = groups.setdefault((what, failure.message, failure.traceback), [])
                    group.append((run.key(view, len(runs) == 1), words))
    found = [
        FailureGroup(what, message, traceback, len(samples), tuple(samples[:NAMED]))
        for (what, message, traceback), samples in groups.items()
    ]
    return sorted(found, key=lambda group: -group.count)
