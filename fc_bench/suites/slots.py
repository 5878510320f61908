"""Prompts that name one's own people, `a {ada} and a {bo}`, and the subjects given for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fc_bench.errors import UserError
from fc_bench.model.articles import insert
from fc_bench.model.user_cache import expanded
from fc_bench.model.yaml_file import nearest
from fc_bench.suites.slugs import LONGEST_ID, id_of, is_id
from fc_bench.suites.suite_file import NOUN
from fc_bench.suites.templates import LONGEST_PROMPT


@dataclass(frozen=True)
class OwnSubject:
    """A subject to compose with: id, class noun, and a photograph or a folder of photographs."""

    id: str
    noun: str
    path: Path


def parse_subject(text: str) -> OwnSubject:
    """`ada=photos/ada.jpg:woman` as a subject; raises UserError for anything else."""
    name, equals, rest = text.partition("=")
    path, colon, noun = rest.rpartition(":")
    if not (equals and colon and name and path and noun):
        raise UserError(
            f'The subject "{text}" is not of the form ID=PHOTOGRAPH:NOUN, e.g. ada=photos/ada.jpg:woman; the class '
            "noun is used in the prompt."
        )
    if not is_id(id_of(name)) or "/" in name:
        raise UserError(
            f'The id "{name}" of a subject needs a letter or digit, at most {LONGEST_ID} bytes and no slash; change it.'
        )
    if not re.fullmatch(NOUN, noun):
        raise UserError(f'The class noun "{noun}" of "{name}" is not a word; write man, woman or another noun.')
    return OwnSubject(id_of(name), noun, expanded(path))


def parse_slots(prompt: str, subjects: Sequence[OwnSubject]) -> list[OwnSubject]:
    """The subjects in the order in which the prompt names them, each once; raises UserError for a mismatch."""
    given = {subject.id: subject for subject in subjects}
    if len({name.casefold() for name in given}) != len(subjects):
        twice = next(one.id for one in subjects if sum(one.id.casefold() == two.id.casefold() for two in subjects) > 1)
        raise UserError(f'Two subjects have the same id "{twice}"; give each one of its own.')
    if not given:
        raise UserError("No subject is given; add --subject ID=PHOTOGRAPH:NOUN, e.g. --subject ada=ada.jpg:woman.")
    if len(prompt) > LONGEST_PROMPT:
        raise UserError(f"The prompt has {len(prompt)} characters, at most {LONGEST_PROMPT} are accepted; shorten it.")
    if "<|image|>" in prompt:
        raise UserError("The prompt holds <|image|>; write {ID} of a subject there, with its article before it.")
    named = re.findall(r"{([^{}]*)}", prompt)
    if prompt.count("{") != len(named) or prompt.count("}") != len(named):
        raise UserError(f'The prompt "{prompt}" has a brace without its pair; write {{ID}} for each subject.')
    for name in (named := [id_of(text) or text for text in named]):
        if name not in given:
            raise UserError(f"The prompt names {{{name}}}, which is not a --subject; {nearest(name, given)}")
        if named.count(name) > 1:
            raise UserError(f"The prompt names {{{name}}} twice; write it once, and later he, she or they.")
    for name in given:
        if name not in named:
            raise UserError(f'The prompt "{prompt}" does not name {{{name}}}; write it where that person belongs.')
    return [given[name] for name in named]


def fill_slots(prompt: str, mentions: Mapping[str, str]) -> str:
    """The prompt with each `{id}` replaced; an indefinite article before it is adapted to the mention."""
    parts = re.split(r"{([^{}]*)}", prompt)
    return insert(parts[::2], [mentions[id_of(name)] for name in parts[1::2]])
