"""Text of records made safe to show: what steers a terminal or reorders a line is spelled out."""

from __future__ import annotations

import unicodedata
from typing import Any

_SPELLED_OUT = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_KEPT = frozenset("\n\t\u200c\u200d")
"""Line ends and tabs of tracebacks; the joiners that scripts and emoji are written with."""


def visible(text: str) -> str:
    r"""The text with control, direction-changing and invisible characters (and half surrogates) written as \uXXXX.

    A prompt cannot ring a terminal, clear it or turn the line around it, and what a browser gets is valid UTF-8.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelled(character) for character in text)


def visible_data(data: Any) -> Any:
    """The same for every text in plain data (dicts with their keys, lists, tuples)."""
    if isinstance(data, str):
        return visible(data)
    if isinstance(data, dict):
        return {visible_data(key): visible_data(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [visible_data(value) for value in data]
    return data


def _spelled(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _SPELLED_OUT:
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
