"""CustomConcept101 (adobe-research/custom-diffusion): for each concept `samples/*.png` and `prompts.json`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fc_bench.errors import UserError
from fc_bench.layouts.benchmark import (
    THINGS,
    Benchmark,
    BenchmarkPrompt,
    BenchmarkSubject,
    Record,
    chosen_subset,
    first_file,
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
    numbered,
    read_json,
    same_words,
)
from fc_bench.model.pictures import image_files
from fc_bench.suites.suite import Suite


class CustomConcept101(Layout):
    """A folder for each concept or pair of concepts (ids in alphabetical order, joined by `+`); in it, the numbers,
    from 0, of the prompt and of its image.

    Their script (customconcept101/evaluate.py) reads one such folder; `prompts.json` has the text of each image.
    """

    name = "customconcept101"
    expects = "ID/samples/0000_0.png, ID/prompts.json"
    others = "concept's prompt"
    pattern = re.compile(r"(?P<item>[^/]+/samples/\d{4,9})_(?P<image>\d{1,9})")
    images = None

    def items(self, suite: Suite) -> list[Item]:
        """All prompts of a suite; `category_number` counts those of a folder."""
        counts: dict[str, int] = {}
        items = []
        for item in numbered(suite.subject_sets(), suite.file):
            number = counts.get(folder_of(item), 0)
            counts[folder_of(item)] = number + 1
            items.append(replace(item, category_number=number))
        return items

    def item_name(self, item: Item) -> str:
        """The folder and the number of the prompt in it."""
        return f"{folder_of(item)}/samples/{item.category_number:04d}"

    def image_name(self, item: Item, index: int) -> str:
        """The path of an image."""
        return f"{self.item_name(item)}_{index}"

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


def read_benchmark(folder: Path, subset: str | None) -> Benchmark:
    """The part `single` or `multi` in a clone's folder customconcept101, with `benchmark_dataset` in it."""
    part = chosen_subset(subset, ("single", "multi"))
    file = first_file(folder, "dataset.json" if part == "single" else "dataset_multiconcept.json")
    subjects: dict[str, BenchmarkSubject] = {}
    prompts = []
    if part == "single":
        for record in records_in(file):
            subject = _concept(folder, record, subjects)
            for text in _prompts_in(folder, record.text("prompt_filename"), record.where):
                prompts.append(_composed(text.replace("{}", "{0}"), [subject], part))
    else:
        content = read_json(file)
        if not isinstance(content, list) or not all(isinstance(one, list) for one in content):
            raise UserError(f"{file} is no list of lists of concepts; restore it.")
        for number, entries in enumerate(content):
            where = f"{file}, item {number} (from 0)"
            if not all(isinstance(entry, dict) for entry in entries) or len(entries) < 3:
                raise UserError(f"{where} is no list of concepts with their prompts; restore the file.")
            *concepts, last = [Record(entry, where) for entry in entries]
            own = [_concept(folder, concept, subjects) for concept in concepts]
            for text in _prompts_in(folder, last.text("prompt_filename_compose"), where):
                prompts.append(_composed(text, own, part))
    nameless = sum("{1}" not in prompt.template for prompt in prompts)
    return Benchmark(
        name=f"customconcept101-{part}",
        description=f"CustomConcept101 ({part}): things, scenes, pets and people with ten to twenty prompts each.",
        license="Unsplash License, CC BY-SA 4.0, Flickr and Wikimedia; repository: Adobe Research, non-commercial; not "
        "passed on",
        source="github.com/adobe-research/custom-diffusion (customconcept101)",
        citation="Kumari et al., Multi-Concept Customization of Text-to-Image Diffusion, CVPR 2023",
        seed=0,
        metrics=("all-photographs", *THINGS),
        subjects=list(subjects.values()),
        prompts=prompts,
        images_per_prompt=5,
        resolution=512,
        remarks=(f"{nameless} prompts do not name each concept once; they get class nouns and no slot.",)
        * bool(nameless),
    )


def _concept(folder: Path, record: Record, known: dict[str, BenchmarkSubject]) -> BenchmarkSubject:
    """The subject of an entry, with all photographs of its folder."""
    place = record.text("instance_data_dir").removeprefix("./")
    name = subject_id(Path(place).name, record.where)
    if name not in known:
        try:
            files = sorted(path.relative_to(folder).as_posix() for path in image_files(folder / place))
        except OSError as error:
            raise UserError(f"{folder / place} cannot be read ({error.strerror}); unpack benchmark_dataset.") from None
        if not files:
            raise UserError(f"{folder / place} has no photographs; unpack benchmark_dataset there.")
        known[name] = BenchmarkSubject(name, record.text("class_prompt"), tuple(files))
    return known[name]


def _prompts_in(folder: Path, name: str, where: str) -> list[str]:
    """The lines of a file of prompts."""
    try:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise UserError(f"{where}: {folder / name} cannot be read ({error}); restore it.") from None
    return [" ".join(line.split()) for line in lines if line.strip()]


def _composed(text: str, concepts: Sequence[BenchmarkSubject], part: str) -> BenchmarkPrompt:
    """A prompt with `{0}` and `{1}`, its subjects in the order in which it names them.

    A prompt that does not name each once gets the class nouns in their places, and names nobody.
    """
    ids = tuple(concept.id for concept in concepts)
    order = [int(number) for number in re.findall(r"{(\d)}", text)]
    if sorted(order) != list(range(len(ids))):
        nouns = [concept.noun for concept in concepts]
        named = re.sub(r"{(\d)}", lambda found: nouns[int(found[1])] if int(found[1]) < len(nouns) else found[0], text)
        return BenchmarkPrompt(ids, part, named)
    slots = {str(number): place for place, number in enumerate(order, start=1)}
    template = re.sub(r"{(\d)}", lambda found: f"{{{slots[found[1]]}}}", text)
    return BenchmarkPrompt(tuple(ids[number] for number in order), part, template)
