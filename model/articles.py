"""The indefinite article before a noun phrase: `an old man`, `a university student`, `an MRI technician`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_ARTICLE = re.compile(r"\b(an?)(\s+[\"'(\[“‘]*)$", re.IGNORECASE)
_SPELLED = re.compile(
    r"(?!(?:F[LR]?|[HL]|MN?|N|RH?|S(?:CH|[CPT]R|[CP]L|[CHKLMNPQTVW])?)[AEIOUY](?:[A-Z]|$))"
    r"(?:[AEFHILMNORSX](?=[-. ]|$)|[AEFHILMNORSX][A-Z0-9])"
)
"""Capitals that are read letter by letter and start with a vowel sound: MRI, X-ray; not NASA, not MAN."""
_YOU = re.compile(r"U(?=[-. ]|$)|U[A-Z]{1,3}(?![A-Za-z])")
"""The letter U read as "you": UFO, UN, U-boat."""
_VOWEL_SOUND = re.compile(r"hour(?!i)|heir|honest|honou?r|[aefhilmnorsx]-|[aeiou]")
_CONSONANT_SOUND = re.compile(r"e[uw]|onc?e(?![a-z])|oui|uni(?:[^nmd]|mo|$)|ukr|u[bcfghjkqrst][aeiou]|u-")
"""Vowels that sound like "you" or "w": European, ewe, one-eyed, unicorn, user; not uninvited, umbrella."""


def article(phrase: str) -> str:
    """`a` or `an`, by the first sound of the phrase.

    The first letter decides, except for a silent h (hour, honest), vowels that sound like "you" or "one" (university,
    European, one-eyed), and words that are spelled out (MRI, X-ray). A phrase that starts with another character, such
    as a new token, takes `a`.
    """
    if _SPELLED.match(phrase):
        return "an"
    if _YOU.match(phrase) or _CONSONANT_SOUND.match(phrase.lower()):
        return "a"
    return "an" if _VOWEL_SOUND.match(phrase.lower()) else "a"


def with_article(phrase: str) -> str:
    """The phrase with its indefinite article before it."""
    return f"{article(phrase)} {phrase}"


def insert(texts: Sequence[str], phrases: Iterable[str]) -> str:
    """The texts joined by one phrase per gap; an indefinite article before a phrase is adapted to it.

    The article keeps its first letter, so `A` stays a capital. Raises ValueError unless there is one phrase per gap.
    """
    joined = texts[0]
    for phrase, following in zip(phrases, texts[1:], strict=True):
        joined = f"{_with_fitting_article(joined, phrase)}{phrase}{following}"
    return joined


def _with_fitting_article(text: str, phrase: str) -> str:
    found = _ARTICLE.search(text)
    if found is None:
        return text
    ending = article(phrase)[1:]
    given = found[1]
    return f"{text[: found.start()]}{given[0]}{ending.upper() if given == 'AN' else ending}{found[2]}"
