"""UNO (bytedance/UNO): `0_0.png`, `0_1.png` ..."""

from __future__ import annotations

import re
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
from fc_bench.layouts.dreambooth import CITATION, LICENSE, classes_in
from fc_bench.layouts.layout import Item, Layout
from fc_bench.model.yaml_file import nearest


class Uno(Layout):
    """Numbers, from 0, of the prompt and of its image (inference.py)."""

    name = "uno"
    expects = "0_0.png"
    pattern = re.compile(r"(?P<item>0|[1-9]\d{0,8})_(?P<image>0|[1-9]\d{0,8})")
    images = None

    def image_name(self, item: Item, index: int) -> str:
        """Both numbers."""
        return f"{item.label}_{index}"


_LISTS = {"single": "dreambench_singleip.json", "multi": "dreambench_multiip.json"}


def read_benchmark(folder: Path, subset: str | None) -> Benchmark:
    """The list `single` or `multi` in UNO's folder `datasets`, with DreamBooth's photographs in `dreambooth`."""
    part = chosen_subset(subset, list(_LISTS))
    file = first_file(folder, _LISTS[part], f"datasets/{_LISTS[part]}")
    below = "" if file.parent == folder else "datasets/"
    nouns = classes_in(first_file(file.parent, "dreambooth/dataset/prompts_and_classes.txt"))
    subjects: dict[str, BenchmarkSubject] = {}
    prompts = []
    for record in records_in(file):
        ids = []
        for path in record.texts("image_paths"):
            name = subject_id(Path(path).parent.name, record.where)
            if name not in nouns:
                raise UserError(f"{record.where}: {path} is no subject of DreamBooth; {nearest(name, nouns)}")
            found = BenchmarkSubject(name, nouns[name], (below + path.removeprefix("./"),))
            if subjects.setdefault(name, found) != found:
                raise UserError(f"{record.where}: {name} has another photograph before; restore the file.")
            ids.append(name)
        text = record.text("prompt")
        order, template = with_slots(text, [nouns[name] for name in ids])
        prompts.append(BenchmarkPrompt(tuple(ids[number] for number in order), part, template))
    return Benchmark(
        name=f"uno-{part}",
        description=f"UNO's list of DreamBench prompts ({part}), with one photograph of each subject.",
        license=LICENSE,
        source="github.com/bytedance/UNO (datasets), github.com/google/dreambooth",
        citation=f"Wu et al., Less-to-More Generalization: Unlocking More Controllability by In-Context "
        f"Generation, arXiv 2504.02160, 2025; {CITATION}",
        seed=3407,
        metrics=THINGS,
        subjects=list(subjects.values()),
        prompts=prompts,
        resolution=512,
    )
