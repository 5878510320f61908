"""Names made of texts that people wrote."""

import re
import unicodedata

LONGEST_ID = 64
"""Bytes in UTF-8: several ids together still make a file name."""


def id_of(text: str) -> str:
    """The id that a text, such as a folder's name, stands for; empty when it has no letter or digit.

    Letters, digits and marks of any script, `.`, `_` and `-` are kept in Unicode's composed form (NFC), invisible
    characters are left out, and whatever else there is in a row becomes one `-`, none at the ends.
    """
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(character for character in composed if unicodedata.category(character) != "Cf")
    kept = "".join(character if is_kept(character) else " " for character in visible)
    return "-".join(kept.split()).lstrip("-._").rstrip("-")


def is_kept(character: str) -> bool:
    """Whether a character may be part of an id: a letter, digit or mark of any script, `.`, `_` or `-`."""
    return character in "._-" or unicodedata.category(character)[0] in "LMN"


def slug(text: str, otherwise: str = "") -> str:
    """The words of a text in lower case, joined by hyphens; `otherwise` where it has none."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or otherwise


def name_of(text: str, otherwise: str) -> str:
    """A text as a suite's or backbone's name: letters, digits, `.`, `_` and `-`, at most 64; `otherwise` for none."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
    return kept[:64] or otherwise
