"""Text of users and plug-ins (prompts, labels, file names) made safe for what it is put into."""

from __future__ import annotations

import html
import re

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
    # At the start of a row the line break before it would take these for its own.
    "*": "{*}",
    "[": "{[}",
    "]": "{]}",
}
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True))


def plain(text: str) -> str:
    """On one line, without control characters, terminal codes and characters that turn the direction of writing."""
    return " ".join("".join(character if character.isprintable() else " " for character in str(text)).split())


def markdown(text: str) -> str:
    """For Markdown text and table cells: no markup, no HTML, no link or picture, no new column."""
    escaped = re.sub(r"([\\`|])", r"\\\1", plain(text)).replace("&", "&amp;").replace("<", "&lt;")
    return escaped.replace("](", "]\\(")


def latex(text: str) -> str:
    """For LaTeX text; what pdflatex has no glyph for is written as its code point."""
    return "".join(_latex(character) for character in plain(text))


def html_text(text: str) -> str:
    """For HTML text and attribute values in quotes."""
    return html.escape(plain(text), quote=True)


def spreadsheet(text: str) -> str:
    """For a CSV cell: what a spreadsheet would run as a formula begins with an apostrophe."""
    cleaned = plain(text)
    return f"'{cleaned}" if cleaned[:1] in ("=", "+", "-", "@") else cleaned


def _latex(character: str) -> str:
    if character in _SUPERSCRIPTS:
        return rf"\textsuperscript{{{_SUPERSCRIPTS[character]}}}"
    if character in _LATEX:
        return _LATEX[character]
    return character if character.isascii() or "À" <= character <= "ž" else f"[U+{ord(character):04X}]"
