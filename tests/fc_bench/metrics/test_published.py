"""What the published scores say of people who are right, swapped, blended, replaced and missing."""

from __future__ import annotations

import numpy as np
import pytest

from fc_bench.metrics.published import DERIVED, MultiHuman, MultiID, UmoReward, XVerse

RIGHT = [[0.8, 0.0], [0.0, 0.6]]
SWAPPED = [[0.0, 0.8], [0.6, 0.0]]
BLEND = [[0.5], [0.5]]
STRANGER = [[0.8, 0.1], [0.1, 0.0]]
NOBODY = [[], []]


def values(metric, rows):
    return metric.derive({"similarities": rows}).values


@pytest.mark.parametrize(
    ("metric", "column", "expected"),
    [
        (XVerse, "xverse_id", {"right": 70, "blend": 50, "stranger": 45, "nobody": 0}),
        (XVerse, "umo_id_confidence", {"right": 100, "blend": None, "stranger": 93.75, "nobody": None}),
        (UmoReward, "umo_reward", {"right": 0.35, "blend": 0, "stranger": 0.15, "nobody": 0}),
        (MultiHuman, "multihuman_similarity", {"right": 0.7, "blend": 0.25, "stranger": 0.4, "nobody": 0}),
        (MultiHuman, "multihuman_similarity_optimal", {"right": 0.7, "blend": 0.25, "stranger": 0.4, "nobody": 0}),
        (MultiHuman, "multihuman_count", {"right": 1, "blend": 0, "stranger": 1, "nobody": 0}),
        (MultiID, "multiid_similarity", {"right": 0.7, "blend": 0.5, "stranger": 0.4, "nobody": None}),
        (MultiID, "multiid_non_matched", {"right": 0, "blend": 0.5, "stranger": 0.1, "nobody": None}),
    ],
)
def test_values_of_known_similarities(metric, column, expected):
    rows = {"right": RIGHT, "blend": BLEND, "stranger": STRANGER, "nobody": NOBODY}
    for name, value in expected.items():
        assert values(metric, rows[name])[column] == (None if value is None else pytest.approx(value)), name


@pytest.mark.parametrize("metric", DERIVED)
def test_no_score_depends_on_where_the_people_stand(metric):
    assert values(metric, SWAPPED) == pytest.approx(values(metric, RIGHT))


@pytest.mark.parametrize("metric", DERIVED)
def test_values_lie_within_the_declared_bounds(metric):
    draws = np.random.default_rng(0)
    bounds = {column.name: column.bounds for column in metric.columns}
    for _ in range(200):
        subjects, faces = draws.integers(1, 6), draws.integers(0, 7)
        found = values(metric, draws.uniform(-1, 1, (subjects, faces)).tolist())
        assert set(found) == set(bounds)
        for name, value in found.items():
            low, high = bounds[name]
            assert value is None or low - 1e-9 <= value <= high + 1e-9, name
