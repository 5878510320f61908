"""Text files as other programs leave them."""

import codecs
from pathlib import Path

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(path: Path) -> str:
    """UTF-16 or UTF-32 where the file's byte order mark says so, otherwise UTF-8 with or without one."""
    with path.open("rb") as file:
        begin = file.read(4)
    return next((encoding for mark, encoding in _MARKS if begin.startswith(mark)), "utf-8-sig")
