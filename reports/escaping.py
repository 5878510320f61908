"""Escapes text of users and plug-ins (prompts, labels, file names) for each output format."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Any

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "–": "--",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "†": r"\textdagger{}",
    # At the start of a row the line break before it would take these for its own.
    "*": "{*}",
    "[": "{[}",
    "]": "{]}",
}
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True))
_SPELLED_OUT = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_KEPT = frozenset("\n\t\u200c\u200d")
"""Allowed control characters: line ends and tabs of tracebacks; joiners of scripts and emoji."""


def plain(text: str) -> str:
    """One line without control characters, terminal codes and characters that change the direction of writing."""
    return " ".join("".join(character if character.isprintable() else " " for character in str(text)).split())


def markdown(text: str) -> str:
    """For Markdown text and table cells: no markup, HTML, links or pictures, and no new column."""
    escaped = re.sub(r"([\\`|])", r"\\\1", plain(text)).replace("&", "&amp;").replace("<", "&lt;")
    return escaped.replace("](", "]\\(")


def latex(text: str) -> str:
    """For LaTeX text; a character without a glyph in pdflatex is written as its code point."""
    return "".join(_latex(character) for character in plain(text))


def html_text(text: str) -> str:
    """For HTML text and attribute values in quotes."""
    return html.escape(plain(text), quote=True)


def spreadsheet(text: str) -> str:
    """For a CSV cell: text that a spreadsheet would run as a formula begins with an apostrophe."""
    cleaned = plain(text)
    return f"'{cleaned}" if cleaned[:1] in ("=", "+", "-", "@") else cleaned


def file_name(text: str) -> str:
    """For one part of a file or folder name: letters, digits, `.`, `_` and `-`, without a leading dot."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-") or "-"


def visible(text: str) -> str:
    """The text with control, direction-changing and invisible characters (and half surrogates) written as \\uXXXX."""
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


def _latex(character: str) -> str:
    if character in _SUPERSCRIPTS:
        return rf"\textsuperscript{{{_SUPERSCRIPTS[character]}}}"
    if character in _LATEX:
        return _LATEX[character]
    return character if character.isascii() or "À" <= character <= "ž" else f"{{[}}U+{ord(character):04X}{{]}}"


def _spelled(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _SPELLED_OUT:
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
