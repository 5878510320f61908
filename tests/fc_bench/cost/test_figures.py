"""Intervals cover what they promise, and combinations of figures follow the formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fc_bench.cost.figures import Figure, difference, median, median_interval, ratio, total


def test_median_interval_is_the_textbook_s_order_statistics():
    # Ranks for 95 % (Hahn and Meeker 1991, table A.15): 6 values 1 and 6, 10 values 2 and 9, 20 values 6 and 15.
    for n, low, high in ((6, 1, 6), (10, 2, 9), (20, 6, 15), (60, 22, 39)):
        assert median_interval(list(range(1, n + 1))) == (low, high)
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert median_interval([]) is None


def test_median_interval_covers_the_median_of_a_skewed_distribution():
    drawn = np.random.default_rng(0).lognormal(size=(2000, 15))
    covered = 0
    for values in drawn:
        low, high = median_interval(list(values)) or (math.nan, math.nan)
        covered += low <= 1.0 <= high
    assert 0.95 <= covered / len(drawn) <= 0.975


def test_percentiles_are_told_when_there_are_enough_values():
    assert median([1.0] * 9).percentiles == ()
    assert [share for share, _ in median([1.0] * 60).percentiles] == [0.9, 0.95]
    assert dict(median([float(n) for n in range(300)]).percentiles)[0.99] == pytest.approx(296.01)


def test_total_adds_values_and_independent_ends_in_quadrature():
    found = total(Figure(10, 7, 14, 6), Figure(20, 16, 23, 3, True), Figure(1))
    assert (found.value, found.low, found.high) == (31, 31 - 5, 31 + 5)
    assert (found.n, found.extrapolated) == (1, True)
    assert total(Figure(1), Figure(2)).low is None
    assert total(Figure(1, 0, 2), Figure(2, extrapolated=True)) == Figure(3, extrapolated=True)


def test_difference_turns_the_second_interval_around():
    found = difference(Figure(10, 7, 14), Figure(20, 16, 23))
    assert (found.value, found.low) == (-10, pytest.approx(-10 - math.hypot(3, 3)))
    assert found.high == pytest.approx(-10 + math.hypot(4, 4))


def test_ratio_of_a_known_number_is_the_interval_divided():
    found = ratio(Figure(100, 80, 150), Figure(2))
    assert (found.value, found.low, found.high) == (pytest.approx(50), pytest.approx(40), pytest.approx(75))
    assert ratio(Figure(100), Figure(2)).low is None


def test_ratio_covers_the_quotient_of_two_means():
    drawn = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        parts = []
        for mean, spread in ((30.0, 2.0), (4.0, 0.3)):
            value = drawn.normal(mean, spread)
            parts.append(Figure(value, value - 1.96 * spread, value + 1.96 * spread))
        found = ratio(*parts)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 7.5 <= found.high
    assert 0.935 <= covered / 1000 <= 0.97
