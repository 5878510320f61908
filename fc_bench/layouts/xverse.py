"""XVerseBench (bytedance/XVerse) and UMO (bytedance/UMO): 2 x 2 grids `0_A_man_is_riding_a_motorcycle..png`."""

from __future__ import annotations

import re
from pathlib import Path

from fc_bench.layouts.layout import Item, Layout, same_words

SHOWN = 40
"""Characters of the prompt in a file's name."""


class XVerse(Layout):
    """The number of the prompt, from 0, and its beginning; four images of the prompt in a 2 x 2 grid, row by row.

    Their scripts find a file by its number and cut it into four (src/utils/data_utils.py, `split_grid`).
    """

    name = "xverse"
    expects = "0_a_man_riding_a_horse.png, a 2 x 2 grid"
    pattern = re.compile(r"(?P<item>0|[1-9]\d{0,8})(?P<text>_.*)?", re.DOTALL)
    images = 4
    grids = True

    def item_name(self, item: Item) -> str:
        """The number."""
        return str(item.number)

    def image_name(self, item: Item, index: int) -> str:
        """The number and the prompt's first 40 characters, with `_` for blanks and slashes."""
        return f"{item.number}_{re.sub(r'[ /]', '_', item.text[:SHOWN])}"

    def contradiction(self, folder: Path, file: Path, match: re.Match[str], item: Item) -> str:
        """The beginning of another prompt in the file's name."""
        text = match["text"]
        return "" if text is None or same_words(text, item.text[:SHOWN]) else text[1:].replace("_", " ")


class Umo(XVerse):
    """The grids that UMO's scripts write and read (eval/id_conf_xversebench.py)."""

    name = "umo"
