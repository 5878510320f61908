"""Suites: slots, subject sets, built-in content."""

from __future__ import annotations

import pytest
from fc_bench.model.yaml_file import read_yaml

from fc_bench.builtin import POCKET_SUITE
from fc_bench.protocols import fill, seed_of
from fc_bench.suite import SuiteFile, read_suite


@pytest.mark.parametrize(
    ("template", "mentions", "expected"),
    [
        ("a {subject} in the snow", ["man <|image|>"], "a man <|image|> in the snow"),
        ("a photo of {subjects}", ["man", "woman"], "a photo of a man and a woman"),
        ("{subjects} together", ["old man", "woman", "man"], "an old man, a woman and a man together"),
    ],
)
def test_slots_are_filled_with_articles(template, mentions, expected):
    assert fill(template, mentions) == expected


def test_seed_is_fixed_for_all_time():
    # Records of earlier versions stay comparable only while this holds.
    assert seed_of(20230510, "a photo of a {subject} in the snow", 0) == 2684263170
    assert seed_of(20230510, "a photo of a {subject} in the snow", 1) != 2684263170


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


def test_pocket_suite_is_well_formed_and_small_enough_for_a_laptop():
    file = read_yaml(POCKET_SUITE, SuiteFile)
    assert [subject.noun for subject in file.subjects] == ["man", "woman"] * 8
    assert file.single is not None
    assert file.multi is not None
    singles = len(file.subjects) * sum(map(len, file.single.prompts.values()))
    pairs = len(file.multi.subjects) * sum(map(len, file.multi.prompts.values()))
    assert (singles + pairs) * file.images_per_prompt <= 200
    assert set(file.single.prompts) == set(file.multi.prompts) == {"accessory", "style", "context", "action"}
