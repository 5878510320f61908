"""Mistakes in YAML files are reported in one line, with the line in the file and the corrected line."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from fc_bench.model.errors import ModelInputError
from fc_bench.model.yaml_file import nearest, read_yaml
from fc_bench.suites.suite_file import SuiteFile

WHOLE = """\
name: trio
version: "1"
description: three people
license: MIT
source: drawn by the tests
seed: 7
photographs:
  pattern: "people/{id}-{n}.png"
  count: 2
subjects:
  - {id: ann, noun: woman}
  - id: bob
    noun: man
  - {id: cid, noun: man}
single:
  prompts:
    context:
      - a photo of a {subject} in the snow
      - a photo of a {subject} on the beach
    style:
      - a sketch of a {subject}
multi:
  subjects:
    - [ann, bob]
  prompts:
    context: ["a photo of {subjects}"]
"""

MISTAKES = {
    # what stands in the file: (the right line, the wrong one, what the sentence says)
    "placeholder first": ('      - "{subject} at night"', "      - {subject} at night", "starts with {"),
    "placeholder alone": ('      - "{subject}"', "      - {subject}", "starts with {"),
    "placeholders in a list": (
        '    context: ["{subjects} a", "b {subjects}"]', "    context: [{subjects} a, b {subjects}]", "needs quotes",
    ),
    "pattern": ('  pattern: "{id}/{n}.png"', "  pattern: {id}/{n}.png", "starts with {"),
    "colon in a text": ('      - "a {subject}: at night"', "      - a {subject}: at night", "a colon and a space"),
    "colon in a description": ('description: "three: people"', "description: three: people", "a colon and a space"),
    "at sign": ('      - "@home with {subject}"', "      - @home with {subject}", "starts with @"),
    "star": ('description: "*people"', "description: *people", "starts with *"),
    "exclamation mark": ('      - "!a {subject}"', "      - !a {subject}", "starts with !"),
    "quotes around a part": ('      - "a {subject} at night"', '      - "a {subject}" at night', "the whole text"),
    "apostrophe": ("""      - "a {subject}'s hat\"""", "      - 'a {subject}'s hat'", "the whole text"),
    "no as a noun": ('    noun: "no"', "    noun: no", "reads no as false"),
    "yes as a noun": ('  - {id: cid, noun: "yes"}', "  - {id: cid, noun: yes}", "reads yes as true"),
    "on as an id": ('  - {id: "on", noun: man}', "  - {id: on, noun: man}", "reads on as true"),
    "off as a category": ('    "off":', "    off:", "reads off as false"),
    "year as a category": ('    "2024":', "    2024:", "reads 2024 as a number"),
    "version 1.0": ('version: "1.0"', "version: 1.0", "reads 1.0 as a number"),
    "version 1.10": ('version: "1.10"', "version: 1.10", "reads 1.10 as the number 1.1"),
    "version as a date": ('version: "2024-01-01"', "version: 2024-01-01", "reads 2024-01-01 as a date"),
    "id 007": ('  - {id: "007", noun: man}', "  - {id: 007, noun: man}", "reads 007 as the number 7"),
    "id of the published suite": ('  - {id: "000001", noun: man}', "  - {id: 000001, noun: man}", "as the number 1"),
    "octal seed": ("seed: 10", "seed: 010", "reads 010 as 8"),
    "seed of hours": ("seed: 90", "seed: 1:30", "reads 1:30 as 90"),
    "tab": ("    noun: man", "\tnoun: man", "YAML needs spaces instead of a tab"),
    "tab after a colon": ("seed: 8", "seed:\t8", "YAML needs spaces instead of a tab"),
    "no-break spaces": ("    noun: man", "\u00a0\u00a0\u00a0\u00a0noun: man", "U+00A0"),
    "no-break space after a colon": ("seed: 8", "seed:\u00a08", "U+00A0"),
    "colon without a space": ("seed: 8", "seed:8", "a space is missing after the colon"),
    "first colon without a space": ("name: trio", "name:trio", "a space is missing after the colon"),
    "colons without a space in braces": ("  - {id: cid, noun: man}", "  - {id:cid, noun:man}", "a space is missing"),
    "colon of another script": ("name: trio", "name：trio", "a space is missing after the colon"),
    "no colon": ("license: MIT", "license MIT", "the colon is missing"),
    "no comma": ("  - {id: cid, noun: man}", "  - {id: cid noun: man}", "a comma is missing"),
    "open bracket": ("metrics: [identity]", "metrics: [identity", "a closing bracket is missing"),
    "open brace": ("  - {id: cid, noun: man}", "  - {id: cid, noun: man", "a closing bracket is missing"),
    "open quotation": ('license: "MIT"', 'license: "MIT', "a closing quotation mark is missing"),
    "prompt without a dash": ("      - a {subject} in the city", "      a {subject} in the city", "starts with a dash"),
    "prompt without a dash, indented": ("      - a {subject} in the city", "        a {subject} in the city", "dash"),
    "dash without a space": ("      - a {subject} in the city", "      -a {subject} in the city", "a dash and a space"),
    "long dash": ("      - a {subject} in the city", "      – a {subject} in the city", "a dash and a space"),
    "subject without a dash": ("  - {id: cid, noun: man}", "  {id: cid, noun: man}", "starts with a dash"),
    "only prompt without a dash": ("      - a sketch of the {subject}", "      a sketch of the {subject}", "a dash"),
    "only prompt, dash without a space": ("      - a sketch of {subject}", "      -a sketch of {subject}", "a dash"),
    "indented too little": ("    noun: man", "   noun: man", "indented by 3 spaces, but the lines it belongs to by 4"),
    "indented too far": ("    noun: man", "     noun: man", "indented by 5 spaces, but the lines it belongs to by 4"),
    "list as a text": ("metrics: [identity, prompt-consistency]", "metrics: identity, prompt-consistency", "a list"),
    "list of lists": ("  subjects: [[ann, bob]]", "  subjects: [ann, bob]", "a list of lists"),
    "placeholder before a colon": ('      - "{subject}: a portrait"', "      - {subject}: a portrait", "starts with {"),
    "bracket first": ('      - "[a {subject}] at night"', "      - [a {subject}] at night", "starts with ["),
    "equals sign": ("seed: 8", "seed = 8", "the colon is missing"),
    "no comma in a list": ("  subjects: [[ann, bob]]", "  subjects: [[ann bob]]", "a comma is missing"),
    "backslash": ("description: 'a \\d'", 'description: "a \\d"', "a backslash in double quotes starts an escape"),
    "typographic quotes": ('    noun: "man"', "    noun: “man”", "YAML reads the quotes “ ” as part of the text"),
    "typographic quotes around a key": ("seed: 8", "“seed”: 8", "YAML reads the quotes “ ” as part of the text"),
    "typographic quotes around a version": ('version: "1.0"', "version: “1.0”", "the quotes “ ”"),
    "zero-width space in a key": ("seed: 8", "se\u200bed: 8", "U+200B"),
    "byte order mark in the middle": ("seed: 8", "\ufeffseed: 8", "U+FEFF"),
    "zero-width space in a noun": ("    noun: man", "    noun: man\u200b", "U+200B"),
    "no-break space in a prompt": ("      - a {subject} in the city", "      - a {subject} in\u00a0the city", "U+00A0"),
    "soft hyphen in a prompt": ("      - a {subject} in the city", "      - a {subject} in the ci\u00adty", "U+00AD"),
}  # fmt: skip
PLACES = {
    "seed": "seed: 7",
    "metrics": "seed: 7",
    "version": 'version: "1"',
    "description": "description: three people",
    "license": "license: MIT",
    "name": "name: trio",
    "pattern": '  pattern: "people/{id}-{n}.png"',
    "context": '    context: ["a photo of {subjects}"]',
    "noun": "    noun: man",
    "id": "  - {id: cid, noun: man}",
    "subjects": "  subjects:\n    - [ann, bob]",
}
"""Which lines of the whole file each stands for, by the right line's key; prompts and categories apart."""


def line_for(right: str) -> str:
    if "in the city" in right:
        return "      - a photo of a {subject} on the beach"
    if right.lstrip(" -").startswith(("a sketch", '"', "'", "a {")):
        return "    style:" if right.endswith(":") else "      - a sketch of a {subject}"
    return PLACES[re.findall(r"[a-z]+", right)[0]]


def read(folder: Path, text: str, schema: Any = SuiteFile) -> Any:
    file = folder / "file.yaml"
    file.write_text(text, encoding="utf-8")
    return read_yaml(file, schema)


def report(folder: Path, text: str, schema: Any = SuiteFile) -> str:
    with pytest.raises(ModelInputError) as caught:
        read(folder, text, schema)
    return str(caught.value).removeprefix(f"{folder / 'file.yaml'}:")


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_is_reported_with_its_line_and_the_line_as_it_should_be(case, tmp_path):
    right, wrong, what = MISTAKES[case]
    place = line_for(right)
    assert WHOLE.count(place) == 1
    read(tmp_path, WHOLE.replace(place, right))
    sentence = report(tmp_path, WHOLE.replace(place, wrong))
    number = WHOLE[: WHOLE.index(place)].count("\n") + 1
    assert sentence.startswith(f"{number}: "), sentence
    assert sentence.endswith(f"; write: {right.strip()}"), sentence
    assert what in sentence


def test_whole_file_is_read_and_a_byte_order_mark_at_its_beginning_is_none_of_it(tmp_path):
    assert read(tmp_path, WHOLE) == read(tmp_path, "\ufeff" + WHOLE) == read(tmp_path, WHOLE.replace("\n", "\r\n"))


@pytest.mark.parametrize(
    ("added", "what"),
    [
        ("a  sketch of a {subject}", 'differs from "a sketch of a {subject}" in blanks or invisible characters only'),
        ('" a sketch of a {subject}"', "differs from"),
        ("a sketch of a\u200d {subject}", "differs from"),
        ("a sketch of a {subject}", "is listed twice"),
    ],
)
def test_prompts_that_look_the_same_are_reported_with_the_line_of_the_second(added, what, tmp_path):
    last = "      - a sketch of a {subject}\n"
    sentence = report(tmp_path, WHOLE.replace(last, f"{last}      - {added}\n"))
    assert sentence.startswith("22: ")
    assert what in sentence


@pytest.mark.parametrize(
    ("change", "number", "what"),
    [
        (("  - {id: cid, noun: man}", "  - {id: ann, noun: man}"), 14, 'the subject "ann" is listed twice'),
        (("[ann, bob]", "[ann, bop]"), 24, 'no subject has the id "bop", did you mean "bob"?'),
        (("seed: 7", "seed: 7\nseed: 8"), 7, 'the key "seed" is given twice; keep one.'),
        (("    noun: man\n", "    noun: man\n    id: eve\n"), 14, "is given twice; keep one, or write: - id: eve"),
        (("license:", "licence:"), 4, 'unknown key "licence", did you mean "license"?'),
        (("seed:", "SEED:"), 6, 'unknown key "SEED", did you mean "seed"?'),
        (("seed:", "images-per-prompt:"), 6, 'unknown key "images-per-prompt", did you mean "images_per_prompt"?'),
        (("single:\n", "single\n"), 15, "the colon is missing after the key; write: single:"),
        (("    context:\n      - a", "    context\n      - a"), 17, "the colon is missing after the key"),
        (("seed: 7", "seed:"), 6, "seed: there is no value after the colon"),
        (("  - {id: cid, noun: man}", "  - cid"), 14, "a mapping with the keys id, noun, photographs"),
        (("seed: 7", "options: [paste]"), 6, "options: a mapping is expected here"),
        (("license: MIT\n", "license: MIT\n---\n"), 5, "expected a single document"),
        (("name: trio", "nmae: trio"), 1, 'unknown key "nmae", did you mean "name"?'),
        (("seed: 7", "seed: yes"), 6, "YAML reads yes as true, which is not a number"),
        (('version: "1"', "version:"), 2, "version: there is no value after the colon"),
        (("three people", "three\apeople"), 3, "the character U+0007; remove it"),
    ],
)  # fmt: skip
def test_other_mistakes_are_reported_with_their_line(change, number, what, tmp_path):
    assert WHOLE.count(change[0]) == 1
    sentence = report(tmp_path, WHOLE.replace(*change))
    assert sentence.startswith(f"{number}: ")
    assert what in sentence


def test_file_indented_by_tabs_is_reported_at_its_first_tab(tmp_path):
    text = re.sub(r"^(  )+", lambda blanks: "\t" * (len(blanks[0]) // 2), WHOLE, flags=re.MULTILINE)
    assert report(tmp_path, text).startswith("8: malformed YAML: YAML needs spaces instead of a tab; write: pattern:")


class Settings(BaseModel):
    """What a backbone, a recipe or a gate may look like."""

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    steps: int = 1
    rate: float = 0.0
    parts: dict[str, list[str]] = {}
    options: dict[str, Any] = {}
    flag: bool = False


@pytest.mark.parametrize(
    ("text", "number", "what"),
    [
        ("steps: on\n", 1, "reads on as true"),
        ("rate: no\n", 1, "reads no as false"),
        ("steps: 0100\n", 1, "reads 0100 as 64; write: steps: 100"),
        ("options:\n  a: {b: 012}\n", 2, "reads 012 as 10; write: a: {b: 12}"),
        ("parts:\n  yes: [a]\n", 2, "reads yes as true"),
        (
            "parts:\n  a: [b, 1.50]\n",
            2,
            'reads 1.50 as the number 1.5, but a text is expected here; write: a: [b, "1.50"]',
        ),
        ("parts:\n  a: b\n", 2, "a list is expected here; write: a: [b]"),
        ("Steps: 2\n", 1, 'did you mean "steps"?'),
        ("name: a\n\tsteps: 1\n", 2, "YAML needs spaces instead of a tab"),
    ],
)
def test_files_of_other_schemas_are_reported_the_same_way(text, number, what, tmp_path):
    sentence = report(tmp_path, text, Settings)
    assert sentence.startswith(f"{number}: ")
    assert what in sentence


def test_what_is_meant_as_it_is_written_is_read(tmp_path):
    text = "name: “a” b\nsteps: 1_000\nrate: 1e-3\nflag: yes\noptions: {a: no, b: 0x1F, c: 2024-01-01, d: 'a: b'}\n"
    found = read(tmp_path, text, Settings)
    assert (found.name, found.steps, found.rate, found.flag) == ("“a” b", 1000, 0.001, True)
    assert found.options["a"] is False
    assert found.options["b"] == 31


def test_file_damaged_anywhere_is_read_or_refused(tmp_path):
    random = Random(8)
    pieces = [*"{}[]:\t\n“'\"#~*&!|>?,=%@", "- ", "\u00a0", "\u200b", "\u2028", "\x85", "no", "007", "<<: ", "---\n"]
    for _ in range(400):
        text = WHOLE
        for _ in range(random.randint(1, 4)):
            place = random.randrange(len(text))
            kept = place if random.random() < 0.5 else place + random.randint(1, 6)
            text = text[:place] + random.choice(pieces) * (kept == place) + text[kept:]
        (tmp_path / "file.yaml").write_text(text, encoding="utf-8")
        with suppress(ModelInputError):  # and nothing else
            read_yaml(tmp_path / "file.yaml", SuiteFile)


def test_large_file_with_an_error_is_refused_soon(tmp_path):
    begun = time.monotonic()
    prompts = "".join(f"      - a {{subject}} number {number}\n" for number in range(20_000))
    sentence = report(tmp_path, WHOLE.replace("      - a sketch of a {subject}\n", prompts) + "\tx: [\n")
    assert "malformed YAML" in sentence
    assert time.monotonic() - begun < 60


def test_nearest_name_is_found_whatever_its_capitals():
    assert nearest("FastComposer", ["fastcomposer", "dreambooth"]) == 'did you mean "fastcomposer"?'
    assert nearest("xyz", []) == "there are none."
