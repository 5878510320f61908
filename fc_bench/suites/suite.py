"""Suites: YAML files with subjects, prompts, seeds, sampler settings and metrics."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from fc_bench.errors import UserError
from fc_bench.model.backbones.fingerprint import sha256_of
from fc_bench.model.backbones.schedulers import SchedulerName
from fc_bench.model.settings import Settings
from fc_bench.model.yaml_advice import described, strange_in, without_strange
from fc_bench.model.yaml_file import line_of, nearest, placed, read_yaml
from fc_bench.protocols import Subject
from fc_bench.suites.named_files import named_file
from fc_bench.suites.photographs import Crop
from fc_bench.suites.slugs import LONGEST_ID, id_of, is_id, slug

NOUN = r"[A-Za-z][A-Za-z -]{0,49}"
"""Pattern of a complete class noun."""


def _check_name(text: str) -> str:
    name = unicodedata.normalize("NFC", text)
    if is_id(name):
        return name
    such = f', such as "{id_of(text)}"' if is_id(id_of(text)) else ""
    raise ValueError(
        f'{text[:80]!r} is not a name; write letters, digits, ".", "_" and "-", a letter or digit first, at most '
        f"{LONGEST_ID} bytes{such}"
    )


Name = Annotated[str, AfterValidator(_check_name)]
"""A name that is safe as a file name: letters and digits of any script, `.`, `_`, `-`, in Unicode's composed form."""


def _check_visible(text: str) -> str:
    """Refuse control characters and characters that change the direction of writing."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _TURNING:
            raise ValueError(f"the text holds the invisible character U+{ord(character):04X}; remove it")
    if (strange := strange_in(text)) is not None:
        raise ValueError(f"the text holds {described(strange)}")
    return text


def _as_seen(text: str) -> str:
    """The text without invisible characters; prompts that differ only in these are the same."""
    shown = "".join(each for each in without_strange(text) if each not in _JOINERS)
    return " ".join(unicodedata.normalize("NFC", shown).split())


_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_JOINERS = "\u200c\u200d"
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_check_visible)]

LONGEST_PROMPT = 1000
Item = TypeVar("Item", bound=Hashable)
_SLOT = re.compile(r"{([^{}]*)}")


class PhotographPattern(Settings):
    """The photographs of a subject that lists none: `{id}` is the subject, `{n}` counts from 1 to `count`.

    `folder: given` means that the suite ships no photographs: the user names their folder.
    """

    folder: Literal["suite", "given"] = "suite"
    pattern: str = "subjects/{id}/{n}.png"
    count: int = Field(default=1, ge=1, le=100)

    @model_validator(mode="after")
    def _requires_distinct_files(self) -> PhotographPattern:
        needed = ["{id}", "{n}"] if self.count > 1 else ["{id}"]
        for slot in needed:
            if slot not in self.pattern:
                raise ValueError(
                    f'the pattern "{self.pattern}" lacks {slot}, so all photographs would be the same file'
                )
        return self


class SubjectEntry(Settings):
    """One subject; `photographs` are relative to the suite file, the first is the reference of tuning-free methods."""

    id: Name
    noun: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z -]*$", max_length=50)]
    photographs: list[str] | None = Field(default=None, min_length=1)


class SamplerChoice(Settings):
    """Sampler settings that the suite fixes; the others come from the backbone."""

    scheduler: SchedulerName | None = None
    steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    resolution: int | None = Field(default=None, ge=8, le=4096, multiple_of=8)


def _twice(items: Iterable[Item]) -> Item | None:
    """The first item that occurs more than once."""
    return next((item for item, count in Counter(items).items() if count > 1), None)


def _check_template(template: str, slot: str) -> str:
    found = _SLOT.findall(template)
    if len(template) > LONGEST_PROMPT:
        raise ValueError(f"the prompt has {len(template)} characters, at most {LONGEST_PROMPT} are accepted")
    if "<|image|>" in template:
        raise ValueError(
            f'the prompt "{template}" holds <|image|>; write {{{slot}}}, each method mentions subjects itself'
        )
    strange = [name for name in found if name != slot]
    if strange:
        raise ValueError(f'the prompt "{template}" has the placeholder {{{strange[0]}}}; write {{{slot}}} exactly once')
    if len(found) != 1 or template.count("{") != 1 or template.count("}") != 1:
        number = "no" if not found else str(len(found))
        raise ValueError(f'the prompt "{template}" has {number} placeholder {{{slot}}}; write it exactly once')
    return template


SingleTemplate = Annotated[Text, AfterValidator(lambda text: _check_template(text, "subject"))]
MultiTemplate = Annotated[Text, AfterValidator(lambda text: _check_template(text, "subjects"))]


class Singles(Settings):
    """Images of one subject: `subjects` all or a list of ids; prompts by category, each with `{subject}` once."""

    subjects: Literal["all"] | list[Name] = "all"
    prompts: dict[Name, Annotated[list[SingleTemplate], Field(min_length=1)]] = Field(min_length=1)

    @field_validator("subjects")
    @classmethod
    def _each_once(cls, subjects: str | list[str]) -> str | list[str]:
        if not subjects:
            raise ValueError("the list is empty; name subjects or write all")
        twice = _twice(subjects) if isinstance(subjects, list) else None
        if twice:
            raise ValueError(f'the subject "{twice}" is listed twice')
        return subjects


class Multi(Settings):
    """Images of several subjects: `all-pairs` or listed sets of ids; prompts with `{subjects}` once."""

    subjects: Literal["all-pairs"] | list[Annotated[list[Name], Field(min_length=2, max_length=8)]] = "all-pairs"
    prompts: dict[Name, Annotated[list[MultiTemplate], Field(min_length=1)]] = Field(min_length=1)

    @field_validator("subjects")
    @classmethod
    def _each_once(cls, subjects: str | list[list[str]]) -> str | list[list[str]]:
        if isinstance(subjects, str):
            return subjects
        if not subjects:
            raise ValueError("the list is empty; name sets of subjects or write all-pairs")
        for group in subjects:
            if len(set(group)) != len(group):
                raise ValueError(f"the set {group} names a subject twice")
        repeated = _twice(tuple(group) for group in subjects)
        if repeated:
            raise ValueError(f"the set {list(repeated)} is listed twice")
        return subjects


class SuiteFile(Settings):
    """The schema of a suite's YAML file."""

    name: Name
    version: str = Field(min_length=1, max_length=64)
    description: str
    license: str
    source: str
    citation: str = ""
    seed: int = Field(default=0, ge=0, lt=2**63)
    images_per_prompt: int = Field(default=1, ge=1, le=10_000)
    sampler: SamplerChoice = SamplerChoice()
    metrics: list[str] = Field(default_factory=lambda: ["identity", "prompt-consistency"], min_length=1)
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Method -> options of the protocol; they override the backbone's, and the command line overrides them."""
    photographs: PhotographPattern = PhotographPattern()
    photograph_crop: Literal["face", "published"] = "face"
    """`face`: every method gets the same square around the face; `published`: each crops as its publication does."""
    subjects: list[SubjectEntry] = Field(min_length=1)
    single: Singles | None = None
    multi: Multi | None = None

    @model_validator(mode="after")
    def _consistent(self) -> SuiteFile:
        ids = [subject.id for subject in self.subjects]
        known = set[str]()
        for place, name in enumerate(ids):
            if name in known:
                raise placed(f'the subject "{name}" is listed twice', "subjects", place)
            known.add(name)
        if self.single is None and self.multi is None:
            raise ValueError("no prompts: give `single:`, `multi:` or both")
        requested = self.single.subjects if self.single and self.single.subjects != "all" else []
        sets = self.multi.subjects if self.multi and self.multi.subjects != "all-pairs" else []
        named: list[tuple[str, tuple[str | int, ...]]] = [
            (name, ("single", "subjects", place)) for place, name in enumerate(requested)
        ]
        named += [
            (name, ("multi", "subjects", number, place))
            for number, group in enumerate(sets)
            for place, name in enumerate(group)
        ]
        for name, where in named:
            if name not in known:
                raise placed(f'no subject has the id "{name}", {nearest(name, ids)}', *where)
        for kind, part in (("single", self.single), ("multi", self.multi)):
            seen: dict[str, str] = {}
            for category, texts in part.prompts.items() if part else ():
                for place, text in enumerate(texts):
                    if (same := _as_seen(text)) in seen:
                        raise placed(_same_prompt(seen[same], text), kind, "prompts", category, place)
                    seen[same] = text
        return self


def _same_prompt(earlier: str, text: str) -> str:
    if earlier == text:
        return f'the prompt "{text}" is listed twice; use images_per_prompt for more images of it'
    return f'the prompt "{text}" differs from "{earlier}" in blanks or invisible characters only; keep one'


@dataclass(frozen=True)
class Prompt:
    """A prompt template and its category in the results."""

    category: str
    template: str


@dataclass(frozen=True)
class SubjectSet:
    """Subjects that appear together, in the order of their placeholders."""

    subjects: tuple[Subject, ...]

    @property
    def key(self) -> str:
        """Name of the set and of its folder: ids joined by `+`."""
        return "+".join(subject.id for subject in self.subjects)


@dataclass(frozen=True)
class Suite:
    """A suite as read: the file's content, its path, and the folder given for its photographs.

    `crops` are the photographs that methods get as a square; the squares lie below the folder `cropped`.
    """

    file: SuiteFile
    path: Path
    given: Path | None = None
    crops: Mapping[Path, Crop] = field(default_factory=dict)
    cropped: Path = Path()

    @cached_property
    def sources(self) -> tuple[Subject, ...]:
        """All subjects in the file's order, with absolute paths of the suite's photographs."""
        return tuple(
            Subject(entry.id, entry.noun, tuple(self._photographs(entry, index)))
            for index, entry in enumerate(self.file.subjects)
        )

    @cached_property
    def subjects(self) -> tuple[Subject, ...]:
        """All subjects in the file's order, with the photographs that methods and metrics get."""
        return tuple(
            replace(
                subject, photographs=tuple(self._shown(subject, number) for number in range(len(subject.photographs)))
            )
            for subject in self.sources
        )

    @property
    def root(self) -> Path:
        """The folder of the photographs."""
        return (self.given or self.path.parent).resolve()

    def subject_sets(self, limit: int | None = None) -> list[tuple[SubjectSet, list[Prompt]]]:
        """Every subject set with its prompts, single subjects first; `limit` keeps the first subjects."""
        kept = {subject.id: subject for subject in self.subjects[:limit]}
        sets: list[tuple[SubjectSet, list[Prompt]]] = []
        if self.file.single:
            ids = list(kept) if self.file.single.subjects == "all" else self.file.single.subjects
            prompts = _prompts(self.file.single.prompts)
            sets += [(SubjectSet((kept[name],)), prompts) for name in ids if name in kept]
        if self.file.multi:
            groups: Sequence[Sequence[str]] = (
                list(combinations(kept, 2)) if self.file.multi.subjects == "all-pairs" else self.file.multi.subjects
            )
            prompts = _prompts(self.file.multi.prompts)
            sets += [
                (SubjectSet(tuple(kept[name] for name in group)), prompts)
                for group in groups
                if all(name in kept for name in group)
            ]
        return sets

    def requested_sets(self, limit: int | None = None) -> list[tuple[SubjectSet, list[Prompt]]]:
        """`subject_sets`; raises UserError if the file or the limit leaves none."""
        sets = self.subject_sets(limit)
        if sets:
            return sets
        enough = next((count for count in range(1, len(self.subjects) + 1) if self.subject_sets(count)), None)
        if enough is None:
            line = line_of(self.path, ("multi", "subjects"))
            raise UserError(
                f"{self.path}:{line}: the suite is empty, because one subject makes no pair; add a subject, or "
                "prompts of one under `single:`."
            )
        raise UserError(
            f"Nothing to do: the first {limit} of the suite's subjects form none of its subject sets; raise "
            f"--limit-subjects to {enough} or more."
        )

    def photograph_digests(self) -> dict[str, str]:
        """Subject id -> sha256 over the contents of its photographs and their crops, in order."""
        return {
            subject.id: hashlib.sha256("".join(map(self._digest, subject.photographs)).encode()).hexdigest()
            for subject in self.sources
        }

    def content(self) -> dict[str, Any]:
        """The whole suite as plain data, with photographs as digests: two suites are the same if this is equal."""
        return {**self.file.model_dump(mode="json"), "photograph_digests": self.photograph_digests()}

    def _shown(self, subject: Subject, number: int) -> Path:
        path = subject.photographs[number]
        if path not in self.crops:
            return path
        return self.cropped / subject.id / f"{number + 1}-{slug(path.stem, 'photograph')[:60]}.png"

    def _digest(self, photograph: Path) -> str:
        """sha256 of a photograph's file, with its crop if it has one."""
        crop = self.crops.get(photograph)
        return sha256_of(photograph) + (_canonical(asdict(crop)) if crop else "")

    def _photographs(self, entry: SubjectEntry, index: int) -> Iterator[Path]:
        root = self.root
        names = entry.photographs or [
            self.file.photographs.pattern.replace("{id}", entry.id).replace("{n}", str(number + 1))
            for number in range(self.file.photographs.count)
        ]
        for name in names:
            try:
                file = named_file(root, name, "the photograph", f' of the subject "{entry.id}"')
            except UserError as error:
                raise UserError(f"{self._where(index)}: {error}") from None
            yield file

    def _where(self, index: int) -> str:
        """File and line of a subject."""
        return f"{self.path}:{line_of(self.path, ('subjects', index))}"


def read_suite(path: Path, photographs: Path | None = None) -> Suite:
    """The suite in a YAML file, after a check; `photographs` is the folder for a suite that ships none.

    Raises ModelInputError or UserError with `file:line` for any error in the file, and UserError if the folder is
    missing or is given to a suite with its own photographs.
    """
    file = read_yaml(path, SuiteFile)
    if photographs is None and file.photographs.folder == "given":
        raise UserError(
            f'The photographs of the suite "{file.name}" are not part of it; name the folder that holds '
            f"{file.photographs.pattern.replace('{id}', file.subjects[0].id)} and the others with --photographs."
        )
    if photographs is not None and file.photographs.folder != "given":
        raise UserError(f'The suite "{file.name}" has its own photographs; leave --photographs out.')
    if photographs is not None and not photographs.is_dir():
        raise UserError(f"The folder of photographs {photographs} does not exist; correct --photographs.")
    suite = Suite(file, path, photographs)
    _ = suite.sources
    suite.requested_sets()
    return suite


def digest(data: Any) -> str:
    """sha256 (hexadecimal) of plain data in canonical JSON."""
    return hashlib.sha256(_canonical(data).encode()).hexdigest()


def digests_of_each(parts: Sequence[Any], numbers: Iterable[int]) -> Iterator[str]:
    """`digest([*parts, number])` of each number; the common parts are hashed once."""
    begun = hashlib.sha256(_canonical(parts)[:-1].encode() + b",")
    for number in numbers:
        each = begun.copy()
        each.update(b"%d]" % number)
        yield each.hexdigest()


def _canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _prompts(categories: dict[str, list[str]]) -> list[Prompt]:
    return [Prompt(category, text) for category, texts in categories.items() for text in texts]
