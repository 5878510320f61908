"""A few steps tell what many take, where the parts are known."""

from __future__ import annotations

import numpy as np
import pytest

from fc_bench.cost.extrapolation import extrapolated, seconds_per_step
from fc_bench.cost.figures import Figure


def test_fixed_and_per_step_seconds_are_told_apart():
    fixed, each = 7.0, 0.25
    step = seconds_per_step([[each] * 3])
    found = extrapolated(fixed + 4 * each, 4, 800, step)
    assert found is not None
    assert found.value == pytest.approx(fixed + 800 * each)
    assert found.extrapolated
    assert found.low == pytest.approx(found.value)


def test_a_cold_first_step_is_paid_once():
    step = seconds_per_step([[0.5, 0.5]])
    found = extrapolated(1.0 + 9.0 + 2 * 0.5, 3, 100, step)
    assert found is not None
    assert found.value == pytest.approx(1.0 + 9.0 + 99 * 0.5)


def test_steps_that_do_more_now_and_then_count_in_whole_periods():
    # Of four steps the first encodes: 3 s instead of 1 s. Steps 2 to 9 are seen.
    seen = [1, 1, 1, 3, 1, 1, 1, 3]
    step = seconds_per_step([seen], period=4)
    assert step is not None
    assert (step.value, step.n) == (1.5, 2)
    assert seconds_per_step([seen[:6]], period=4) == Figure(1.5, n=1)
    assert seconds_per_step([seen[:3]], period=4) is None


def test_interval_covers_the_total_of_noisy_steps():
    drawn = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        steps = drawn.gamma(20, 0.05, size=12)  # mean 1
        found = extrapolated(2.0 + 1.0 + steps.sum(), 13, 500, seconds_per_step([list(steps)]))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 2.0 + 500 <= found.high
    assert 0.92 <= covered / 300 <= 1.0


def test_a_call_measured_whole_is_itself_and_varies_as_its_steps_do():
    whole = extrapolated(10.0, 5, 5, Figure(2.0, 1.9, 2.2, 4))
    assert whole == Figure(10.0, pytest.approx(9.5), pytest.approx(11.0), 4)
    assert extrapolated(10.0, 5, 5, None) == Figure(10.0)


def test_without_steps_nothing_is_made_up():
    assert extrapolated(10.0, 4, 5, None) is None
    assert seconds_per_step([[]]) is None
    assert seconds_per_step([]) is None
