"""What a layout says: the name of every image's file, for reading and writing alike."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from fc_bench.errors import UserError
from fc_bench.protocols import fill
from fc_bench.suites.suite import Prompt, SubjectSet, Suite
from fc_bench.suites.suite_file import SuiteFile
from fc_bench.suites.templates import template_of_set


@dataclass(frozen=True)
class Item:
    """A prompt of a subject set with its numbers, from 0: in the suite, in its set, in its category."""

    subject_set: SubjectSet
    prompt: Prompt
    number: int
    set_number: int
    prompt_number: int
    category_number: int

    @property
    def label(self) -> str:
        """The prompt's own name, otherwise its number in the suite."""
        return self.prompt.name or str(self.number)

    @property
    def label_in_category(self) -> str:
        """The prompt's own name, otherwise its number in its category."""
        return self.prompt.name or str(self.category_number)

    @cached_property
    def text(self) -> str:
        """The prompt with class nouns in the subjects' places."""
        return fill(self.prompt.template, [subject.noun for subject in self.subject_set.subjects])


@dataclass(frozen=True)
class Written:
    """An image that is written: its item and index, its file (path below the folder, without suffix) and cell."""

    item: Item
    index: int
    file: str
    cell: int | None


@dataclass(frozen=True)
class Beside:
    """A file that a layout puts beside the images: bytes, or an image to write in the layout's format."""

    file: str
    content: bytes | Path


@dataclass(frozen=True)
class Unknown:
    """A file of a prompt that the suite does not have: the start of a sentence, and whether it is refused.

    Files that are not refused are left out, as long as others are found.
    """

    text: str
    refused: bool


class Photographs:
    """The photographs that a layout may put beside the images."""

    def __init__(self, references: Mapping[str, Path], targets: Mapping[tuple[str, str], Path]) -> None:
        self.references = references
        """Subject's id -> its reference photograph."""
        self.targets = targets
        """Subject set and template -> the target of that prompt."""


class Layout(ABC):
    """The folder of images that the scripts of a benchmark expect.

    A file's path below the folder, without its suffix, fits `pattern`, whose group `item` is `item_name` and whose
    group `image`, if it has one, is the image's index.
    """

    name: ClassVar[str]
    expects: ClassVar[str]
    """The files, as documentation shows them."""
    pattern: ClassVar[re.Pattern[str]]
    accompanying: ClassVar[re.Pattern[str] | None] = None
    """Paths of images that are no generated ones."""
    images: ClassVar[int | None] = 1
    """The number of images of a prompt; None: any."""
    grids: ClassVar[bool] = False
    """Whether the (four) images of a prompt are cells of one file."""
    others: ClassVar[str] = ""
    """What a file of another part of the benchmark is not, such as `prompt`; empty where such files are refused."""
    jpeg: ClassVar[bool] = False
    """Whether files are JPEG, because the benchmark's scripts accept nothing else; otherwise PNG."""

    @property
    def suffix(self) -> str:
        """The suffix of files that are written."""
        return ".jpg" if self.jpeg else ".png"

    def items(self, suite: Suite) -> list[Item]:
        """All prompts of a suite with their numbers, in the suite's order."""
        return numbered(suite.subject_sets(), suite.file)

    def item_name(self, item: Item) -> str:
        """The part of the path that is the item's own: its name or number."""
        return item.label

    @abstractmethod
    def image_name(self, item: Item, index: int) -> str:
        """The path of an image below the folder, without suffix."""

    def named(self, suite: Suite) -> dict[str, Item]:
        """Item's name -> item; raises UserError if two items have one name, because the suite does not fit then."""
        found: dict[str, Item] = {}
        for item in self.items(suite):
            name = self.item_name(item)
            if (same := found.get(name)) is not None:
                raise UserError(
                    f'The layout {self.name} gives "{same.text}" of {same.subject_set.key} and "{item.text}" of '
                    f"{item.subject_set.key} the same name {name}; choose another layout."
                )
            found[name] = item
        return found

    def unknown(self, file: str, match: re.Match[str], suite: Suite, items: int) -> Unknown:
        """What is known of a file whose name is that of no item."""
        if self.others:
            return Unknown(f"{file} is no {self.others} of the suite {suite.file.name}", refused=False)
        what = f"{file} is none of the {items} prompts of the suite {suite.file.name}, whose numbers count from 0"
        return Unknown(what, refused=True)

    def refused_count(self, folder: Path, files: int, items: int) -> str:
        """The number of files that the benchmark's own scripts do not accept; empty if they accept it or do not count.

        `files` are those with names of the layout, `items` the prompts of the suite.
        """
        return ""

    def contradiction(self, folder: Path, file: Path, match: re.Match[str], item: Item) -> str:
        """What the folder says of an image's prompt, if it is not the item's; empty otherwise."""
        return ""

    def beside(self, written: Sequence[Written], photographs: Photographs) -> Iterator[Beside]:
        """The further files that the benchmark's scripts read."""
        yield from ()


def numbered(sets: Sequence[tuple[SubjectSet, list[Prompt]]], file: SuiteFile | None = None) -> list[Item]:
    """All prompts of these sets with their numbers, in order; those under `sets` of a suite's file in its order."""
    found = [
        (subject_set, prompt, set_number, prompt_number)
        for set_number, (subject_set, prompts) in enumerate(sets)
        for prompt_number, prompt in enumerate(prompts)
    ]
    if file is not None and file.sets:
        listed = (
            ("+".join(one.subjects), template_of_set(entry.text, one.subjects))
            for one in file.sets
            for entries in one.prompts.values()
            for entry in entries
        )
        places = {place: number for number, place in enumerate(listed)}
        found.sort(key=lambda one: places.get((one[0].key, one[1].template), -1))
    categories: dict[str, int] = {}
    items: list[Item] = []
    for number, (subject_set, prompt, set_number, prompt_number) in enumerate(found):
        in_category = categories.get(prompt.category, 0)
        categories[prompt.category] = in_category + 1
        items.append(Item(subject_set, prompt, number, set_number, prompt_number, in_category))
    return items


def same_words(one: str, other: str) -> bool:
    """Whether two texts have the same letters and digits, apart from indefinite articles."""
    return words(one) == words(other)


def words(text: str) -> str:
    """The letters and digits of a text in lower case, without indefinite articles."""
    text = re.sub(r"\b[Aa]n?\b", "", text.replace("_", " "))
    return "".join(character for character in text.casefold() if character.isalnum())


def json_bytes(data: Any) -> bytes:
    """Plain data as an indented JSON file."""
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def read_json(file: Path) -> Any:
    """Content of a JSON file; raises UserError if it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); put it there or make it readable.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid JSON ({error}); restore it.") from None
