"""DreamBench++ (yuangpeng/dreambench_plus): `src_image`, `tgt_image` and `text`, each with `ID/PROMPT_IMAGE`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fc_bench.errors import UserError
from fc_bench.layouts.layout import Beside, Item, Layout, Photographs, Unknown, Written, same_words
from fc_bench.suites.suite import Suite


class DreamBenchPlus(Layout):
    """The subject's id, and the numbers, from 0, of its prompt and of the image of that prompt.

    Their scripts require equally many reference images, generated images and texts with equal names
    (dreambench_plus/metrics/clip_score.py), in PNG or JPEG.
    """

    name = "dreambench-plus"
    expects = "tgt_image/ID/0_0.png, src_image/ID/0_0.png, text/ID/0_0.txt"
    pattern = re.compile(r"tgt_image/(?P<item>[^/]+/(?:0|[1-9]\d{0,8}))_(?P<image>0|[1-9]\d{0,8})")
    accompanying = re.compile(r"src_image/.*")
    images = None

    def item_name(self, item: Item) -> str:
        """The subject set's key and the number of its prompt."""
        return f"{item.subject_set.key}/{item.prompt_number}"

    def image_name(self, item: Item, index: int) -> str:
        """The path below `tgt_image`."""
        return f"tgt_image/{self.item_name(item)}_{index}"

    def unknown(self, file: str, match: re.Match[str], suite: Suite, items: int) -> Unknown:
        """Images of other subjects are left out."""
        return Unknown(f"{file} is no subject's prompt of the suite {suite.file.name}", refused=False)

    def contradiction(self, folder: Path, file: Path, match: re.Match[str], item: Item) -> str:
        """Another text in the image's text file."""
        name = folder / "text" / f"{match['item']}_{match['image']}.txt"
        if not name.is_file():
            return ""
        try:
            text = name.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise UserError(f"{name} cannot be read ({error}); restore it or delete it.") from None
        return "" if same_words(text, item.text) else text

    def beside(self, written: Sequence[Written], photographs: Photographs) -> Iterator[Beside]:
        """The prompt and the reference of each image, and an empty negative prompt."""
        for one in written:
            name = one.file.partition("/")[2]
            yield Beside(f"text/{name}.txt", one.item.text.encode())
            first = one.item.subject_set.subjects[0].id
            if first in photographs.references:
                yield Beside(f"src_image/{name}", photographs.references[first])
        yield Beside("negative_prompt.txt", b"")
