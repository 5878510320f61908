"""DreamBench++ (yuangpeng/dreambench_plus): `src_image`, `tgt_image` and `text`, each with `ID/PROMPT_IMAGE`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fc_bench.errors import UserError
from fc_bench.layouts.benchmark import THINGS, Benchmark, BenchmarkPrompt, BenchmarkSubject, chosen_subset, with_slots
from fc_bench.layouts.layout import Beside, Item, Layout, Photographs, Written, same_words
from fc_bench.model.pictures import image_files
from fc_bench.suites.slugs import is_id


class DreamBenchPlus(Layout):
    """The subject's id, and the numbers, from 0, of its prompt and of the image of that prompt.

    Their scripts require equally many reference images, generated images and texts with equal names
    (dreambench_plus/metrics/clip_score.py), in PNG or JPEG.
    """

    name = "dreambench-plus"
    expects = "tgt_image/ID/0_0.png, src_image/ID/0_0.png, text/ID/0_0.txt"
    others = "subject's prompt"
    pattern = re.compile(r"tgt_image/(?P<item>[^/]+/(?:0|[1-9]\d{0,8}))_(?P<image>0|[1-9]\d{0,8})")
    accompanying = re.compile(r"src_image/.*")
    images = None

    def item_name(self, item: Item) -> str:
        """The subject set's key and the number of its prompt."""
        return f"{item.subject_set.key}/{item.prompt_number}"

    def image_name(self, item: Item, index: int) -> str:
        """The path below `tgt_image`."""
        return f"tgt_image/{self.item_name(item)}_{index}"

    def refused_count(self, folder: Path, files: int, items: int) -> str:
        """Other numbers of references or texts than of images."""
        there = (folder / "src_image").is_dir()
        references = sum(1 for _ in image_files(folder / "src_image", below=True)) if there else 0
        texts = sum(1 for _ in (folder / "text").rglob("*.txt"))
        return "" if files == references == texts else f"{files} images with {references} references and {texts} texts"

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


_CATEGORIES = ("animal", "human", "object", "style")
_KINDS = {"photorealistic": range(0, 4), "style-transfer": range(4, 7), "imaginative": range(7, 9)}
"""Kind of a prompt by its number (dreambench_plus/benchmarking.py)."""


def read_benchmark(folder: Path, subset: str | None) -> Benchmark:
    """All categories of subjects, or one: `images/CATEGORY/00.jpg` with `captions/CATEGORY/00.txt`.

    The first line of a caption file is the subject's class, the others are its prompts.
    """
    part = None if subset is None else chosen_subset(subset, _CATEGORIES)
    base = next((place for place in (folder, folder / "data") if (place / "captions").is_dir()), None)
    if base is None:
        raise UserError(f"{folder} has no folder captions; give the benchmark's folder `data`.")
    subjects = []
    prompts = []
    for captions in sorted((base / "captions").rglob("*.txt")):
        category = captions.parent.name
        if part not in (None, category):
            continue
        try:
            first, *texts = [line.strip() for line in captions.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeError) as error:
            raise UserError(f"{captions} cannot be read ({error}); restore it.") from None
        except ValueError:
            raise UserError(f"{captions} is empty; restore it.") from None
        kind = f"live_subject_{category}" if category in ("animal", "human") else category
        name = f"{kind}_{captions.stem}_{first.lower().replace(' ', '_')}"
        if not is_id(name):
            raise UserError(f'{captions}: the class "{first[:80]}" is no part of a file name; correct it.')
        image = captions.relative_to(base / "captions").with_suffix(".jpg")
        path = (base / "images" / image).relative_to(folder).as_posix()
        subjects.append(BenchmarkSubject(name, first, (path,), attributes={"kind": category}))
        for number, text in enumerate(texts):
            own = next((kind for kind, numbers in _KINDS.items() if number in numbers), None)
            if own is None:
                raise UserError(f"{captions} has {len(texts)} prompts, the benchmark nine; restore it.")
            prompts.append(BenchmarkPrompt((name,), own, with_slots(" ".join(text.split()), [first])[1]))
    if not subjects:
        raise UserError(f"{base / 'captions'} has no caption files; restore it.")
    return Benchmark(
        name="dreambench-plus" if part is None else f"dreambench-plus-{part}",
        description="DreamBench++: animals, humans, objects and styles with nine prompts each.",
        license="verified by its authors for academic suitability; not to be passed on",
        source="github.com/yuangpeng/dreambench_plus",
        citation="Peng et al., DreamBench++: A Human-Aligned Benchmark for Personalized Image Generation, ICLR 2025",
        seed=42,
        metrics=THINGS,
        subjects=subjects,
        prompts=prompts,
    )
