"""FastComposer's own evaluation (mit-han-lab/fastcomposer): `subject_SSSS_prompt_PPPP_instance_IIII.jpg`."""

from __future__ import annotations

import re

from fc_bench.layouts.layout import Item, Layout, Unknown, numbered
from fc_bench.suites.authors_order import in_authors_order
from fc_bench.suites.suite import Suite


class FastComposer(Layout):
    """Numbers, from 0, of the subject set and of the prompt in the authors' order, and of the image of that prompt.

    Their script (evaluation/single_object/single_object_evaluation.py) opens these names alone, so files are JPEG.
    """

    name = "fastcomposer"
    expects = "subject_0000_prompt_0000_instance_0000.jpg"
    pattern = re.compile(r"(?P<item>subject_(?P<set>\d{4,9})_prompt_(?P<prompt>\d{4,9}))_instance_(?P<image>\d{4,9})")
    images = None
    jpeg = True

    def items(self, suite: Suite) -> list[Item]:
        """All prompts of a suite, in the authors' order."""
        return numbered(in_authors_order(suite))

    def item_name(self, item: Item) -> str:
        """`subject_SSSS_prompt_PPPP`."""
        return f"subject_{item.set_number:04d}_prompt_{item.prompt_number:04d}"

    def image_name(self, item: Item, index: int) -> str:
        """`subject_SSSS_prompt_PPPP_instance_IIII`."""
        return f"{self.item_name(item)}_instance_{index:04d}"

    def unknown(self, file: str, match: re.Match[str], suite: Suite, items: int) -> Unknown:
        """A set that is not there is left out, a prompt of a set that is there is refused."""
        sets, number = in_authors_order(suite), int(match["set"])
        if number >= len(sets):
            return Unknown(f"{file} belongs to subject set {number}, but the suite has {len(sets)} (from 0)", False)
        key, prompts = sets[number][0].key, len(sets[number][1])
        return Unknown(
            f"{file} belongs to prompt {int(match['prompt'])}, but the suite has {prompts} for {key} (from 0)", True
        )
