"""A suite of one's own people, from a folder with one folder of photographs per person.

    photos/ada/1.jpg, 2.jpg ...      OUT/suite.yaml
           bo/one.jpg           ->       subjects/ada/1.png ...    portraits, cut out as `portraits` says
                                         sheet.png                 all of them, to check by eye

The prompts come from an existing suite.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fc_bench import registry
from fc_bench.commands.portraits import Portrait, left_out, person_of, portraits_in, sorted_by_name
from fc_bench.errors import UserError, writing_to
from fc_bench.inspection.inspector import Inspector
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.model.contact_sheet import Tile, contact_sheet, in_rows
from fc_bench.model.pictures import OTHER_SUFFIXES, SUFFIXES, left_by_systems
from fc_bench.model.yaml_file import nearest, read_yaml, sentence
from fc_bench.protocols import Subject
from fc_bench.run_folder.records import write_png
from fc_bench.scoring.faces import FaceFinder
from fc_bench.suites.slugs import LONGEST_ID, id_of, is_id
from fc_bench.suites.suite import read_suite
from fc_bench.suites.suite_file import NOUN, SuiteFile

FILE, SHEET = "suite.yaml", "sheet.png"
EVERY_PAIR_UP_TO = 4
"""Largest number of people with all pairs; for more, only neighbors form pairs."""
LICENSE = "private photographs; use pictures of real people only with their consent"


@dataclass(frozen=True)
class OwnSuite:
    """The result: the suite's file, the number of photographs of each subject, and remarks."""

    file: Path
    photographs: Mapping[str, int]
    images: int
    remarks: tuple[str, ...]


def nouns_of(people: Sequence[str], given: Sequence[str]) -> dict[str, str]:
    """The class noun of each person, from `ada=woman` for one and `person` for all others.

    Raises UserError if a noun is missing or invalid.
    """
    nouns: dict[str, str] = {}
    others: str | None = None
    for text in given:
        name, equals, noun = text.partition("=")
        name = id_of(name) if equals else name
        if not re.fullmatch(NOUN, noun if equals else name):
            raise UserError(f'The noun "{text}" is neither ID=NOUN, such as ada=woman, nor a noun for all.')
        if not equals:
            others = name
        elif name not in people:
            raise UserError(f'A noun is given for "{name}", who has no folder; {nearest(name, people)}')
        else:
            nouns[name] = noun
    missing = [name for name in people if name not in nouns]
    if missing and others is None:
        options = " ".join(f"--noun {name}=woman" for name in missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise UserError(f"The class noun of {', '.join(missing)} is missing; add {options} (or man, girl, dog ...).")
    return {name: nouns.get(name) or str(others) for name in people}


def people_in(folder: Path) -> dict[str, Path]:
    """Id -> folder of each person; raises UserError if there is none, or if a name is not usable or not unique."""
    if not folder.is_dir():
        raise UserError(f"The folder {folder} does not exist; name one that has a folder for each person.")
    found = sorted_by_name(path for path in folder.iterdir() if path.is_dir() and not left_by_systems(path.name))
    if not found:
        raise UserError(f"{folder} has no folder in it; put the photographs of each person into a folder of theirs.")
    people: dict[str, Path] = {}
    for path in found:
        person = id_of(path.name)
        if not is_id(person):
            raise UserError(
                f'The folder name "{path.name}" in {folder} gives no id of a subject (at most {LONGEST_ID} bytes, '
                "with a letter or digit); rename the folder."
            )
        if same := next((known for known in people if known.casefold() == person.casefold()), None):
            raise UserError(
                f'The folders "{people[same].name}" and "{path.name}" in {folder} are both the subject "{person}"; '
                "rename one, or put their photographs together."
            )
        people[person] = path
    return people


def init_suite(
    folder: Path,
    out: Path,
    backbone: Backbone,
    nouns: Sequence[str] = (),
    prompts: Sequence[str] = (),
    name: str | None = None,
    crop: bool = True,
) -> OwnSuite:
    """Write the suite; raises UserError or ModelInputError before anything is written if an input is unusable.

    `prompts` are suites (names or files) to take prompts from; the default depends on the backbone.
    """
    people = people_in(folder)
    chosen = nouns_of(list(people), nouns)
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise UserError(f"{out} already exists; delete it or name another folder with --out.")
    requested, written_in = _prompts(prompts or _suited(backbone))
    finder = FaceFinder(backbone, "cpu")
    found: dict[str, list[Portrait]] = {}
    loose = "move each photograph into the folder of its person"
    remarks = left_out(folder, (*SUFFIXES, *OTHER_SUFFIXES), loose)
    for person, own in people.items():
        found[person], own_remarks = portraits_in(own, finder if crop else None, person)
        remarks += own_remarks
    content = _content(name or _name_of(folder), folder, chosen, found, requested)
    content |= {"format": written_in} if written_in > 1 else {}
    faceless = [] if crop else _faceless(found, finder)
    if faceless:
        content["metrics"].remove("identity")
        remarks.append(f"The metric identity is left out: no face is found in {', '.join(faceless)}.")
    inspector = Inspector(finder, () if faceless else (0,))
    own = [Subject(person, chosen[person], tuple(one.source for one in taken)) for person, taken in found.items()]
    squares = {} if crop else inspector.crops(own)
    inspection = inspector.inspect([person_of(person, taken, squares) for person, taken in found.items()])
    inspection.refuse()
    remarks += inspection.remarks
    try:
        SuiteFile.model_validate(content)
    except ValidationError as error:
        raise UserError(f"The photographs do not make a valid suite: {sentence(error, SuiteFile)}") from None
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with writing_to(out):
            _write(partial, content, found, chosen)
            if out.is_dir():
                out.rmdir()
            partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    suite = read_suite(out / FILE)
    images = sum(len(prompts) for _, prompts in suite.subject_sets()) * suite.file.images_per_prompt
    return OwnSuite(out / FILE, {person: len(taken) for person, taken in found.items()}, images, tuple(remarks))


def _name_of(folder: Path) -> str:
    """The name of a suite of that folder."""
    return id_of(folder.resolve().name).encode()[:LONGEST_ID].decode(errors="ignore") or "own"


def _faceless(found: Mapping[str, Sequence[Portrait]], finder: FaceFinder) -> list[str]:
    """The references without a face."""
    return [f"{person}/{taken[0].source.name}" for person, taken in found.items() if not finder.search(taken[0].image)]


def _suited(backbone: Backbone) -> Sequence[str]:
    """Suites whose words the backbone knows."""
    return ("pocket",) if backbone.closed_vocabulary else ("fastcomposer-single", "fastcomposer-multi")


def _prompts(suites: Sequence[str]) -> tuple[dict[str, dict[str, list[Any]]], int]:
    """`single` and `multi` -> category -> prompts of these suites together, as in a file, and the file's format."""
    taken: dict[str, dict[str, list[Any]]] = {}
    files = [read_yaml(registry.suite_file(suite), SuiteFile) for suite in suites]
    for file in files:
        for kind, part in (("single", file.single), ("multi", file.multi)):
            for category, entries in (part.prompts if part else {}).items():
                own = taken.setdefault(kind, {}).setdefault(category, [])
                own += [written for entry in entries if (written := entry.model_dump(mode="json")) not in own]
    if "single" not in taken:
        raise UserError(f"{' and '.join(suites)} have no prompts for one subject; name another suite with --prompts.")
    return taken, max(file.format for file in files)


def _content(
    name: str,
    folder: Path,
    nouns: Mapping[str, str],
    found: Mapping[str, Sequence[Portrait]],
    prompts: Mapping[str, Mapping[str, list[Any]]],
) -> dict[str, Any]:
    people = list(found)
    content: dict[str, Any] = {
        "name": name,
        "version": "1",
        "description": f"{len(people)} people of {folder.name or folder}.",
        "license": LICENSE,
        "source": f"photographs of {folder.name or folder}",
        "seed": 0,
        "images_per_prompt": 1,
        "metrics": ["identity", "prompt-consistency"],
        "subjects": [
            {
                "id": person,
                "noun": nouns[person],
                "photographs": [f"subjects/{person}/{number}.png" for number in range(1, len(found[person]) + 1)],
            }
            for person in people
        ],
        "single": {"subjects": "all", "prompts": {key: list(texts) for key, texts in prompts["single"].items()}},
    }
    if len(people) > 1 and "multi" in prompts:
        neighbors = [list(pair) for pair in pairwise([*people, people[0]])]
        content["multi"] = {
            "subjects": "all-pairs" if len(people) <= EVERY_PAIR_UP_TO else neighbors,
            "prompts": {key: list(texts) for key, texts in prompts["multi"].items()},
        }
    return content


def _write(
    folder: Path, content: Mapping[str, Any], found: Mapping[str, Sequence[Portrait]], nouns: Mapping[str, str]
) -> None:
    rows = []
    for person, taken in found.items():
        row = []
        for number, portrait in enumerate(taken, start=1):
            write_png(folder / "subjects" / person / f"{number}.png", portrait.image)
            how = "as it is" if portrait.crop is None else "cropped"
            row.append(Tile(portrait.image, f"{person}, {nouns[person]}: {portrait.source.name}, {how}"))
        rows += in_rows(row, 5)
    write_png(
        folder / SHEET,
        contact_sheet(rows, title="The first photograph of each row is the reference of tuning-free methods."),
    )
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=110)
    (folder / FILE).write_text(f"# Written by `fc-bench init-suite`; edit it as you like.\n{text}", encoding="utf-8")
