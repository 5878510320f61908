"""CustomConcept101 (adobe-research/custom-diffusion): for each concept `samples/*.png` and `prompts.json`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fc_bench.errors import UserError
from fc_bench.layouts.layout import (
    Beside,
    Item,
    Layout,
    Photographs,
    Unknown,
    Written,
    json_bytes,
    numbered,
    read_json,
    same_words,
)
from fc_bench.suites.suite import Suite


class CustomConcept101(Layout):
    """A folder for each concept or pair of concepts (ids in alphabetical order, joined by `+`); in it, the numbers,
    from 0, of the prompt and of its image.

    Their script (customconcept101/evaluate.py) reads one such folder; `prompts.json` has the text of each image.
    """

    name = "customconcept101"
    expects = "ID/samples/0000_0.png, ID/prompts.json"
    pattern = re.compile(r"(?P<item>[^/]+/samples/\d{4,9})_(?P<image>\d{1,9})")
    images = None

    def items(self, suite: Suite) -> list[Item]:
        """All prompts of a suite; `category_number` counts those of a folder."""
        counts: dict[str, int] = {}
        items = []
        for item in numbered(suite.subject_sets()):
            number = counts.get(folder_of(item), 0)
            counts[folder_of(item)] = number + 1
            items.append(Item(item.subject_set, item.prompt, item.number, item.set_number, item.prompt_number, number))
        return items

    def item_name(self, item: Item) -> str:
        """The folder and the number of the prompt in it."""
        return f"{folder_of(item)}/samples/{item.category_number:04d}"

    def image_name(self, item: Item, index: int) -> str:
        """The path of an image."""
        return f"{self.item_name(item)}_{index}"

    def unknown(self, file: str, match: re.Match[str], suite: Suite, items: int) -> Unknown:
        """Images of other concepts are left out."""
        return Unknown(f"{file} is no concept's prompt of the suite {suite.file.name}", refused=False)

    def contradiction(self, folder: Path, file: Path, match: re.Match[str], item: Item) -> str:
        """Another text in `prompts.json`."""
        texts = self._texts(file.parent.parent / "prompts.json")
        text = re.sub(r"<new\d+>", "", texts.get(file.stem, ""))
        return "" if not text or same_words(text, item.text) else text

    def _texts(self, file: Path) -> dict[str, str]:
        """Stem -> text of a concept's images; a file that is not there says nothing."""
        if not file.is_file():
            return {}
        content = read_json(file)
        if not isinstance(content, dict) or not all(isinstance(text, str) for text in content.values()):
            raise UserError(f"{file} does not map names of images to prompts; restore it.")
        return content

    def beside(self, written: Sequence[Written], photographs: Photographs) -> Iterator[Beside]:
        """`prompts.json` of each concept."""
        texts: dict[str, dict[str, str]] = {}
        for one in written:
            folder, _, stem = one.file.partition("/samples/")
            texts.setdefault(folder, {})[stem] = one.item.text
        for folder, own in texts.items():
            yield Beside(f"{folder}/prompts.json", json_bytes(own))


def folder_of(item: Item) -> str:
    """The folder of an item's concepts, whatever their order in the prompt."""
    return "+".join(sorted(subject.id for subject in item.subject_set.subjects))
