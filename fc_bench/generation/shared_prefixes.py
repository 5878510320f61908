"""Shared text-only prefixes: with delayed conditioning, the steps without subjects are computed once.

A method that `SharesPrefixes` starts every image from the plain prompt and the seed, which subjects with the same noun
share. The state of a batch after these iterations is kept in main memory, and the next subject continues from it. Rows
with different numbers of shared iterations continue from each other's states.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from fc_bench.generation.plan import Job, MethodRow, Plan, PlannedSamples
from fc_bench.generation.units import Unit
from fc_bench.protocols import Conditions, Method, PrefixState, Request, Sampler, SharesPrefixes
from fc_bench.suites.suite import digest

SHARE_OF_MEMORY = 0.25
"""Share of the memory available at the start of a run that prefixes may use; other prefixes are recomputed."""


def shared_iterations(method: type[Method], options: BaseModel, sampler: Sampler) -> int | None:
    """How many iterations of a method use the text alone; None if the method does not say."""
    iterations = getattr(method, "text_only_iterations", None)
    return None if iterations is None else int(iterations(options, sampler))


def company_of(job: Job, shares_prefixes: bool) -> str:
    """A key that is equal for jobs that share computations: prefixes, or whole images of text-only methods."""
    samples = job.samples
    assert isinstance(samples, PlannedSamples)
    requested = [
        [prompt.template, text, *filter(None, [prompt.conditions.record()])]
        for prompt, text in zip(samples.prompts, samples.texts(), strict=True)
    ]
    inputs = [job.row.name, dict(job.row.weights)] if shares_prefixes else list(samples.image_inputs)
    return digest([inputs, requested])


@dataclass(frozen=True)
class Calls:
    """UNet calls of a row's samples, and how many of them remain with shared prefixes."""

    label: str
    whole: int
    shared: int


def planned_calls(plan: Plan, shares: Mapping[str, int], iterations: int) -> Iterator[Calls]:
    """The UNet calls of each row that shares prefixes, in the plan's order.

    `shares` maps the labels of those rows to the number of shared iterations. Rows that share with each other compute
    only what an earlier row has not computed.
    """
    return _calls(_sharing(plan, shares), shares, iterations)


def _sharing(plan: Plan, shares: Mapping[str, int]) -> dict[str, list[tuple[int, str]]]:
    """Samples and company of each job, by the labels of the rows that share prefixes, in the plan's order."""
    found: dict[str, list[tuple[int, str]]] = {}
    for job in plan.jobs:
        if job.row.label in shares:
            found.setdefault(job.row.label, []).append((len(job.samples), company_of(job, True)))
    return found


def _calls(
    sharing: Mapping[str, Sequence[tuple[int, str]]], shares: Mapping[str, int], iterations: int
) -> Iterator[Calls]:
    computed: dict[str, int] = {}
    for label, jobs in sharing.items():
        alone, whole, shared = min(shares[label], iterations), 0, 0
        for size, company in jobs:
            whole += size * iterations
            shared += size * (iterations - alone + max(0, alone - computed.get(company, 0)))
            computed[company] = max(alone, computed.get(company, 0))
        yield Calls(label, whole, shared)


def describe_calls(plan: Plan, shares: Mapping[str, int], sampler: Sampler) -> Iterator[str]:
    """A line per row: its sampling steps with and without sharing, and its UNet calls if they are more."""
    sharing = _sharing(plan, shares)
    by_steps = _calls(sharing, shares, sampler.steps)
    by_calls = _calls(sharing, shares, sampler.iterations)
    for steps, calls in zip(by_steps, by_calls, strict=True):
        extra = ""
        if sampler.iterations != sampler.steps:
            extra = f" ({sampler.scheduler} calls the UNet once more per image: {calls.shared:,} of {calls.whole:,})"
        yield f"{steps.label}: {steps.shared:,} of {steps.whole:,} sampling steps, text-only prefixes shared{extra}"


@dataclass(frozen=True)
class SharedPrefix:
    """The prefix of a batch: its state, its iterations, and how many of them were computed for another batch.

    `reused_seconds` is the time that those took, for the whole batch.
    """

    state: PrefixState
    iterations: int
    reused: int
    reused_seconds: float


@dataclass(frozen=True)
class _Kept:
    state: PrefixState
    seconds: float
    """An empty prefix, which starts at the first iteration."""


_Batch = tuple[tuple[str, int, Conditions], ...]


class PrefixStore:
    """The prefixes that a worker keeps as long as one of its later units needs them."""

    def __init__(self, most_bytes: int | None = None) -> None:
        self._most = most_bytes if most_bytes is not None else _share_of_memory()
        self._bytes = 0
        self._kept: dict[str, dict[_Batch, dict[int, _Kept]]] = {}

    def serving(self, method: Any, unit: Unit) -> UnitPrefixes | None:
        """The prefixes of a unit; None if it shares none."""
        if unit.iterations is None or not isinstance(method, SharesPrefixes):
            return None
        return UnitPrefixes(self, method, unit)

    def of(self, company: str, batch: _Batch) -> Mapping[int, _Kept]:
        """The stored states of a batch, by the number of iterations."""
        return self._kept.get(company, {}).get(batch, {})

    def keep(self, company: str, batch: _Batch, iterations: int, kept: _Kept) -> None:
        """Keep a state if there is room."""
        if self._bytes + kept.state.nbytes <= self._most:
            self._kept.setdefault(company, {}).setdefault(batch, {})[iterations] = kept
            self._bytes += kept.state.nbytes

    def drop(self, company: str) -> None:
        """Remove the prefixes of a company that is done."""
        for states in self._kept.pop(company, {}).values():
            self._bytes -= sum(kept.state.nbytes for kept in states.values())


class UnitPrefixes:
    """The prefixes of one unit's batches."""

    def __init__(self, store: PrefixStore, method: SharesPrefixes, unit: Unit) -> None:
        assert unit.iterations is not None
        self._store, self._method, self._company = store, method, unit.company
        self._iterations, self._later = unit.iterations, unit.later
        self.jobs_left = len(unit.jobs)
        """Jobs of the unit after the current one."""

    def of(self, requests: Sequence[Request]) -> SharedPrefix | None:
        """The batch's prefix, with its missing iterations computed; None if it is neither stored nor needed again."""
        batch = tuple((request.plain_prompt, request.seed, request.conditions) for request in requests)
        known = self._store.of(self._company, batch)
        if self._iterations in known:
            kept = known[self._iterations]
            return SharedPrefix(kept.state, self._iterations, self._iterations, kept.seconds)
        needed = bool(self.jobs_left or self._later)
        start = max((number for number in known if number < self._iterations), default=0)
        if not (needed or start):
            return None
        state, before = (known[start].state, known[start].seconds) if start else (None, 0.0)
        begun = time.perf_counter()
        stops = sorted({number for number in self._later if start < number < self._iterations} | {self._iterations})
        for stop in stops:
            state = self._method.prefix(requests, stop, state)
            if needed:
                self._store.keep(self._company, batch, stop, _Kept(state, before + time.perf_counter() - begun))
        assert state is not None
        return SharedPrefix(state, self._iterations, start, before)


def _share_of_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available * SHARE_OF_MEMORY)


def rows_that_share(
    methods: Mapping[str, tuple[type[Method], BaseModel, MethodRow]], sampler: Sampler
) -> dict[str, int]:
    """Row label -> number of shared iterations, of the rows that share any."""
    numbers = {label: shared_iterations(kind, options, sampler) for label, (kind, options, _) in methods.items()}
    return {label: number for label, number in numbers.items() if number}
