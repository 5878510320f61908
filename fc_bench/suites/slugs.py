"""Names made of texts that people wrote."""

import re
import unicodedata

LONGEST_ID = 64
"""Bytes in UTF-8: several ids together still make a file name."""


def id_of(text: str) -> str:
    """The id that a text, such as a folder's name, stands for; empty when it has no letter or digit.

    Letters, digits and marks of any script, `.`, `_` and `-` are kept in Unicode's composed form (NFC), invisible
    characters are left out, whatever else there is in a row becomes one `-`, and a letter or digit begins.
    """
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(character for character in composed if unicodedata.category(character) != "Cf")
    kept = "-".join("".join(character if _is_kept(character) else " " for character in visible).split())
    begin = next((place for place, character in enumerate(kept) if _begins(character)), len(kept))
    return kept[begin:]


def is_id(text: str) -> bool:
    """Whether a text is an id as it stands, of at most 64 bytes in UTF-8."""
    return bool(text) and id_of(text) == text and len(text.encode()) <= LONGEST_ID


def _is_kept(character: str) -> bool:
    return character in "._-" or _begins(character) or unicodedata.category(character).startswith("M")


def _begins(character: str) -> bool:
    return unicodedata.category(character)[0] in "LN"


def slug(text: str, otherwise: str = "") -> str:
    """The words of a text in lower case, joined by hyphens; `otherwise` where it has none."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or otherwise


def name_of(text: str, otherwise: str) -> str:
    """A text as a suite's or backbone's name: letters, digits, `.`, `_` and `-`, at most 64; `otherwise` for none."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
    return kept[:64] or otherwise
