"""The indefinite article before a noun phrase: `an old man`, `a university student`, `an MRI technician`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_ARTICLE = re.compile(r"\b(an?)(\s+[\"'(\[“‘]*)$", re.IGNORECASE)
_SPELLED = re.compile(
    r"(?!(?:F[LR]?|[HL]|MN?|N|RH?|S(?:CH|[CPT]R|[CP]L|[CHKLMNPQTVW])?)[AEIOUY](?:[A-Z]|$))"
    r"(?:[AEFHILMNORSX](?=[-. ]|$)|[AEFHILMNORSX][A-Z0-9])"
)
"""Capitals read letter by letter, the first of which begins with a vowel sound: MRI, X-ray; not NASA, not MAN."""
_YOU = re.compile(r"U(?=[-. ]|$)|U[A-Z]{1,3}(?![A-Za-z])")
"""The letter U: UFO, UN, U-boat."""
_VOWEL_SOUND = re.compile(r"hour(?!i)|heir|honest|honou?r|[aefhilmnorsx]-|[aeiou]")
_CONSONANT_SOUND = re.compile(r"e[uw]|onc?e(?![a-z])|oui|uni(?:[^nmd]|mo|$)|ukr|u[bcfghjkqrst][aeiou]|u-")
"""Vowels that sound as `you` or `w`: European, ewe, one-eyed, unicorn, user; but uninvited, umbrella."""


def article(phrase: str) -> str:
    """`a` or `an`, by the sound that the phrase begins with.

    Letters decide, except for a silent h (hour, honest), vowels that sound as `you` or `one` (university, European,
    one-eyed) and words that are spelled (MRI, X-ray). What begins with no letter, such as a learnt token, takes `a`.
    """
    if _SPELLED.match(phrase):
        return "an"
    if _YOU.match(phrase) or _CONSONANT_SOUND.match(phrase.lower()):
        return "a"
    return "an" if _VOWEL_SOUND.match(phrase.lower()) else "a"


def with_article(phrase: str) -> str:
    """The phrase after its article."""
    return f"{article(phrase)} {phrase}"


def insert(texts: Sequence[str], phrases: Iterable[str]) -> str:
    """Texts with a phrase between each two of them, where an indefinite article at the end of a text suits its phrase.

    There are as many phrases as gaps. An article keeps its first letter, so that `A` stays a capital.
    """
    whole = texts[0]
    for phrase, following in zip(phrases, texts[1:], strict=True):
        whole = f"{_suited(whole, phrase)}{phrase}{following}"
    return whole


def _suited(text: str, phrase: str) -> str:
    found = _ARTICLE.search(text)
    if found is None:
        return text
    ending = article(phrase)[1:]
    given = found[1]
    return f"{text[: found.start()]}{given[0]}{ending.upper() if given == 'AN' else ending}{found[2]}"
