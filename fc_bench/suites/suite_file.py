"""The schema of a suite's YAML file.

Format 1 knows subjects, prompts for one and for several of them, seeds, sampler and metrics. Format 2 adds sets with
prompts of their own, slots for each subject, attributes and references of subjects, and what a prompt asks beside its
text. A file states the format that it needs.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    field_validator,
    model_serializer,
    model_validator,
)

from fc_bench.model.backbones.schedulers import SchedulerName
from fc_bench.model.settings import Settings
from fc_bench.model.yaml_file import nearest, placed
from fc_bench.suites.slugs import LONGEST_ID, id_of, is_id
from fc_bench.suites.templates import Text, as_seen, check_multi, check_single, same_text, slots_of, template_of_set

NOUN = r"[A-Za-z][A-Za-z -]{0,49}"
"""Pattern of a complete class noun."""
MOST_SUBJECTS = 8
"""Largest number of subjects of a set."""


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
Item = TypeVar("Item", bound=Hashable)
Side = Annotated[int, Field(ge=8, le=4096, multiple_of=8)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=100)]


class Sparse(Settings):
    """Settings that are recorded without the fields of a later format that are not set."""

    @model_serializer(mode="wrap")
    def _without_unset(self, serialize: SerializerFunctionWrapHandler) -> Any:
        fields = type(self).model_fields
        defaults = {
            key: fields[key].get_default(call_default_factory=True) for key in ("format", *LATER) if key in fields
        }
        unset = {key for key, default in defaults.items() if getattr(self, key) == default}
        return {key: value for key, value in serialize(self).items() if key not in unset}


LATER = ("attributes", "references", "sets", "name", "negative_prompt", "size", "boxes", "target", "verification")
"""Fields of format 2; those of a model have defaults that say that nothing is asked."""
LONGEST_KEY = 200
"""Largest length in UTF-8 bytes of the ids of a set, joined by `+`: they name files."""


class PhotographPattern(Settings):
    """The photographs of a subject that lists none: `{id}` is the subject, `{n}` counts from 1 to `count`.

    `folder: given` means that the suite ships no photographs: the user names their folder.
    """

    folder: Literal["suite", "given"] = "suite"
    """Where they are: beside the suite's file, or in a folder that the user names."""
    pattern: str = "subjects/{id}/{n}.png"
    """Path of a photograph below that folder."""
    count: int = Field(default=1, ge=1, le=100)
    """Photographs of each subject."""

    @model_validator(mode="after")
    def _requires_distinct_files(self) -> PhotographPattern:
        needed = ["{id}", "{n}"] if self.count > 1 else ["{id}"]
        for slot in needed:
            if slot not in self.pattern:
                raise ValueError(
                    f'the pattern "{self.pattern}" lacks {slot}, so all photographs would be the same file'
                )
        return self


class SubjectEntry(Sparse):
    """One subject; `photographs` are relative to the suite file, the first is the reference of tuning-free methods."""

    id: Name
    """Name in sets, records and folders."""
    noun: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z -]*$", max_length=50)]
    """Class noun in prompts."""
    photographs: list[str] | None = Field(default=None, min_length=1)
    """Files of its photographs, if they do not follow the pattern."""
    references: list[Count] | None = Field(default=None, min_length=1)
    """Format 2: numbers (from 1) of the photographs that methods get. Identity is measured against the first of them;
    the others measure only. All, if left out."""
    attributes: dict[Name, Text] = Field(default_factory=dict)
    """Format 2: what is known of the subject, such as its age; tables break down by them, drawn sets are balanced."""

    @field_validator("references")
    @classmethod
    def _each_once(cls, references: list[int] | None) -> list[int] | None:
        twice = _twice(references or ())
        if twice:
            raise ValueError(f"photograph {twice} is listed twice")
        return references


class SamplerChoice(Settings):
    """Sampler settings that the suite fixes; the others come from the backbone."""

    scheduler: SchedulerName | None = None
    """Scheduler of the sampling steps."""
    steps: int | None = Field(default=None, ge=1, le=1000)
    """Number of sampling steps."""
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    """Scale of classifier-free guidance."""
    resolution: int | None = Field(default=None, ge=8, le=4096, multiple_of=8)
    """Side of the square images in pixels."""


class PromptEntry(Sparse):
    """A prompt: its text alone, or in format 2 a mapping with what it asks beside."""

    text: Text
    """The prompt with its slots: `{subject}` or `{subjects}`, in format 2 also `{1}`, `{2}` or the ids of the set."""
    negative_prompt: Text | None = None
    """What the image must not show; methods with classifier-free guidance use it in place of the null prompt."""
    size: tuple[Side, Side] | None = None
    """Width and height in pixels, if they differ from the suite's resolution."""
    boxes: list[tuple[Share, Share, Share, Share]] | None = Field(default=None, min_length=1)
    """Where each subject of the set is to be: left, top, right and bottom as shares of the image."""
    name: Name | None = None
    """The name of the prompt in a benchmark, by which its layout names files; `sets` alone."""
    target: str | None = None
    """A photograph of the set's people that matches the prompt, below the folder of the photographs; `sets` alone."""

    @model_validator(mode="before")
    @classmethod
    def _text_alone(cls, value: Any) -> Any:
        return value if isinstance(value, dict) and "text" in value else {"text": value}

    @field_validator("boxes")
    @classmethod
    def _check_boxes(cls, boxes: list[tuple[float, ...]] | None) -> list[tuple[float, ...]] | None:
        for left, top, right, bottom in boxes or ():
            if not (left < right and top < bottom):
                raise ValueError(
                    f"the box [{left:g}, {top:g}, {right:g}, {bottom:g}] has no area; write left, top, right and "
                    "bottom as shares of the image"
                )
        return boxes

    @model_serializer(mode="wrap")
    def _plain(self, serialize: SerializerFunctionWrapHandler) -> Any:
        written = {key: value for key, value in serialize(self).items() if value is not None}
        return self.text if len(written) == 1 else written


Prompts = dict[Name, Annotated[list[PromptEntry], Field(min_length=1)]]


class Singles(Settings):
    """Images of one subject: `subjects` all or a list of ids; prompts by category, each with `{subject}` once."""

    subjects: Literal["all"] | list[Name] = "all"
    """Whom the images show, one subject each."""
    prompts: Prompts = Field(min_length=1)
    """The prompts of every subject, by category."""

    @field_validator("subjects")
    @classmethod
    def _each_once(cls, subjects: str | list[str]) -> str | list[str]:
        if not subjects:
            raise ValueError("the list is empty; name subjects or write all")
        twice = _twice(subjects) if isinstance(subjects, list) else None
        if twice:
            raise ValueError(f'the subject "{twice}" is listed twice')
        return subjects


class DrawnSets(Settings):
    """Sets that are drawn from the subjects by the suite's seed, each subject about equally often."""

    people: int = Field(ge=2, le=MOST_SUBJECTS)
    """Subjects of each set."""
    count: int = Field(ge=1, le=100_000)
    """Number of sets."""
    balance: Name | None = None
    """An attribute of the subjects whose values are to occur equally often."""


class Multi(Settings):
    """Images of several subjects: `all-pairs` or listed sets of ids; prompts with `{subjects}` once."""

    subjects: (
        Literal["all-pairs"] | list[Annotated[list[Name], Field(min_length=2, max_length=MOST_SUBJECTS)]] | DrawnSets
    ) = "all-pairs"
    """Whom the images show together: every pair, listed sets, or in format 2 sets that are drawn."""
    prompts: Prompts = Field(min_length=1)
    """The prompts of every set, by category."""

    @field_validator("subjects")
    @classmethod
    def _each_once(cls, subjects: str | list[list[str]] | DrawnSets) -> str | list[list[str]] | DrawnSets:
        if not isinstance(subjects, list):
            return subjects
        if not subjects:
            raise ValueError("the list is empty; name sets of subjects or write all-pairs")
        for group in subjects:
            _check_set(group)
        repeated = _twice(tuple(group) for group in subjects)
        if repeated:
            raise ValueError(f"the set {list(repeated)} is listed twice")
        return subjects


class SetEntry(Settings):
    """A set of one to eight subjects with prompts of its own."""

    subjects: list[Name] = Field(min_length=1, max_length=MOST_SUBJECTS)
    """The subjects in the order in which prompts name them."""
    prompts: Prompts = Field(min_length=1)
    """The prompts of this set, by category; a prompt without a slot names nobody."""

    @field_validator("subjects")
    @classmethod
    def _each_once(cls, subjects: list[str]) -> list[str]:
        return _check_set(subjects)


class SuiteFile(Sparse):
    """The schema of a suite's YAML file."""

    name: Name
    """Name of the suite; part of the samples' ids."""
    format: Literal[1, 2] = 1
    """Format of the file; 2 for the fields that say so."""
    version: str = Field(min_length=1, max_length=64)
    """Version of the suite's content; part of the samples' ids."""
    description: str
    """One sentence on what the suite asks."""
    license: str
    """License of prompts and photographs."""
    source: str
    """Where prompts and photographs come from."""
    citation: str = ""
    """Publication to cite."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of everything that is drawn; an image's own seed follows from it, the prompt and the image's number."""
    images_per_prompt: int = Field(default=1, ge=1, le=10_000)
    """Images of each set and prompt."""
    sampler: SamplerChoice = SamplerChoice()
    """Sampler settings that the suite fixes."""
    metrics: list[str] = Field(default_factory=lambda: ["identity", "prompt-consistency"], min_length=1)
    """Names of the metrics."""
    verification: dict[Text, Annotated[float, Field(gt=-1, lt=1)]] = Field(default_factory=dict)
    """Format 2: name of an embedder -> cosine from which it counts two faces as the same person's; it comes before the
    backbone's, and gives the column `verified`."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Method -> options of the protocol; they override the backbone's, and the command line overrides them."""
    photographs: PhotographPattern = PhotographPattern()
    """The files of subjects that list none."""
    photograph_crop: Literal["face", "published"] = "face"
    """`face`: every method gets the same square around the face; `published`: each crops as its publication does."""
    subjects: list[SubjectEntry] = Field(min_length=1)
    """The people or things to put into images."""
    single: Singles | None = None
    """Images of one subject."""
    multi: Multi | None = None
    """Images of several subjects that share their prompts."""
    sets: list[SetEntry] = Field(default_factory=list)
    """Format 2: sets with prompts of their own."""

    @model_validator(mode="after")
    def _consistent(self) -> SuiteFile:
        ids = [subject.id for subject in self.subjects]
        known = set[str]()
        for place, name in enumerate(ids):
            if name in known:
                raise placed(f'the subject "{name}" is listed twice', "subjects", place)
            known.add(name)
        if self.single is None and self.multi is None and not self.sets:
            raise ValueError("no prompts: give `single:`, `multi:` or `sets:`")
        self._check_format()
        if self.verification and "identity" not in self.metrics:
            raise placed('a threshold belongs to the metric "identity"; add it to metrics', "verification")
        for name, where in self._named_subjects():
            if name not in known:
                raise placed(f'no subject has the id "{name}", {nearest(name, ids)}', *where)
        self._check_references()
        self._check_balance()
        self._check_prompts()
        return self

    def _check_format(self) -> None:
        if self.format == 1 and (found := next(self._later_fields(), None)) is not None:
            name, where = found
            raise placed(f'"{name}" is part of format 2 of suites; write "format: 2" at the top of the file', *where)

    def _later_fields(self) -> Iterator[tuple[str, tuple[str | int, ...]]]:
        """The fields and slots of format 2 that are used, with their locations."""
        for place, subject in enumerate(self.subjects):
            yield from ((key, ("subjects", place, key)) for key in LATER if getattr(subject, key, None))
        if self.sets:
            yield "sets", ("sets",)
        if self.verification:
            yield "verification", ("verification",)
        if self.multi and isinstance(self.multi.subjects, DrawnSets):
            yield "people", ("multi", "subjects")
        for where, entry in self._entries():
            yield from ((key, (*where, key)) for key in LATER if getattr(entry, key, None))
            if "1" in slots_of(entry.text):
                yield "{1}", where

    def _entries(self) -> Iterator[tuple[tuple[str | int, ...], PromptEntry]]:
        """Every prompt with its location."""
        parts: list[tuple[tuple[str | int, ...], Prompts]] = [
            ((kind,), part.prompts) for kind, part in (("single", self.single), ("multi", self.multi)) if part
        ]
        parts += [(("sets", number), one.prompts) for number, one in enumerate(self.sets)]
        for where, prompts in parts:
            for category, entries in prompts.items():
                for place, entry in enumerate(entries):
                    yield (*where, "prompts", category, place), entry

    def _named_subjects(self) -> Iterator[tuple[str, tuple[str | int, ...]]]:
        """Every id that single, multi and sets name, with its location."""
        alone = self.single.subjects if self.single and self.single.subjects != "all" else []
        groups = self.multi.subjects if self.multi and isinstance(self.multi.subjects, list) else []
        yield from ((name, ("single", "subjects", place)) for place, name in enumerate(alone))
        for number, group in enumerate(groups):
            yield from ((name, ("multi", "subjects", number, place)) for place, name in enumerate(group))
        for number, one in enumerate(self.sets):
            yield from ((name, ("sets", number, "subjects", place)) for place, name in enumerate(one.subjects))

    def _check_references(self) -> None:
        for place, subject in enumerate(self.subjects):
            count = len(subject.photographs) if subject.photographs else self.photographs.count
            beyond = [number for number in subject.references or () if number > count]
            if beyond:
                message = f'the subject "{subject.id}" has {count} photographs, but not number {beyond[0]}'
                raise placed(message, "subjects", place, "references")

    def _check_balance(self) -> None:
        drawn = self.multi.subjects if self.multi else None
        if not isinstance(drawn, DrawnSets):
            return
        if drawn.people > len(self.subjects):
            message = f"a set of {drawn.people} is drawn from {len(self.subjects)} subjects; add subjects"
            raise placed(message, "multi", "subjects", "people")
        longest = sorted((len(subject.id.encode()) + 1 for subject in self.subjects), reverse=True)[: drawn.people]
        if sum(longest) > LONGEST_KEY:
            message = f"the ids of a set name files and may have {sum(longest)} bytes together; shorten them"
            raise placed(message, "multi", "subjects")
        for place, subject in enumerate(self.subjects):
            if drawn.balance is not None and drawn.balance not in subject.attributes:
                message = f'the subject "{subject.id}" has no attribute "{drawn.balance}", by which sets are balanced'
                raise placed(message, "subjects", place)

    def _check_prompts(self) -> None:
        """Check the slots of every prompt, and that no prompt of a part is listed twice."""
        sizes = {2}
        if self.multi and isinstance(self.multi.subjects, list):
            sizes = {len(group) for group in self.multi.subjects}
        elif self.multi and isinstance(self.multi.subjects, DrawnSets):
            sizes = {self.multi.subjects.people}
        seen: dict[tuple[str | int, ...], dict[str, str]] = {}
        names: dict[str, set[str]] = {}
        for where, entry in self._entries():
            part, people = where[0], {1}
            try:
                if part == "single":
                    template = check_single(entry.text)
                elif part == "multi":
                    template, people = check_multi(entry.text), sizes
                    _check_slot_count(template, sizes)
                else:
                    subjects = self.sets[int(where[1])].subjects
                    template, people = template_of_set(entry.text, subjects), {len(subjects)}
            except ValueError as error:
                raise placed(str(error), *where) from None
            if entry.name is not None:
                named = names.setdefault(str(where[-2]), set())
                if part != "sets" or entry.name in named:
                    message = (
                        f'another prompt of the category has the name "{entry.name}"; give each one of its own'
                        if entry.name in named
                        else 'a name is of one prompt of particular people; give it to a prompt under "sets"'
                    )
                    raise placed(message, *where, "name")
                named.add(entry.name)
            if entry.target is not None and part != "sets":
                message = 'a target shows particular people; give it to a prompt of theirs under "sets"'
                raise placed(message, *where, "target")
            if entry.boxes is not None and {len(entry.boxes)} != people:
                message = f"{len(entry.boxes)} boxes are given for sets of {_listed(people)}; write one for each"
                raise placed(message, *where, "boxes")
            known = seen.setdefault(where[: where.index("prompts")], {})
            if (same := as_seen(template)) in known:
                raise placed(same_text(known[same], entry.text), *where)
            known[same] = entry.text


def _check_slot_count(template: str, sizes: Iterable[int]) -> None:
    slots = slots_of(template)
    if slots != ["subjects"] and any(size != len(slots) for size in sizes):
        raise ValueError(
            f'the prompt "{template}" has {len(slots)} slots for sets of {_listed(sizes)}; write {{subjects}}, or give '
            'the sets prompts of their own under "sets"'
        )


def _listed(sizes: Iterable[int]) -> str:
    return " and ".join(map(str, sorted(sizes)))


def _twice(items: Iterable[Item]) -> Item | None:
    """The first item that occurs more than once."""
    return next((item for item, count in Counter(items).items() if count > 1), None)


def _check_set(group: list[str]) -> list[str]:
    if len(set(group)) != len(group):
        raise ValueError(f"the set {group} names a subject twice")
    if (length := len("+".join(group).encode())) > LONGEST_KEY:
        raise ValueError(f"the ids of a set name files and have {length} bytes together; shorten them to {LONGEST_KEY}")
    return group
