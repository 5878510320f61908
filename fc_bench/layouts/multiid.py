"""MultiID-Bench (Doby-Xu/WithAnyone): a folder for each item with `out`, `ori`, `ref_1` ... and `meta.json`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fc_bench.layouts.layout import (
    Beside,
    Item,
    Layout,
    Photographs,
    Unknown,
    Written,
    json_bytes,
    read_json,
    same_words,
)
from fc_bench.suites.suite import Suite


class MultiID(Layout):
    """The item's id, which is that of its target, or else the number of the prompt, from 0.

    Their script takes the files' names as arguments (MultiID-Bench/eval.py), so files are PNG; their folders hold
    `out.jpg`.
    """

    name = "multiid"
    expects = "0001/out.png, 0001/ori.png, 0001/ref_1.png, 0001/meta.json"
    pattern = re.compile(r"(?P<item>[^/]+)/out")
    accompanying = re.compile(r"[^/]+/(?:ori|ref_\d+)")

    def item_name(self, item: Item) -> str:
        """The target's path without its suffix, with `_` for slashes, as their generating script names folders."""
        target = getattr(item.prompt, "target", None)
        return target.partition(".")[0].replace("/", "_") if target else str(item.number)

    def image_name(self, item: Item, index: int) -> str:
        """`out` in the item's folder."""
        return f"{self.item_name(item)}/out"

    def unknown(self, file: str, match: re.Match[str], suite: Suite, items: int) -> Unknown:
        """Images of other items are left out."""
        return Unknown(f"{file} is no item of the suite {suite.file.name}", refused=False)

    def contradiction(self, folder: Path, file: Path, match: re.Match[str], item: Item) -> str:
        """Another prompt in `meta.json`."""
        meta = file.parent / "meta.json"
        content = read_json(meta) if meta.is_file() else {}
        text = content.get("prompt") if isinstance(content, dict) else None
        return "" if not isinstance(text, str) or same_words(text, item.text) else text

    def beside(self, written: Sequence[Written], photographs: Photographs) -> Iterator[Beside]:
        """The prompt, the references and the target of each item."""
        for one in written:
            folder = one.file.rpartition("/")[0]
            yield Beside(f"{folder}/meta.json", json_bytes({"prompt": one.item.text}))
            for number, subject in enumerate(one.item.subject_set.subjects, start=1):
                if subject.id in photographs.references:
                    yield Beside(f"{folder}/ref_{number}", photographs.references[subject.id])
            target = getattr(one.item.prompt, "target", None)
            if target is not None and target in photographs.targets:
                yield Beside(f"{folder}/ori", photographs.targets[target])
