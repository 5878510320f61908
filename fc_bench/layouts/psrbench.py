"""PSRBench (wang-shulei/PSR): `outputs/Action/0.png`, and the items with `result_path` as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fc_bench.layouts.layout import Beside, Item, Layout, Photographs, Unknown, Written, json_bytes
from fc_bench.suites.suite import Suite


class PSRBench(Layout):
    """The category as the subset, and the number of the prompt in it, from 0.

    The scripts (eval/) read paths from a JSON file for each subset, which is written beside the images.
    """

    name = "psrbench"
    expects = "outputs/Action/0.png, Action.json"
    pattern = re.compile(r"(?:outputs/)?(?P<item>[^/]+/(?:0|[1-9]\d{0,8}))")
    accompanying = re.compile(r"references/.*")

    def item_name(self, item: Item) -> str:
        """The subset and the number."""
        return f"{item.prompt.category}/{item.category_number}"

    def image_name(self, item: Item, index: int) -> str:
        """The subset and the number below `outputs`."""
        return f"outputs/{self.item_name(item)}"

    def unknown(self, file: str, match: re.Match[str], suite: Suite, items: int) -> Unknown:
        """Images of subsets that the suite does not have are left out."""
        return Unknown(f"{file} is no prompt of the suite {suite.file.name}", refused=False)

    def beside(self, written: Sequence[Written], photographs: Photographs) -> Iterator[Beside]:
        """`SUBSET.json` with instruction, input paths, categories and the path of the result."""
        subsets: dict[str, list[dict[str, object]]] = {}
        used: dict[str, str] = {}
        for one in written:
            subjects = one.item.subject_set.subjects
            paths = []
            for subject in subjects:
                if subject.id in photographs.references:
                    used[subject.id] = f"references/{subject.id}"
                    paths.append(f"references/{subject.id}{self.suffix}")
            record: dict[str, object] = {"instruction": one.item.text, "input_path": paths, "input_paths": paths}
            record |= {f"category{number}": subject.noun for number, subject in enumerate(subjects, start=1)}
            record["result_path"] = f"{one.file}{self.suffix}"
            subsets.setdefault(one.item.prompt.category, []).append(record)
        for name, records in subsets.items():
            yield Beside(f"{name}.json", json_bytes(records))
        for subject, file in used.items():
            yield Beside(file, photographs.references[subject])
