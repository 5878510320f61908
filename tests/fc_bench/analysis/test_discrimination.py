"""Discrimination of same and other people: values are the textbook's, intervals cover with people as the unit."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, spearmanr

from fc_bench.analysis import discrimination
from fc_bench.analysis.discrimination import (
    auc,
    equal_error_rate,
    fewest_other_pairs,
    operating_point,
    paired_effect,
    rank_correlation,
)


def faces(people: int, seed: int, noise: float = 0.6, pictures: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of pairs of pictures, and the two people of each pair; a person lies near a direction that all share."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(people, 1, 6)) + 0.7
    pictured = centers + noise * random.normal(size=(people, pictures, 6))
    pictured /= np.linalg.norm(pictured, axis=2, keepdims=True)
    pairs = [((i, i), pictured[i, a] @ pictured[i, b]) for i in range(people) for a, b in combinations(range(4), 2)]
    pairs += [((i, j), pictured[i, 0] @ pictured[j, 1]) for i, j in combinations(range(people), 2)]
    return np.array([score for _, score in pairs]), np.array([names for names, _ in pairs]).astype(str)


def test_auc_is_mann_whitneys_with_ties_half():
    scores, people = faces(12, seed=0)
    scores = scores.round(1)
    same = people[:, 0] == people[:, 1]
    u = mannwhitneyu(scores[same], scores[~same]).statistic
    assert auc(scores, people).value == pytest.approx(u / (same.sum() * (~same).sum()))


def test_equal_error_rate_is_where_both_rates_meet():
    scores = np.array([0.9, 0.8, 0.7, 0.3, 0.6, 0.2, 0.1, 0.0])  # one same pair of four below one other pair of four
    people = np.array([["a", "a"], ["b", "b"], ["c", "c"], ["d", "d"], ["a", "b"], ["b", "c"], ["c", "d"], ["a", "d"]])
    assert equal_error_rate(scores, people, resamples=200).value == pytest.approx(0.25)


def test_operating_point_accepts_other_pairs_at_its_rate():
    scores, people = faces(40, seed=1)
    same = people[:, 0] == people[:, 1]
    point = operating_point(scores, people, 0.05, resamples=200)
    assert np.mean(scores[~same] >= point.threshold.value) == pytest.approx(0.05, abs=0.002)
    assert point.true_accepts.value == pytest.approx(np.mean(scores[same] >= point.threshold.value))
    assert point.threshold.low < point.threshold.value < point.threshold.high


def test_threshold_needs_other_pairs_enough_for_its_rate():
    scores, people = faces(10, seed=1)  # 45 other pairs
    assert fewest_other_pairs(0.01) == 500
    assert operating_point(scores, people, 0.1).threshold.value is None
    assert operating_point(scores, people, 0.2).threshold.value is not None


def test_people_without_errors_leave_room_for_errors_of_others():
    scores, people = faces(12, seed=0, noise=0.01)
    assert (auc(scores, people).value, auc(scores, people).high) == (1.0, 1.0)
    assert auc(scores, people).low == pytest.approx(0.025 ** (1 / 12))
    assert equal_error_rate(scores, people).high == pytest.approx(1 - 0.025 ** (1 / 12))


def test_rank_correlation_is_spearmans_with_ties():
    random = np.random.default_rng(0)
    first = random.normal(size=60).round(1)
    second = (first + random.normal(size=60)).round(1)
    result = rank_correlation(first, second, [str(number // 3) for number in range(60)])
    assert result.value == pytest.approx(spearmanr(first, second).statistic)
    assert result.people == 20
    assert rank_correlation(first, np.ones(60), list(map(str, range(60)))).value is None


def test_paired_effect_pairs_by_person_and_seed_and_ignores_the_rest():
    base = {(person, str(seed)): float(number) for number, person in enumerate("abcd") for seed in range(3)}
    other = {key: value + 0.5 for key, value in base.items() if key != ("a", "0")} | {("e", "0"): 9.0}
    effect = paired_effect(base, other)
    assert (effect.mean, effect.people, effect.pairs) == (0.5, 4, 11)
    values = [base[key] for key in base if key in other]
    assert effect.standardized == pytest.approx(0.5 / np.std(values, ddof=1))


def test_pairs_of_one_kind_alone_are_refused():
    with pytest.raises(ValueError, match="same and other pairs"):
        auc(np.array([1.0, 0.5]), np.array([["a", "b"], ["b", "c"]]))


def test_results_do_not_depend_on_how_many_resamples_are_held_at_a_time(monkeypatch):
    scores, people = faces(10, seed=3)
    whole = auc(scores, people, resamples=300)
    monkeypatch.setattr(discrimination, "MOST_WEIGHTS", 5 * len(scores))
    assert auc(scores, people, resamples=300) == whole


def _coverage(people: int, noise: float, repetitions: int, resamples: int) -> dict[str, float]:
    """Share of intervals, of samples of so many people, that hold the value among very many people."""

    def statistics(scores: np.ndarray, names: np.ndarray, resamples: int) -> dict[str, discrimination.Statistic]:
        point = operating_point(scores, names, 0.12, resamples)
        other, between = names[:, 0] != names[:, 1], scores[names[:, 0] != names[:, 1]]
        blurred = between + 0.3 * np.sin(1e4 * between)  # noise that is a function of the pair
        return {
            "auc": auc(scores, names, resamples),
            "equal error rate": equal_error_rate(scores, names, resamples),
            "threshold": point.threshold,
            "true accepts": point.true_accepts,
            "rank correlation": rank_correlation(between, blurred, names[other], resamples),
        }

    many = [statistics(*faces(120, 10_000 + seed, noise), resamples=2) for seed in range(8)]
    truth = {name: np.mean([one[name].value for one in many]) for name in many[0]}
    covered = dict.fromkeys(truth, 0)
    for seed in range(repetitions):
        for name, found in statistics(*faces(people, seed, noise), resamples=resamples).items():
            covered[name] += found.low <= truth[name] <= found.high
    return {name: count / repetitions for name, count in covered.items()}


def test_intervals_over_people_cover_in_a_short_simulation():
    assert min(_coverage(16, noise=0.6, repetitions=50, resamples=200).values()) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize(("people", "noise"), [(12, 0.6), (25, 0.6), (25, 1.2)])
def test_intervals_over_people_cover_at_their_nominal_rate(people, noise):
    coverage = _coverage(people, noise, repetitions=500, resamples=400)
    assert all(0.92 <= share <= 0.99 for share in coverage.values()), coverage


def test_effects_cover_in_simulation_with_people_as_the_unit():
    covered = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        effects = 0.2 + 0.3 * random.normal(size=15)
        base = {(f"p{person}", str(image)): random.normal() for person in range(15) for image in range(4)}
        other = {key: value + effects[int(key[0][1:])] + 0.1 * random.normal() for key, value in base.items()}
        found = paired_effect(base, other)
        covered += found.low <= 0.2 <= found.high
    assert 0.92 <= covered / 300 <= 0.98
