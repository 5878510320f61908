"""Failures by reason: counted over all samples of a run, with links to the first ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from fc_bench.analysis.measurements import Measurements
from fc_bench.reports.page.gallery import PageRun
from fc_bench.reports.samples import SampleFailure, SampleView, sample_views

FAILURES_NAMED = 12
"""Number of samples linked for one reason."""


@dataclass
class FailureGroup:
    """Samples that failed for the same reason; `what` they lack.

    `samples` are key and short text of the first ones, `rows` their places: number of the run, row in it.
    """

    what: str
    message: str
    traceback: str
    count: int = 0
    samples: list[tuple[str, str]] = field(default_factory=list)
    rows: list[tuple[int, int]] = field(default_factory=list)


def failures_of(runs: Sequence[PageRun]) -> list[FailureGroup]:
    """The reasons, the most frequent first."""
    groups: dict[bytes, FailureGroup] = {}
    for number, run in enumerate(runs):
        rows = failing_rows(run.run.measured)
        for row, view in zip(rows.tolist(), sample_views(run.run.measured, rows), strict=True):
            for what, failure in _failures(view):
                reason = hashlib.sha256(
                    "\0".join((what, failure.message, failure.traceback)).encode("utf-8", "surrogatepass")
                )
                group = groups.setdefault(reason.digest(), FailureGroup(what, failure.message, failure.traceback))
                group.count += 1
                if len(group.samples) < FAILURES_NAMED:
                    words = f"{run.names[view.method]}, {'+'.join(view.subjects)}: {view.prompt}"
                    group.samples.append((run.key(view, len(runs) == 1), words))
                    group.rows.append((number, row))
    return sorted(groups.values(), key=lambda group: -group.count)


def failing_rows(measured: Measurements) -> np.ndarray:
    """The samples that failed, or whose score by some metric failed, in the plan's order."""
    status = measured.samples["status"]
    unscored = np.zeros(len(status), dtype=bool)
    for scored in measured.scores.values():
        unscored |= scored.failed
    return np.flatnonzero((status == "error").to_numpy() | ((status == "ok").to_numpy() & unscored))


def _failures(view: SampleView) -> Iterator[tuple[str, SampleFailure]]:
    if view.failure is not None:
        yield "image", view.failure
    yield from view.score_failures.items()
