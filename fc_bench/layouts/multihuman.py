"""MultiHuman-Testbench (Qualcomm-AI-research/MultiHuman-Testbench): `0.png`, `1.png` ..."""

from __future__ import annotations

import re

from fc_bench.layouts.layout import Item, Layout


class MultiHuman(Layout):
    """The number of the prompt, from 0 (benchmarking/compute_scores.py)."""

    name = "multihuman"
    expects = "0.png"
    pattern = re.compile(r"(?P<item>0|[1-9]\d{0,8})")

    def item_name(self, item: Item) -> str:
        """The number."""
        return str(item.number)

    def image_name(self, item: Item, index: int) -> str:
        """The number."""
        return str(item.number)
