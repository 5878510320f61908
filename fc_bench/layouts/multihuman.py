"""MultiHuman-Testbench (Qualcomm-AI-research/MultiHuman-Testbench): `0.png`, `1.png` ..."""

from __future__ import annotations

import re
from pathlib import Path

from fc_bench.errors import UserError
from fc_bench.layouts.benchmark import (
    FACES,
    Benchmark,
    BenchmarkPrompt,
    BenchmarkSubject,
    first_file,
    records_in,
    subject_id,
)
from fc_bench.layouts.layout import Item, Layout


class MultiHuman(Layout):
    """The number of the prompt, from 0 (benchmarking/compute_scores.py)."""

    name = "multihuman"
    expects = "0.png"
    pattern = re.compile(r"(?P<item>0|[1-9]\d{0,8})")

    def image_name(self, item: Item, index: int) -> str:
        """The number."""
        return item.label


SIMPLE = 1500
"""The prompts before this number are simple, the others complex (benchmarking/compute_scores.py)."""


def read_benchmark(folder: Path, subset: str | None) -> Benchmark:
    """The benchmark in a clone of its repository with the faces downloaded (data/faces)."""
    records = records_in(first_file(folder, "data/multihuman_metadata.json", "multihuman_metadata.json"))
    subjects: dict[str, BenchmarkSubject] = {}
    prompts = []
    for number, record in enumerate(records):
        nouns, people = record.texts("identifier"), record.texts("people")
        if len(nouns) != len(people):
            raise UserError(f"{record.where}: {len(people)} people have {len(nouns)} class nouns; restore the file.")
        ids = []
        for noun, file in zip(nouns, people, strict=True):
            name = subject_id(Path(file).stem, record.where)
            found = BenchmarkSubject(name, noun, (file,), attributes={"gender": noun})
            if subjects.setdefault(name, found) != found:
                raise UserError(f"{record.where}: the face {file} has another class noun or folder before; restore it.")
            ids.append(name)
        category = "simple" if number < SIMPLE else "complex"
        prompts.append(BenchmarkPrompt(tuple(ids), category, record.text("prompt")))
    return Benchmark(
        name="multihuman",
        description="MultiHuman-Testbench: prompts for one to five people, whose texts name nobody.",
        license="MultiHuman-Testbench Dataset Research License (Qualcomm); faces of FFHQ, CelebA-HQ and SFHQ; not to "
        "be passed on",
        source="github.com/Qualcomm-AI-research/MultiHuman-Testbench",
        citation="Borse et al., MultiHuman-Testbench: Benchmarking Image Generation for Multiple Humans, "
        "arXiv 2506.20879, 2025",
        seed=878,
        metrics=("multihuman", *FACES),
        subjects=list(subjects.values()),
        prompts=prompts,
        resolution=1024,
        remarks=("Class nouns are the benchmark's own (man, woman).",),
    )
