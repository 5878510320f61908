"""What is read from a judge's answer, what an image gets from it, and what the benchmarks make of many images."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fc_bench.metrics.judged import (
    OVERALL,
    PROTOCOLS,
    DreamBenchPlus,
    JudgedImage,
    MultiHumanAction,
    OmniContext,
    PSRBench,
    Rating,
    ratings_of,
)
from fc_bench.published import judges
from fc_bench.run_folder.settings import RESERVED


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score: 3", 3),
        ("The shapes match.\nscore: 0", 0),
        ("Score: about 4.", 4),
        ("Score: 5", None),
        ("Score: 3.5", None),
        ("Score: 3\nScore: 2", None),
        ("Score: -1", None),
        ("3", None),
        ("", None),
    ],
)
def test_dreambench_plus_reads_one_whole_number_from_0_to_4(text, score):
    assert judges.dreambench_plus_score(text) == score


@pytest.mark.parametrize(
    ("text", "count", "scores"),
    [
        ("907", 3, (10, 1, 8)),
        ("90\n7\n", 3, (10, 1, 8)),
        ("907", None, (10, 1, 8)),
        ("907", 2, None),
        ("907", 4, None),
        ("Q1: 9", None, None),
        ("9.5", None, None),
        ("\u0669", 1, None),
        ("", 1, None),
    ],
)
def test_multihuman_reads_a_digit_for_each_question(text, count, scores):
    assert judges.multihuman_scores(text, count) == scores


@pytest.mark.parametrize("protocol", PROTOCOLS.values())
def test_an_image_whose_answers_are_all_unreadable_has_no_score(protocol):
    ratings = [Rating(question.name, 1, None) for question in protocol.questions]
    values = dict(protocol.score("somebody", ratings).values)
    assert values.pop(f"{protocol.unmarked}_unreadable@somebody") == 1
    assert set(values.values()) == {None}
    names = [column.name for column in protocol.columns("somebody", "answers of somebody")]
    assert {*values, f"{protocol.unmarked}_unreadable@somebody"} == set(names)
    assert not set(names) & set(RESERVED)


@pytest.mark.parametrize("protocol", PROTOCOLS.values())
def test_the_best_and_the_worst_answers_are_the_bounds_of_the_columns(protocol):
    worst, best = {
        "omnicontext": ("0", "10"),
        "dreambench-plus": ("Score: 0", "Score: 4"),
        "psrbench": ("[Score]: 0", "[Score]: 10"),
        "multihuman-action": ("0", "9"),
    }[protocol.name]
    for text, end in ((worst, 0), (best, 1)):
        ratings = [Rating(question.name, 1, protocol.read(text, 1)) for question in protocol.questions]
        values = protocol.score("x", ratings).values
        for column in protocol.scores:
            assert values[f"{column.name}@x"] == column.bounds[end]


@pytest.mark.parametrize("protocol", PROTOCOLS.values())
def test_questions_in_fc_bench_s_words_ask_for_the_form_that_is_read(protocol):
    form = {
        "omnicontext": '{"score": a number from 0 to 10',
        "dreambench-plus": "Score: 2",
        "psrbench": "[Score]: a number from 0 to 10",
        "multihuman-action": "one digit",
    }[protocol.name]
    for question in protocol.questions:
        assert form in question.wording
        assert question.name == "CP" or question.wording.count("{prompt}") == 1


def test_repetitions_are_averaged_and_unreadable_ones_left_out():
    ratings = [
        Rating("PF", 1, (4.0,)),
        Rating("PF", 2, (8.0,)),
        Rating("PF", 3, None),
        Rating("SC", 1, (6.0,)),
    ]
    score = OmniContext.score("x", ratings)
    assert score.values == {
        "omnicontext_pf@x": 6,
        "omnicontext_sc@x": 6,
        "omnicontext_overall@x": 6,
        "omnicontext_unreadable@x": 0.25,
    }
    assert ratings_of(score.details) == ratings


def image(subjects, ratings, category="all", prompt=0, prompts=9, index=0):
    made = [Rating(question, 1, None if number is None else (float(number),)) for question, number in ratings.items()]
    return JudgedImage(subjects, category, prompt, prompts, index, made)


def test_omnicontext_takes_the_mean_of_the_tasks_means():
    images = [
        image("a", {"PF": 4, "SC": 9}, "single"),
        image("b", {"PF": 1, "SC": 1}, "multi"),
        image("c", {"PF": 9, "SC": 9}, "multi"),
        image("d", {"PF": 9, "SC": None}, "multi"),
    ]
    found = OmniContext.as_published(images)
    assert found["omnicontext_overall", OVERALL].mean == (6 + (1 + 9) / 2) / 2
    assert found["omnicontext_pf", OVERALL].mean == (4 + 5) / 2
    assert found["omnicontext_pf", OVERALL].used == 3
    assert OmniContext.as_published([]) == {}


def test_dreambench_plus_takes_groups_and_the_product_of_means():
    images = [
        image("human_01", {"CP": 4, "PF": 2}, prompt=0),
        image("human_01", {"CP": 2, "PF": 4}, prompt=8),
        image("object_02", {"CP": 0, "PF": None}, prompt=5),
        image("object_02", {"CP": 4, "PF": 4}, prompt=5, index=1),
    ]
    found = {key: value.mean for key, value in DreamBenchPlus.as_published(images).items()}
    assert found == pytest.approx(
        {
            ("dreambench_plus_cp", OVERALL): 0.5,
            ("dreambench_plus_cp", "human"): 0.75,
            ("dreambench_plus_cp", "object"): 0,
            ("dreambench_plus_cp", "photorealistic"): 1,
            ("dreambench_plus_cp", "imaginative"): 0.5,
            ("dreambench_plus_cp", "style_transfer"): 0,
            ("dreambench_plus_pf", OVERALL): 0.75,
            ("dreambench_plus_pf", "human"): 0.75,
            ("dreambench_plus_pf", "photorealistic"): 0.5,
            ("dreambench_plus_pf", "imaginative"): 1,
            ("dreambench_plus_product", OVERALL): 0.375,
        }
    )
    few = [replace(one, prompts=3) for one in images]
    assert {group for _, group in DreamBenchPlus.as_published(few)} == {OVERALL, "human", "object"}


def test_psrbench_counts_an_unreadable_answer_as_5():
    found = PSRBench.as_published([image("a", {"action": 9}), image("b", {"action": None}), image("c", {})])
    assert found == {("psrbench_action", OVERALL): found["psrbench_action", OVERALL]}
    assert found["psrbench_action", OVERALL].mean == 7


def test_multihuman_pools_the_questions_of_all_images():
    one = JudgedImage("a", "all", 0, 1, 0, [Rating("action", 1, (10.0, 10.0, 10.0))])
    other = JudgedImage("b", "all", 0, 1, 0, [Rating("action", 1, (2.0,))])
    lost = JudgedImage("c", "all", 0, 1, 0, [Rating("action", 1, None)])
    found = MultiHumanAction.as_published([one, other, lost])["multihuman_action", OVERALL]
    assert (found.mean, found.used) == (8, 2)
    values = [MultiHumanAction.score("x", each.ratings).values["multihuman_action@x"] for each in (one, other)]
    assert values == [10, 2]
    assert math.isclose(sum(values) / 2, 6)


def test_psrbench_asks_about_the_subset_of_the_prompt():
    assert [one.name for one in PSRBench.questions_about("Action")] == ["action"]
    assert [one.name for one in PSRBench.questions_about("style")] == ["complex"]
