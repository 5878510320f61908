"""Names derived from free text."""

import re
import unicodedata

LONGEST_ID = 64
"""Largest length in UTF-8 bytes; several ids together still form a file name."""


def id_of(text: str) -> str:
    """The id derived from a text, such as a folder's name; empty if it has no letter or digit.

    Letters, digits and marks of any script, `.`, `_` and `-` are kept in Unicode's composed form (NFC). Invisible
    characters are removed, and other characters in a row become one `-`. An id starts with a letter or digit.
    """
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(character for character in composed if unicodedata.category(character) != "Cf")
    kept = "-".join("".join(character if _is_kept(character) else " " for character in visible).split())
    begin = next((place for place, character in enumerate(kept) if _begins(character)), len(kept))
    return kept[begin:]


def is_id(text: str) -> bool:
    """Whether a text is a valid id of at most 64 bytes in UTF-8."""
    return bool(text) and id_of(text) == text and len(text.encode()) <= LONGEST_ID


def _is_kept(character: str) -> bool:
    return character in "._-" or _begins(character) or unicodedata.category(character).startswith("M")


def _begins(character: str) -> bool:
    return unicodedata.category(character)[0] in "LN"


def slug(text: str, otherwise: str = "") -> str:
    """The words of a text in lower case, joined by hyphens; `otherwise` if it has none."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or otherwise


def name_of(text: str, otherwise: str) -> str:
    """A text as the name of a suite or backbone: letters, digits, `.`, `_` and `-`, at most 64 of them.

    `otherwise` is returned if none is left.
    """
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
    return kept[:64] or otherwise
