"""Intervals cover the truth at their nominal rate when measurements are correlated; tests keep their level."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fc_bench.analysis.statistics import cluster_bootstrap, holm, paired_differences, sign_flip_test, units_of


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


@pytest.mark.parametrize("block", [1, 7, 5000])
def test_draws_do_not_depend_on_how_many_are_drawn_at_a_time(monkeypatch, block):
    from fc_bench.analysis import statistics

    random = np.random.default_rng(0)
    values = {str(number): random.normal(size=3) for number in range(25)}
    units = {name: (name, str((int(name) + 1) % 25)) for name in values}
    differences = random.normal(0.3, 1, size=25)

    def estimates() -> list[object]:
        for cached in (statistics._weights, statistics.multiplicities, statistics._signs):
            cached.cache_clear()
        return [
            cluster_bootstrap(values, resamples=500),
            cluster_bootstrap(values, units, resamples=500),
            sign_flip_test(differences, draws=999),
        ]

    whole = estimates()
    monkeypatch.setattr(statistics, "BLOCK", block)
    assert estimates() == whole


def test_interval_is_that_of_resampling_written_plainly():
    random = np.random.default_rng(0)
    values = {str(number): [float(value)] for number, value in enumerate(random.normal(size=12))}
    for units in (None, {name: (name, str((int(name) + 1) % 12)) for name in values}):
        names, resampled = sorted(values), []
        order = list(dict.fromkeys(unit for name in names for unit in ((units or {}).get(name) or (name,))))
        for draw in np.random.default_rng(3).integers(12, size=(200, 12)):
            drawn = [order[number] for number in draw]
            weights = [np.prod([drawn.count(unit) for unit in (units or {}).get(name, (name,))]) for name in names]
            if sum(weights):
                resampled.append(np.average([values[name][0] for name in names], weights=weights))
        mean = np.mean([value for (value,) in values.values()])
        estimate = cluster_bootstrap(values, units, resamples=200, seed=3)
        assert estimate.low is not None
        wider = (mean - estimate.low) / (mean - np.quantile(resampled, 0.025))
        assert 1 < wider < 1.3
        assert estimate.high == pytest.approx(mean + wider * (np.quantile(resampled, 0.975) - mean))


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
    halves = cluster_bootstrap(values, {name: ("first" if name in "abc" else "second",) for name in values})
    assert (halves.mean, halves.low, halves.clusters) == (free.mean, None, 6)
    pairs = cluster_bootstrap(values, {name: (unit,) for name, unit in zip("abcdef", "aaccee", strict=True)})
    assert pairs.mean == free.mean
    assert pairs.low is not None
    assert free.low is not None
    assert pairs.low < free.low


def test_no_end_lies_beyond_the_bounds_of_the_quantity():
    shares = {"a": [1.0], "b": [1.0], "c": [0.5], "d": [1.0]}
    free, bounded = cluster_bootstrap(shares), cluster_bootstrap(shares, bounds=(0.0, 1.0))
    assert free.high is not None
    assert free.high > 1
    assert (bounded.low, bounded.high) == (free.low, 1.0)


def test_sets_are_units_until_a_subject_is_in_two_of_them():
    assert units_of({"a+b": ["a", "b"], "c+d": ["c", "d"]}) == {"a+b": ("a+b",), "c+d": ("c+d",)}
    assert units_of({"a+b": ["a", "b"], "a+c": ["a", "c"]}) == {"a+b": ("a", "b"), "a+c": ("a", "c")}


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("people", [6, 15])
def test_interval_of_all_pairs_covers_the_truth_where_pairs_taken_as_independent_do_not(people, noise):
    random = np.random.default_rng(people)
    pairs = [(str(one), str(two)) for one, two in combinations(range(people), 2)]
    units = units_of({"+".join(pair): pair for pair in pairs})
    trials, covered, naive = 300, 0, 0
    for _ in range(trials):
        own = random.normal(size=people)
        values = {"+".join(p): [own[int(p[0])] + own[int(p[1])] + noise * random.normal()] for p in pairs}
        estimates = [cluster_bootstrap(values, chosen, resamples=600) for chosen in (units, None)]
        hits = [estimate.low <= 0 <= estimate.high for estimate in estimates]  # type: ignore[operator]
        covered, naive = covered + hits[0], naive + hits[1]
    # The standard error of the rate is 0.013. Noise of the pairs alone makes the interval too wide, never too narrow.
    assert 0.90 <= covered / trials <= 0.99
    assert naive / trials < 0.85


def test_paired_differences_are_taken_where_both_have_measured_and_grouped_by_cluster():
    base = {("a", "hat"): 1.0, ("a", "snow"): 2.0, ("b", "hat"): 3.0, ("c", "hat"): 9.0}
    new = {("a", "hat"): 1.5, ("a", "snow"): 1.0, ("b", "hat"): 3.0, ("d", "hat"): 9.0}
    assert paired_differences(base, new) == {"a": [0.5, -1.0], "b": [0.0]}


def test_paired_interval_is_narrow_where_an_unpaired_one_sees_nothing():
    random = np.random.default_rng(5)
    subjects = random.normal(size=20)
    base = {(str(n),): value for n, value in enumerate(subjects)}
    new = {(str(n),): value + 0.2 + 0.05 * random.normal() for n, value in enumerate(subjects)}
    paired = cluster_bootstrap(paired_differences(base, new))
    alone = cluster_bootstrap({key[0]: [value] for key, value in new.items()})
    assert paired.low is not None
    assert alone.low is not None
    assert paired.low > 0 > alone.low


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=9))
def test_sign_flip_test_counts_all_assignments_of_signs(differences):
    total = abs(sum(differences))
    assignments = list(product((1, -1), repeat=len(differences)))
    as_extreme = sum(abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= total for signs in assignments)
    assert sign_flip_test([float(d) for d in differences]) == as_extreme / len(assignments)


def test_sign_flip_test_of_seven_gains_is_two_in_128_and_of_nothing_is_none():
    assert sign_flip_test([0.1, 0.2, 0.3, 0.1, 0.4, 0.2, 0.1]) == 2 / 128
    assert sign_flip_test([]) is None


def test_sign_flip_test_rejects_a_true_hypothesis_at_its_level_and_no_more():
    random = np.random.default_rng(2)
    rejected = [sign_flip_test(list(random.standard_t(3, size=12))) <= 0.05 for _ in range(800)]  # type: ignore[operator]
    # The standard error of the rate is 0.008.
    assert 0.03 <= np.mean(rejected) <= 0.07


def test_sign_flip_test_of_many_agrees_with_the_exact_one_and_is_reproducible():
    differences = list(np.random.default_rng(3).normal(0.3, size=20))
    exact = sign_flip_test(differences)
    sampled = sign_flip_test([*differences, 0.0])
    assert sampled == sign_flip_test([*differences, 0.0])
    assert sampled == pytest.approx(exact, abs=0.004)


def test_holm_multiplies_by_what_is_left_and_never_falls():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=6))
def test_holm_lies_between_the_raw_values_and_bonferroni(values):
    adjusted = holm(values)
    assert adjusted.keys() == values.keys()
    assert all(values[name] <= adjusted[name] for name in values)
    for threshold in (0.01, 0.05, 0.5):
        bonferroni = {name for name, value in values.items() if len(values) * value <= threshold}
        assert bonferroni <= {name for name, value in adjusted.items() if value <= threshold}
