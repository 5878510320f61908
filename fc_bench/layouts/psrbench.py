"""PSRBench (wang-shulei/PSR): `outputs/Action/0.png`, and the items with `result_path` as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fc_bench.errors import UserError
from fc_bench.layouts.benchmark import (
    THINGS,
    Benchmark,
    BenchmarkPrompt,
    BenchmarkSubject,
    chosen_subset,
    first_file,
    records_in,
    subject_id,
    with_slots,
)
from fc_bench.layouts.layout import Beside, Item, Layout, Photographs, Written, json_bytes


class PSRBench(Layout):
    """The category as the subset, and the number of the prompt in it, from 0.

    The scripts (eval/) read paths from a JSON file for each subset, which is written beside the images.
    """

    name = "psrbench"
    expects = "outputs/Action/0.png, Action.json"
    others = "prompt"
    pattern = re.compile(r"(?:outputs/)?(?P<item>[^/]+/(?:0|[1-9]\d{0,8}))")
    accompanying = re.compile(r"references/.*")

    def item_name(self, item: Item) -> str:
        """The subset and the number."""
        return f"{item.prompt.category}/{item.label_in_category}"

    def image_name(self, item: Item, index: int) -> str:
        """The subset and the number below `outputs`."""
        return f"outputs/{self.item_name(item)}"

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


_SUBSETS = ("Attribute", "Action", "Background", "Position", "Complex", "Three", "Four")


def read_benchmark(folder: Path, subset: str | None) -> Benchmark:
    """All subsets, or one: `Action.json` and so on, with the images below the folder."""
    part = None if subset is None else chosen_subset(subset, _SUBSETS)
    subjects: dict[str, BenchmarkSubject] = {}
    prompts = []
    for name in _SUBSETS:
        if part not in (None, name):
            continue
        for record in records_in(first_file(folder, f"{name}.json")):
            paths = record.texts("input_paths", "input_path")
            nouns = [record.text(f"category{number}") for number in range(1, len(paths) + 1)]
            ids = []
            for path, noun in zip(paths, nouns, strict=True):
                own = subject_id("-".join(Path(path).with_suffix("").parts[-2:]), record.where)
                found = subjects.setdefault(own, BenchmarkSubject(own, noun, (path.removeprefix("./"),)))
                if found.photographs != (path.removeprefix("./"),):
                    raise UserError(f"{record.where}: {path} and {found.photographs[0]} give the same id; rename one.")
                ids.append(own)
            order, template = with_slots(record.text("instruction"), nouns)
            prompts.append(BenchmarkPrompt(tuple(ids[number] for number in order), name, template))
    return Benchmark(
        name="psrbench" if part is None else f"psrbench-{part}",
        description="PSRBench: animals and things, two to four in an image.",
        license="not stated; not to be passed on",
        source="github.com/wang-shulei/PSR",
        citation="Wang et al., PSR: Scaling Multi-Subject Personalized Image Generation with Pairwise "
        "Subject-Consistency Rewards, arXiv 2512.01236, 2025",
        seed=0,
        metrics=THINGS,
        subjects=list(subjects.values()),
        prompts=prompts,
    )
