"""Power agrees with simulation of the sign-flip test that tables show."""

from __future__ import annotations

import numpy as np
import pytest

from fc_bench.analysis.power import detectable, deviation_interval, people_needed, power
from fc_bench.analysis.statistics import sign_flip_test


def rejected(people: int, effect: float, repetitions: int) -> float:
    """Share of samples of normal differences that the test rejects at 5 %."""
    random = np.random.default_rng(people)
    return float(np.mean([sign_flip_test(random.normal(effect, 1, people)) <= 0.05 for _ in range(repetitions)]))


@pytest.mark.parametrize(("people", "effect"), [(6, 1.6), (7, 1.2), (8, 1.0), (12, 0.9)])
def test_power_is_the_share_of_simulated_tests_that_reject(people, effect):
    assert power(effect, 1.0, people) == pytest.approx(rejected(people, effect, 2000), abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("people", "effect", "repetitions"),
    [(6, 1.0, 5000), (8, 0.6, 5000), (10, 1.0, 5000), (14, 0.8, 3000), (24, 0.6, 1500), (60, 0.37, 1000)],
)
def test_power_is_that_of_many_simulated_tests(people, effect, repetitions):
    assert power(effect, 1.0, people) == pytest.approx(rejected(people, effect, repetitions), abs=0.03)


def test_fewer_than_six_people_never_reach_five_percent():
    assert power(100.0, 1.0, 5) == 0
    assert detectable(1.0, 5, 0.8) is None
    assert people_needed(100.0, 1.0, 0.8) == 6


@pytest.mark.parametrize("people", [6, 7, 8, 20, 21, 300])
def test_detectable_difference_has_the_wanted_power_and_needs_these_people(people):
    difference = detectable(0.3, people, 0.8)
    assert power(difference, 0.3, people) == pytest.approx(0.8, abs=1e-4)
    assert people_needed(difference * 1.0001, 0.3, 0.8) == people


def test_equal_methods_are_rejected_at_the_level():
    assert power(0.0, 1.0, 40) == pytest.approx(0.05, abs=1e-3)
    assert power(0.0, 1.0, 8) == pytest.approx(12 / 256, abs=1e-3)


def test_interval_of_a_deviation_covers():
    random = np.random.default_rng(0)
    ends = [deviation_interval(random.normal(size=8).std(ddof=1), 8) for _ in range(2000)]
    assert np.mean([low <= 1 <= high for low, high in ends]) == pytest.approx(0.95, abs=0.015)
