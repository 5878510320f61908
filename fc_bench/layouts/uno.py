"""UNO (bytedance/UNO): `0_0.png`, `0_1.png` ..."""

from __future__ import annotations

import re

from fc_bench.layouts.layout import Item, Layout


class Uno(Layout):
    """Numbers, from 0, of the prompt and of its image (inference.py)."""

    name = "uno"
    expects = "0_0.png"
    pattern = re.compile(r"(?P<item>0|[1-9]\d{0,8})_(?P<image>0|[1-9]\d{0,8})")
    images = None

    def item_name(self, item: Item) -> str:
        """The number of the prompt."""
        return str(item.number)

    def image_name(self, item: Item, index: int) -> str:
        """Both numbers."""
        return f"{item.number}_{index}"
