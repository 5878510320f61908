"""OmniContext (VectorSpaceLab/OmniGen2): `fullset/single_character/KEY.png`."""

from __future__ import annotations

import re
from pathlib import Path

from fc_bench.errors import UserError
from fc_bench.layouts.benchmark import (
    FACES,
    THINGS,
    Benchmark,
    BenchmarkPrompt,
    BenchmarkSubject,
    chosen_subset,
    content_of,
    first_file,
    records_in,
    subject_id,
)
from fc_bench.layouts.layout import Item, Layout
from fc_bench.suites.slugs import is_id


class OmniContext(Layout):
    """The category as the type of the task, and the key (omnicontext/test_omnicontext_score.py).

    The key is the prompt's name; without one it is the number of the prompt in its category, from 0.
    """

    name = "omnicontext"
    expects = "fullset/single_character/0001.png"
    others = "prompt"
    pattern = re.compile(r"(?:fullset/)?(?P<item>[^/]+/[^/]+)")

    def item_name(self, item: Item) -> str:
        """The task and the key."""
        return f"{item.prompt.category}/{item.label_in_category}"

    def image_name(self, item: Item, index: int) -> str:
        """The task and the key below `fullset`."""
        return f"fullset/{self.item_name(item)}"


_CHARACTER = ("single_character", "multi_character")
"""Tasks whose every input image shows a person."""


def read_benchmark(folder: Path, subset: str | None) -> Benchmark:
    """All tasks, or one, of a copy with its images as files: `metadata.jsonl`, `metadata.json` or `data.jsonl`.

    Each item has `key`, `task_type`, `instruction` and `input_images`, paths below the folder or below
    `images/TASK`; instructions in other languages than English are left out.
    """
    records = records_in(first_file(folder, "metadata.jsonl", "metadata.json", "data.jsonl"))
    english = [one for one in records if one.content.get("instruction_language", "en") == "en"]
    tasks = list(dict.fromkeys(record.text("task_type") for record in english))
    part = None if subset is None else chosen_subset(subset, tasks)
    subjects: list[BenchmarkSubject] = []
    prompts = []
    seen: dict[tuple[str, str], str] = {}
    contents: list[str] = []
    for record in english:
        task, key = record.text("task_type"), str(record.content.get("key", record.content.get("id", "")))
        if part not in (None, task):
            continue
        if (task, key) in seen:
            raise UserError(f'{record.where}: the key "{key}" of {task} is also that of {seen[task, key]}; restore it.')
        seen[task, key] = record.where
        noun = "person" if "character" in task else "thing"
        ids = []
        for number, file in enumerate(record.texts("input_images", "ori_img"), start=1):
            name = f"{key}.{number}"
            if not is_id(name):
                raise UserError(f'{record.where}: the key "{key[:80]}" is no name of a file; correct it.')
            ids.append(name)
            path = file if (folder / file).is_file() else f"images/{task}/{file}"
            subjects.append(BenchmarkSubject(name, noun, (path,)))
            contents.append(content_of(folder / path))
        prompts.append(BenchmarkPrompt(tuple(ids), task, record.text("instruction", "ins_en"), name=key))
    repeated = len(subjects) - len({subject.id for subject in subjects})
    if repeated:
        raise UserError("Items of several tasks have the same key; choose one task with --subset.")
    faces = all(prompt.category in _CHARACTER for prompt in prompts)
    return Benchmark(
        name="omnicontext" if part is None else f"omnicontext-{subject_id(part, part)}",
        description="OmniContext: instructions for given images of people, objects and scenes; the texts name nobody.",
        license="not stated in the authors' repository; not to be passed on",
        source="huggingface.co/datasets/OmniGen2/OmniContext",
        citation="Wu et al., OmniGen2: Exploration to Advanced Multimodal Generation, arXiv 2506.18871, 2025",
        seed=0,
        metrics=("xverse", *FACES) if faces else THINGS,
        subjects=subjects,
        prompts=prompts,
        resolution=1024,
        remarks=(
            *(
                (
                    f"{shared} images are those of several items; `run` and `score` refuse people who share a "
                    "photograph, so import one task at a time with --subset.",
                )
                if (shared := len(contents) - len(set(contents)))
                else ()
            ),
            "The benchmark has no class nouns: those of tasks with characters are person, the others thing.",
            f"{len(records) - len(english)} instructions are not in English and are left out.",
        ),
    )
