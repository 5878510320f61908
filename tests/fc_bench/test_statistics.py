"""The interval covers the truth at its nominal rate when images of one subject are correlated."""

from __future__ import annotations

import numpy as np
import pytest

from fc_bench.statistics import cluster_bootstrap


def test_nothing_gives_nothing_and_one_cluster_no_interval():
    assert cluster_bootstrap({}).mean is None
    assert cluster_bootstrap({"a": []}).clusters == 0
    alone = cluster_bootstrap({"a": [1.0, 3.0], "b": []})
    assert (alone.mean, alone.low, alone.high, alone.clusters) == (2.0, None, None, 1)


def test_each_cluster_counts_once_however_many_values_it_has():
    assert cluster_bootstrap({"a": [0.0] * 100, "b": [1.0]}).mean == 0.5


def test_interval_is_reproducible_and_does_not_depend_on_the_order_of_clusters():
    values = {name: [float(number), number + 0.5] for number, name in enumerate("abcdef")}
    assert cluster_bootstrap(values) == cluster_bootstrap(dict(reversed(values.items())))


def test_interval_covers_a_known_truth_where_the_naive_one_does_not():
    random = np.random.default_rng(0)
    trials, subjects, images = 300, 30, 10
    covered = naive = 0
    for _ in range(trials):
        own = random.normal(size=subjects)
        data = own[:, None] + 0.3 * random.normal(size=(subjects, images))
        estimate = cluster_bootstrap({str(number): list(row) for number, row in enumerate(data)}, resamples=1000)
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 0 <= estimate.high
        error = data.std() / np.sqrt(data.size)
        naive += abs(data.mean()) <= 1.96 * error
    assert 0.90 <= covered / trials <= 0.98
    assert naive / trials < 0.7


def test_interval_has_the_width_of_the_normal_theory():
    values = {str(number): [value] for number, value in enumerate(np.random.default_rng(1).normal(size=400))}
    estimate = cluster_bootstrap(values)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 / 20, rel=0.1)


@pytest.mark.parametrize("clusters", [3, 8, 16])
def test_interval_of_few_clusters_covers_the_truth_at_its_nominal_rate(clusters):
    random = np.random.default_rng(clusters)
    trials, covered = 1000, 0
    for _ in range(trials):
        data = {str(number): [value] for number, value in enumerate(random.normal(size=clusters))}
        estimate = cluster_bootstrap(data, resamples=1000)
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 0 <= estimate.high
    # The standard error of the rate is 0.007; without the expansion it is 0.90 at 8 clusters and 0.7 at 3.
    assert 0.925 <= covered / trials <= 0.975


def test_two_clusters_have_no_interval():
    two = cluster_bootstrap({"a": [1.0], "b": [2.0]})
    assert (two.mean, two.low, two.high) == (1.5, None, None)


def test_clusters_that_are_one_observation_count_as_one_for_the_interval_only():
    values = {name: [float(number)] for number, name in enumerate("abcdef")}
    free = cluster_bootstrap(values)
    halves = cluster_bootstrap(values, {name: "first" if name in "abc" else "second" for name in values})
    assert (halves.mean, halves.low, halves.clusters) == (free.mean, None, 6)
    pairs = cluster_bootstrap(values, dict(zip("abcdef", "aaccee", strict=True)))
    assert pairs.mean == free.mean
    assert pairs.low is not None
    assert free.low is not None
    assert pairs.low < free.low
