"""Pairs of a calibration: all of few photographs, a seeded draw of many, and the threshold that they give."""

from __future__ import annotations

import numpy as np
import pytest

from fc_bench.analysis.discrimination import operating_point
from fc_bench.audit import photographs
from fc_bench.audit.photographs import Calibration, Found, Pairs, _other_pairs
from fc_bench.reports.audit.photographs import figure, sentences, tables


def test_few_photographs_form_every_pair_of_different_people():
    people = np.array(["ann", "ann", "bob", "cid"])
    assert _other_pairs(people, 5).tolist() == [[0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]


def test_of_many_photographs_pairs_are_drawn_once_each_and_the_same_every_time(monkeypatch):
    monkeypatch.setattr(photographs, "MOST_OTHER_PAIRS", 500)
    people = np.repeat([f"p{number}" for number in range(30)], 4)
    drawn = _other_pairs(people, (120**2 - 30 * 16) // 2)
    assert len(np.unique(drawn, axis=0)) == 500
    assert (people[drawn[:, 0]] != people[drawn[:, 1]]).all()
    assert (drawn == _other_pairs(people, (120**2 - 30 * 16) // 2)).all()


@pytest.fixture
def made():
    """A calibration of made-up cosines: strangers around 0, one person around .7."""
    rng = np.random.default_rng(1)
    people = np.array([(f"p{one}", f"p{other}") for one in range(40) for other in range(one, 40)])
    same = people[:, 0] == people[:, 1]
    cosines = np.where(same, rng.normal(0.7, 0.1, len(same)), rng.normal(0, 0.1, len(same)))
    pairs = Pairs(cosines, people, np.full(people.shape, ""))
    found = [Found(f"p{number}", "", f"p{number}/1.png", 1) for number in range(40)]
    return Calibration("an_embedder", found, pairs, operating_point(cosines, people, 0.05), 780, declared=0.5)


def test_the_threshold_to_write_down_accepts_no_more_than_the_rate(made):
    others = made.pairs.cosines[~made.pairs.same]
    assert np.mean(others >= made.threshold) <= 0.05
    assert made.threshold == round(made.threshold, 3)
    assert made.threshold == pytest.approx(0.1 * 1.645, abs=0.03)


def test_what_is_said_are_the_numbers_of_the_table(made):
    said = " ".join(sentences(made))
    assert f"verification: {{an_embedder: {made.threshold:.3f}}}" in said
    assert "The threshold 0.5, which the backbone declares" in said
    (_, separation) = tables(made)
    assert separation.texts()[0][:4] == ("all", "40", "40", "780")
    assert figure(made).svg()
