"""Suites: slots, subject sets, built-in content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fc_bench.builtin import POCKET_FULL_SUITE, POCKET_SUITE
from fc_bench.protocols import fill, seed_of
from fc_bench.suites.suite import read_suite


@pytest.mark.parametrize(
    ("template", "mentions", "expected"),
    [
        ("a {subject} in the snow", ["man <|image|>"], "a man <|image|> in the snow"),
        ("a {subject} in the snow", ["old man <|image|>"], "an old man <|image|> in the snow"),
        ("A {subject}", ["hour-long visitor"], "An hour-long visitor"),
        ("an {subject}", ["<p01>"], "a <p01>"),
        ("a photo of {subjects}", ["man", "woman"], "a photo of a man and a woman"),
        (
            "{subjects} together",
            ["old man", "user", "MRI technician"],
            "an old man, a user and an MRI technician together",
        ),
    ],
)
def test_slots_are_filled_with_articles(template, mentions, expected):
    assert fill(template, mentions) == expected


def test_prompts_of_the_reference_run_are_what_the_suite_says():
    nouns = {subject.id: subject.noun for subject in read_suite(POCKET_SUITE).subjects}
    plan = Path(__file__).parents[3] / "reports" / "reference" / "pocket" / "plan.jsonl"
    for line in plan.read_text().splitlines():
        sample = json.loads(line)
        assert fill(sample["template"], [nouns[name] for name in sample["subjects"]]) == sample["prompt"]


def test_slots_of_a_prompt_and_class_images_take_the_article_of_the_noun():
    from fc_bench.baselines.tuning.concepts import class_prompt
    from fc_bench.protocols import Subject
    from fc_bench.suites.slots import fill_slots

    assert fill_slots("A {ada} and a {bo}", {"ada": "old woman", "bo": "man"}) == "An old woman and a man"
    assert class_prompt(Subject("ada", "old woman", ())) == "a photo of an old woman"


def test_pocket_world_knows_both_articles():
    from fc_bench.model.pocket_vocabulary import words

    assert {"a", "an"} <= set(words())


def test_seed_is_fixed_for_all_time():
    # Records of earlier versions stay comparable only while this holds.
    assert seed_of(20230510, "a photo of a {subject} in the snow", 0) == 3869240998
    assert seed_of(20230510, "a photo of a {subject} in the snow", 1) != 3869240998


def test_all_pairs_are_every_pair_once_in_order(suite_data, write_suite):
    suite_data["multi"]["subjects"] = "all-pairs"
    sets = [group.key for group, _ in read_suite(write_suite(suite_data)).subject_sets()]
    assert sets == ["ann", "bob", "cid", "ann+bob", "ann+cid", "bob+cid"]


def test_limit_keeps_the_first_subjects_and_the_sets_made_of_them(suite):
    sets = [group.key for group, _ in read_suite(suite).subject_sets(limit=2)]
    assert sets == ["ann", "bob", "ann+bob"]


def test_photographs_may_be_listed_for_a_subject(suite_data, write_suite):
    suite_data["subjects"][0]["photographs"] = ["people/ann-2.png"]
    subject = read_suite(write_suite(suite_data)).subjects[0]
    assert [path.name for path in subject.photographs] == ["ann-2.png"]


@pytest.mark.parametrize(
    ("path", "name", "people", "images"), [(POCKET_SUITE, "pocket", 8, 52), (POCKET_FULL_SUITE, "pocket-full", 16, 328)]
)
def test_pocket_suites_ask_for_as_many_images_as_their_card_says(path, name, people, images):
    suite = read_suite(path)
    assert suite.file.name == name
    assert [subject.noun for subject in suite.subjects] == ["man", "woman"] * (people // 2)
    assert sum(len(prompts) for _, prompts in suite.subject_sets()) * suite.file.images_per_prompt == images
    card = (POCKET_SUITE.parent / "README.md").read_text()
    (row,) = [line for line in card.splitlines() if line.startswith(f"| `{name}` ")]
    assert [int(cell) for cell in row.split("|")[3:-1]] == [
        people,
        len(suite.subject_sets()[0][1]),
        len(suite.subject_sets()) - people,
        len(suite.subject_sets()[-1][1]),
        images,
    ]


def test_quick_pocket_suite_is_a_part_of_the_full_one():
    quick, full = read_suite(POCKET_SUITE), read_suite(POCKET_FULL_SUITE)
    assert quick.file.single is not None
    assert set(quick.file.single.prompts) == {"accessory", "style", "context", "action"}
    assert quick.file.seed == full.file.seed
    assert quick.subjects == full.subjects[: len(quick.subjects)]
    everything = {group.key: set(prompts) for group, prompts in full.subject_sets()}
    for group, prompts in quick.subject_sets():
        assert set(prompts) < everything[group.key]
