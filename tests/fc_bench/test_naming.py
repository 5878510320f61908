"""Names of any script become ids by one rule."""

from __future__ import annotations

import pytest

from fc_bench.naming import id_of, is_id


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
