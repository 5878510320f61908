"""Names made of texts that people wrote."""

import re


def slug(text: str, otherwise: str = "") -> str:
    """The words of a text in lower case, joined by hyphens; `otherwise` where it has none."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or otherwise


def name_of(text: str, otherwise: str) -> str:
    """A text as a suite's or backbone's name: letters, digits, `.`, `_` and `-`, at most 64; `otherwise` for none."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
    return kept[:64] or otherwise
