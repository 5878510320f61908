"""The budget goes to what is still to be measured."""

from __future__ import annotations

import time

import pytest

from fc_bench.cost.budget import SHARES, Budget, Prediction, fits_in_full
from fc_bench.cost.measurement import pending
from fc_bench.cost.records import PHASES

ROWS = {"plain": {"personalizes": False}, "tuned": {"personalizes": True}}


def record(phase: str, status: str = "ok", steps: int | None = 8, asked: int | None = 8, budget: float = 60.0):
    calls = [{"steps": steps, "seconds": 1.0}]
    return {"phase": phase, "status": status, "steps_asked": asked, "budget_seconds": budget, "calls": calls}


def test_shares_of_what_is_left_follow_one_another_until_nothing_is_left():
    budget = Budget(100.0, time.monotonic() - 20.0)
    phases = list(PHASES)
    assert budget.allowance(phases) == pytest.approx(80 * SHARES["customize"] / sum(SHARES.values()), rel=1e-3)
    assert budget.allowance(["image"]) == pytest.approx(80, rel=1e-3)
    assert Budget(10.0, time.monotonic() - 20.0).allowance(phases) == 0


def test_an_image_is_drawn_in_full_when_the_others_can_still_be_drawn_short():
    own, others = Prediction(10, 90, 10), [Prediction(10, 100, 20)] * 2
    assert fits_in_full(160, own, others)
    assert not fits_in_full(159, own, others)


def test_phases_come_one_after_the_other_for_all_methods():
    assert pending(ROWS, {}, 60) == [
        ("tuned", "customize"),
        ("plain", "step"),
        ("tuned", "step"),
        ("plain", "first_image"),
        ("tuned", "first_image"),
        ("plain", "image"),
        ("tuned", "image"),
    ]


def test_what_is_measured_whole_is_not_measured_again():
    done = {(label, phase): record(phase) for label in ROWS for phase in PHASES}
    assert pending(ROWS, done, 1e6) == []


def test_what_was_extrapolated_comes_again_under_a_larger_budget_only():
    done = {(label, phase): record(phase) for label in ROWS for phase in PHASES}
    done["tuned", "customize"] = record("customize", steps=4, asked=800)
    done["plain", "image"] = record("image", status="not measured")
    done["plain", "step"] = record("step", steps=4, asked=50)
    assert pending(ROWS, done, 60) == []
    assert pending(ROWS, done, 61) == [("tuned", "customize"), ("plain", "image")]


def test_failures_come_again_when_asked():
    done = {(label, phase): record(phase) for label in ROWS for phase in PHASES}
    done["tuned", "customize"] = record("customize", status="out of memory")
    done["plain", "image"] = record("image", status="error")
    assert pending(ROWS, done, 1e6) == []
    assert pending(ROWS, done, 60, retry_errors=True) == [("tuned", "customize"), ("plain", "image")]
