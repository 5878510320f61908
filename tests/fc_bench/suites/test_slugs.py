"""Names of any script become ids by one rule."""

from __future__ import annotations

import pytest

from fc_bench.commands.init_suite import nouns_of
from fc_bench.errors import UserError
from fc_bench.suites.slots import fill_slots, parse_slots, parse_subject
from fc_bench.suites.slugs import id_of, is_id


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ada", "ada"),
        ("Anna Maria (2)", "Anna-Maria-2"),
        ("Jos\u0065\u0301", "Jos\u00e9"),
        ("\u674e\u96f7", "\u674e\u96f7"),
        ("\u0410\u043d\u043d\u0430_1", "\u0410\u043d\u043d\u0430_1"),
        ("\u092e\u0940\u0930\u093e", "\u092e\u0940\u0930\u093e"),
        ("../up", "up"),
        (".hidden", "hidden"),
        ("\u200bada\u202e", "ada"),
        ("a/b\\c", "a-b-c"),
        ("\U0001f600", ""),
    ],
)
def test_letters_and_digits_of_any_script_stay(name, expected):
    assert id_of(name) == expected
    assert id_of(expected) == expected
    assert is_id(expected) == bool(expected)


def test_id_is_short_enough_for_a_file_name():
    assert is_id("\u674e" * 21)
    assert not is_id("\u674e" * 22)


@pytest.mark.parametrize("name", ["Anna Maria", "Anna-Maria", "Jos\u00e9", "Jos\u0065\u0301", "\u674e\u96f7"])
def test_prompt_and_noun_name_a_subject_as_its_folder_is_called(name):
    subject = parse_subject(f"{name}=photos/1.png:woman")
    assert subject.id == id_of(name)
    prompt = f"a photo of a {{{name}}}"
    assert parse_slots(prompt, [subject]) == [subject]
    assert fill_slots(prompt, {subject.id: "woman"}) == "a photo of a woman"
    assert nouns_of([id_of(name)], [f"{name}=woman"]) == {id_of(name): "woman"}


@pytest.mark.parametrize("names", [("ann", "Ann"), ("Anna Maria", "Anna-Maria"), ("Jos\u00e9", "Jos\u0065\u0301")])
def test_two_subjects_of_one_id_are_named(names):
    subjects = [parse_subject(f"{name}=photos/1.png:woman") for name in names]
    with pytest.raises(UserError, match=f'the same id "{id_of(names[0])}"'):
        parse_slots("", subjects)


def test_name_without_a_letter_is_no_subject():
    with pytest.raises(UserError, match=r'The id "\?" of a subject needs a letter'):
        parse_subject("?=photos/1.png:woman")
