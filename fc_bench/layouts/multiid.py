"""MultiID-Bench (Doby-Xu/WithAnyone): a folder for each item with `out`, `ori`, `ref_1` ... and `meta.json`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fc_bench.errors import UserError
from fc_bench.layouts.benchmark import (
    FACES,
    Benchmark,
    BenchmarkPrompt,
    BenchmarkSubject,
    Record,
    chosen_subset,
    content_of,
    records_in,
    subject_id,
)
from fc_bench.layouts.layout import (
    Beside,
    Item,
    Layout,
    Photographs,
    Written,
    json_bytes,
    read_json,
    same_words,
)

NOUN = "person"
"""Class noun of every subject: the benchmark has none."""


class MultiID(Layout):
    """The prompt's name, or else its number, from 0.

    Their script takes the files' names as arguments (MultiID-Bench/eval.py), so files are PNG; their folders hold
    `out.jpg`.
    """

    name = "multiid"
    expects = "0001/out.png, 0001/ori.png, 0001/ref_1.png, 0001/meta.json"
    others = "item"
    pattern = re.compile(r"(?P<item>[^/]+)/out")
    accompanying = re.compile(r"[^/]+/(?:ori|ref_\d+)")

    def image_name(self, item: Item, index: int) -> str:
        """`out` in the item's folder."""
        return f"{self.item_name(item)}/out"

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
            target = photographs.targets.get((one.item.subject_set.key, one.item.prompt.template))
            if target is not None:
                yield Beside(f"{folder}/ori", target)


def name_of(target: Path) -> str:
    """The item's name from its target: `num_3/0123.jpg` is num_3_0123, `0001.jpg` and `0001/ori.jpg` are 0001."""
    if target.stem == "ori":
        return target.parent.name
    return f"{target.parent.name}_{target.stem}" if re.fullmatch(r"num_\d+", target.parent.name) else target.stem


_SUBSETS = {"p1": "p1/untar", "p2": "p2/untar", "p3": "p3"}
"""Each subset and the folder of its images, as the authors' hf2bench.py writes them."""


def read_benchmark(folder: Path, subset: str | None) -> Benchmark:
    """The subsets p1, p2 and p3, or one of them, as the authors' hf2bench.py writes them.

    A folder with `ori`, `ref_1` ... and `meta.json` for each item, as their generating script leaves it, is read, too.
    """
    there = [name for name in _SUBSETS if (folder / f"{name}.json").is_file()]
    parts = there if subset is None else [chosen_subset(subset, list(_SUBSETS))]
    records = [(part, record, _SUBSETS[part]) for part in parts for record in records_in(folder / f"{part}.json")] or [
        (f"p{min(len(record.content['image_paths']), 3)}", record, "") for record in _items_in(folder)
    ]
    subjects: dict[str, BenchmarkSubject] = {}
    prompts = []
    for part, record, below in records:
        target = f"{below}/{record.text('ori_img_path')}".lstrip("/")
        key = name_of(Path(target))
        ids = []
        for number, file in enumerate(record.texts("image_paths"), start=1):
            path = f"{below}/{file}".lstrip("/")
            found = BenchmarkSubject(subject_id(f"{key}.{number}", record.where), NOUN, (path,))
            ids.append(subjects.setdefault(content_of(folder / path), found).id)
        prompts.append(BenchmarkPrompt(tuple(ids), part, record.text("prompt"), target, key))
    return Benchmark(
        name="multiid" if subset is None else f"multiid-{subset}",
        description="MultiID-Bench: prompts for one to four people with a photograph that matches each; the texts name "
        "nobody.",
        license="non-commercial research; celebrities; not to be passed on",
        source="huggingface.co/datasets/WithAnyone/MultiID-Bench",
        citation="Xu et al., WithAnyone: Towards Controllable and ID-Consistent Image Generation, "
        "arXiv 2510.14975, 2025",
        seed=1234,
        metrics=("multiid", "copy-paste", *FACES),
        subjects=list(subjects.values()),
        prompts=prompts,
        resolution=512,
        remarks=(
            f"The benchmark has no class nouns: every subject is a {NOUN}.",
            "The boxes of faces in its metadata are not taken over.",
            "Items with the same reference file share a subject; another photograph of a person is another subject.",
        ),
    )


def _items_in(folder: Path) -> list[Record]:
    """The items that have folders of their own; raises UserError if there is none."""
    found = []
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and (path / "meta.json").is_file()):
        meta = read_json(place / "meta.json")
        names = sorted(file.name for file in place.iterdir() if file.is_file())
        target = next((name for name in names if Path(name).stem == "ori"), None)
        references = [name for name in names if re.fullmatch(r"ref_\d+", Path(name).stem)]
        if not isinstance(meta, dict) or target is None or not references:
            raise UserError(f"{place} has no prompt, no target or no reference; restore it.")
        paths = [f"{place.name}/{name}" for name in references]
        content = {**meta, "image_paths": paths, "ori_img_path": f"{place.name}/{target}"}
        found.append(Record(content, str(place / "meta.json")))
    if not found:
        raise UserError(
            f"{folder} has neither p1.json, p2.json nor p3.json, nor folders with a meta.json; write them with the "
            "authors' hf2bench.py."
        )
    return found
