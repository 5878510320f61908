"""OmniContext (VectorSpaceLab/OmniGen2): `fullset/single_character/KEY.png`."""

from __future__ import annotations

import re

from fc_bench.layouts.layout import Item, Layout, Unknown
from fc_bench.suites.suite import Suite

_PART_OF_ITEM = re.compile(r"(?P<key>.+)\.\d+")


class OmniContext(Layout):
    """The category as the type of the task, and the key (omnicontext/test_omnicontext_score.py).

    The key is what the ids of the item's subjects, `KEY.1`, `KEY.2` ..., have in common; in a suite with other ids it
    is the number of the prompt in its category, from 0.
    """

    name = "omnicontext"
    expects = "fullset/single_character/0001.png"
    pattern = re.compile(r"(?:fullset/)?(?P<item>[^/]+/[^/]+)")

    def item_name(self, item: Item) -> str:
        """The task and the key."""
        return f"{item.prompt.category}/{key_of(item) or item.category_number}"

    def image_name(self, item: Item, index: int) -> str:
        """The task and the key below `fullset`."""
        return f"fullset/{self.item_name(item)}"

    def unknown(self, file: str, match: re.Match[str], suite: Suite, items: int) -> Unknown:
        """Other files, such as the single images beside UMO's joined ones, are left out."""
        return Unknown(f"{file} is no prompt of the suite {suite.file.name}", refused=False)


def key_of(item: Item) -> str:
    """What the subjects' ids have in common before their numbers; empty if they are no such ids."""
    parts = [_PART_OF_ITEM.fullmatch(subject.id) for subject in item.subject_set.subjects]
    keys = {part["key"] if part else "" for part in parts}
    return keys.pop() if len(keys) == 1 else ""
