"""The indefinite article is the one of the sound that a phrase begins with, wherever a phrase is put in."""

from __future__ import annotations

import pytest

from fc_bench.model.articles import article, insert, with_article

AN = (
    "old man",
    "elderly woman",
    "umbrella seller",
    "uncle",
    "undertaker",
    "uninvited guest",
    "unimpressed man",
    "usher",
    "urban planner",
    "emu",
    "hour",
    "hourly worker",
    "honest man",
    "honorable judge",
    "honour guard",
    "heir",
    "heiress",
    "MRI technician",
    "FBI agent",
    "X-ray technician",
    "x-ray technician",
    "MBA student",
    "NBA player",
    "HR manager",
    "EU official",
    "AI researcher",
    "L-shaped sofa",
    "e-sports player",
    "ohwx man",
)
A = (
    "man",
    "woman",
    "university student",
    "user",
    "unicorn",
    "union member",
    "united team",
    "European man",
    "eunuch",
    "ewe",
    "one-eyed pirate",
    "once famous man",
    "Ukrainian woman",
    "utility worker",
    "ukulele player",
    "UFO pilot",
    "UN soldier",
    "US soldier",
    "U-boat captain",
    "NASA engineer",
    "MAN",
    "STRONG MAN",
    "yoga teacher",
    "hotel guest",
    "historian",
    "Honolulu resident",
    "PhD student",
    "TV host",
    "sks man",
    "<p01>",
    "<new1> old man",
)


@pytest.mark.parametrize("phrase", AN)
def test_vowel_sounds_take_an(phrase):
    assert (article(phrase), with_article(phrase)) == ("an", f"an {phrase}")


@pytest.mark.parametrize("phrase", A)
def test_consonant_sounds_and_learnt_tokens_take_a(phrase):
    assert with_article(phrase) == f"a {phrase}"


@pytest.mark.parametrize(
    ("before", "vowel", "consonant"),
    [
        ("a ", "an old man", "a man"),
        ("an ", "an old man", "a man"),
        ("A ", "An old man", "A man"),
        ("An ", "An old man", "A man"),
        ("AN ", "AN old man", "A man"),
        ('a photo of a "', 'a photo of an "old man', 'a photo of a "man'),
        ("a happy ", "a happy old man", "a happy man"),
        ("the ", "the old man", "the man"),
        ("Ana ", "Ana old man", "Ana man"),
        ("", "old man", "man"),
    ],
)
def test_article_before_a_gap_suits_what_is_put_in_and_other_words_stay(before, vowel, consonant):
    assert insert([before, " in the snow"], ["old man"]) == f"{vowel} in the snow"
    assert insert([before, " in the snow"], ["man"]) == f"{consonant} in the snow"


def test_each_gap_has_its_own_article():
    assert insert(["a ", " and a ", ""], ["old man", "user"]) == "an old man and a user"
