"""Encodings of text files from other programs."""

import codecs
from pathlib import Path

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(path: Path) -> str:
    """The encoding of a text file: UTF-16 or UTF-32 if its byte order mark says so, otherwise UTF-8."""
    with path.open("rb") as file:
        begin = file.read(4)
    return next((encoding for mark, encoding in _MARKS if begin.startswith(mark)), "utf-8-sig")
