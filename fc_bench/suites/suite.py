"""Suites: YAML files with subjects, prompts, seeds, sampler settings and metrics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from fc_bench.errors import UserError
from fc_bench.model.backbones.fingerprint import sha256_of
from fc_bench.model.yaml_file import line_of, read_yaml
from fc_bench.protocols import UNCONDITIONED, Conditions, Subject
from fc_bench.suites.balance import drawn_sets
from fc_bench.suites.named_files import named_file
from fc_bench.suites.photographs import Crop
from fc_bench.suites.slugs import slug
from fc_bench.suites.suite_file import DrawnSets, PromptEntry, SubjectEntry, SuiteFile
from fc_bench.suites.templates import as_seen, same_text, slots_of, template_of_set

DIGESTS = ("photograph_digests", "target_digests")
"""Keys of a suite's content that its file does not have."""


@dataclass(frozen=True)
class Prompt:
    """A prompt template and its category in the results, with what it asks beside its text.

    `target` is a photograph of the set's subjects that matches the prompt, `name` its name in a benchmark.
    """

    category: str
    template: str
    conditions: Conditions = UNCONDITIONED
    target: Path | None = None
    name: str | None = None

    @property
    def names_nobody(self) -> bool:
        """Whether the text has no slot."""
        return not slots_of(self.template)


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
        """All subjects in the file's order, with absolute paths of the suite's photographs, references first."""
        return tuple(
            Subject(entry.id, entry.noun, _references_first(entry, list(self._photographs(entry, index))))
            for index, entry in enumerate(self.file.subjects)
        )

    @cached_property
    def subjects(self) -> tuple[Subject, ...]:
        """All subjects in the file's order, with the photographs that metrics get, references first."""
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
        """Every subject set with its prompts, single subjects first; `limit` keeps the first subjects.

        The subjects have the photographs that methods get. Prompts of a set that the file names in several places are
        put together.
        """
        kept = {subject.id: self._for_methods(subject) for subject in self.subjects[:limit]}
        return [
            (SubjectSet(tuple(kept[name] for name in group)), prompts)
            for group, prompts in self._prompts_of_sets.items()
            if all(name in kept for name in group)
        ]

    @cached_property
    def targets(self) -> dict[tuple[str, str], Path]:
        """The target of each prompt that has one, by the key of its set and its template."""
        return {
            ("+".join(group), prompt.template): prompt.target
            for group, prompts in self._prompts_of_sets.items()
            for prompt in prompts
            if prompt.target is not None
        }

    @cached_property
    def _prompts_of_sets(self) -> dict[tuple[str, ...], list[Prompt]]:
        """The prompts of each set of ids, in the file's order."""
        file, ids = self.file, [entry.id for entry in self.file.subjects]
        found: dict[tuple[str, ...], list[Prompt]] = {}
        if file.single:
            prompts = _prompts(file.single.prompts)
            alone = ids if file.single.subjects == "all" else file.single.subjects
            found |= {(name,): prompts for name in alone}
        if file.multi:
            prompts = _prompts(file.multi.prompts)
            found |= dict.fromkeys(map(tuple, self._groups(ids)), prompts)
        for number, one in enumerate(file.sets):
            group = tuple(one.subjects)
            own = [
                Prompt(
                    category,
                    template_of_set(entry.text, group),
                    _conditions(entry),
                    self._target(entry, ("sets", number, "prompts", category, place)),
                    entry.name,
                )
                for category, entries in one.prompts.items()
                for place, entry in enumerate(entries)
            ]
            earlier = {as_seen(prompt.template): prompt.template for prompt in found.get(group, ())}
            for prompt in own:
                if (same := as_seen(prompt.template)) in earlier:
                    line = line_of(self.path, ("sets", number))
                    raise UserError(f"{self.path}:{line}: {same_text(earlier[same], prompt.template)}.")
            found[group] = [*found.get(group, ()), *own]
        return found

    def _groups(self, ids: Sequence[str]) -> Iterable[Sequence[str]]:
        """The sets of ids under `multi`."""
        assert self.file.multi is not None
        groups = self.file.multi.subjects
        if isinstance(groups, DrawnSets):
            return drawn_sets(groups, self.file.subjects, self.file.seed)
        return combinations(ids, 2) if isinstance(groups, str) else groups

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
        """Subject id -> sha256 over the contents of its photographs and their crops, in order, and its references."""
        return {
            subject.id: hashlib.sha256(
                ("".join(map(self._digest, subject.photographs)) + str(self._references.get(subject.id, ""))).encode()
            ).hexdigest()
            for subject in self.sources
        }

    def content(self) -> dict[str, Any]:
        """The whole suite as plain data, with photographs as digests: two suites are the same if this is equal."""
        targets = {"\n".join(where): sha256_of(path) for where, path in self.targets.items()}
        return {
            **self.file.model_dump(mode="json"),
            "photograph_digests": self.photograph_digests(),
            **({"target_digests": targets} if targets else {}),
        }

    def _for_methods(self, subject: Subject) -> Subject:
        """The subject with the photographs that methods get."""
        references = self._references.get(subject.id)
        return subject if references is None else replace(subject, photographs=subject.photographs[:references])

    @cached_property
    def _references(self) -> dict[str, int]:
        """The number of references of the subjects whose other photographs only measure."""
        return {entry.id: len(entry.references) for entry in self.file.subjects if entry.references}

    def _target(self, entry: PromptEntry, where: tuple[str | int, ...]) -> Path | None:
        if entry.target is None:
            return None
        try:
            return named_file(self.root, entry.target, "the target")
        except UserError as error:
            raise UserError(f"{self.path}:{line_of(self.path, (*where, 'target'))}: {error}") from None

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


def _prompts(categories: Mapping[str, Sequence[PromptEntry]]) -> list[Prompt]:
    return [
        Prompt(category, entry.text, _conditions(entry))
        for category, entries in categories.items()
        for entry in entries
    ]


def _conditions(entry: PromptEntry) -> Conditions:
    return Conditions(entry.negative_prompt or "", entry.size, tuple(entry.boxes or ()))


def _references_first(entry: SubjectEntry, photographs: Sequence[Path]) -> tuple[Path, ...]:
    """The photographs that methods get, then the others."""
    first = [number - 1 for number in entry.references or ()]
    return tuple(
        photographs[place] for place in [*first, *(place for place in range(len(photographs)) if place not in first)]
    )
