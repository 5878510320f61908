"""Units wait for the workers that may begin them, and none is lost with a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fc_bench.generation.executor import Loaded
from fc_bench.generation.plan import Job, MethodRow
from fc_bench.generation.unit_queue import TRIES, Place, UnitQueue
from fc_bench.generation.units import Pending, Unit
from fc_bench.protocols import Subject
from fc_bench.suites.suite import SubjectSet


def units(*sets: str, companies: Mapping[str, str] | None = None) -> list[Unit]:
    """A unit for each set of subjects of one row; those of a company together."""
    row = MethodRow("row", "row", {}, {})

    def job(key: str) -> Job:
        people = tuple(Subject(name, "man", ()) for name in key.split("+"))
        parts = tuple(Job(row, SubjectSet((person,)), (), 0) for person in people) if len(people) > 1 else ()
        return Job(row, SubjectSet(people), (), 0, parts)

    return [Unit(row, (Pending(job(key), frozenset({key})),), (companies or {}).get(key, key)) for key in sets]


def given(queue: UnitQueue, place: Place | None = None) -> tuple[str, Place] | None:
    """The key of the set that a free worker gets, with its place; None: nothing may begin."""
    place = place or Place()
    unit = queue.give(place)
    return None if unit is None else (unit.jobs[0].job.subject_set.key, place)


def test_units_of_one_company_go_to_one_worker_in_their_order():
    queue = UnitQueue(units("a", "b", "c", companies={"a": "men", "c": "men"}), lambda unit: unit)
    first, other = given(queue), given(queue)
    assert (first[0], other[0], given(queue)) == ("a", "b", None)
    queue.ended(first[1])
    assert given(queue, first[1])[0] == "c"


def test_a_set_waits_for_its_subjects_where_they_are_learnt_one_by_one():
    made: dict[tuple[str, str], dict[str, str]] = {}

    def current(unit: Unit) -> Unit:
        return replace(unit, customized=dict(made))

    queue = UnitQueue(units("a", "b", "a+b", "b+c"), current)
    first, second = given(queue), given(queue)
    assert given(queue) is None  # whether the method learns apart is not known yet
    queue.take(first[1], Loaded(True, {}))
    made |= {("row", "a"): {"status": "ok"}, ("row", "b"): {"status": "ok"}}
    queue.ended(first[1])
    both = given(queue)  # its subjects are there: it may go beside what still runs
    assert both[0] == "a+b"
    assert given(queue) is None  # c is not: alone
    queue.ended(second[1])
    queue.ended(both[1])
    assert given(queue)[0] == "b+c"


def test_sets_of_a_method_that_learns_together_wait_for_nothing():
    queue = UnitQueue(units("a+b", "b+c", "c+a"), lambda unit: unit)
    first = given(queue)
    assert given(queue) is None
    queue.take(first[1], Loaded(False, {}))
    assert [given(queue)[0], given(queue)[0]] == ["b+c", "c+a"]


def test_what_a_lost_worker_was_at_is_begun_again_without_what_has_arrived_and_fails_at_the_third_loss():
    queue, place = UnitQueue(units("a"), lambda unit: unit), Place()
    for _ in range(TRIES - 1):
        assert given(queue, place)[0] == "a"
        assert list(queue.lost(place, "signal SIGKILL")) == []
    assert given(queue, place)[0] == "a"
    ((_, event),) = queue.lost(place, "signal SIGKILL")
    assert "lost 3 times (signal SIGKILL)" in event.failure.message
    assert queue.give(place).jobs == ()
