"""Prompt templates: texts with a slot for each subject, checked and brought into one form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from fc_bench.model.yaml_advice import described, strange_in, without_strange
from fc_bench.model.yaml_file import nearest

LONGEST_PROMPT = 1000
"""Largest number of characters of a prompt."""
_SLOT = re.compile(r"{([^{}]*)}")
_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_JOINERS = "\u200c\u200d"


def _check_visible(text: str) -> str:
    """Refuse control characters and characters that change the direction of writing."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _TURNING:
            raise ValueError(f"the text holds the invisible character U+{ord(character):04X}; remove it")
    if (strange := strange_in(text)) is not None:
        raise ValueError(f"the text holds {described(strange)}")
    if len(text) > LONGEST_PROMPT:
        raise ValueError(f"the prompt has {len(text)} characters, at most {LONGEST_PROMPT} are accepted")
    return text


Text = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_check_visible)]
"""A text of a prompt."""


def same_text(earlier: str, text: str) -> str:
    """What is wrong with two templates that look the same."""
    if earlier == text:
        return f'the prompt "{text}" is listed twice; use images_per_prompt for more images of it'
    return f'the prompt "{text}" differs from "{earlier}" in blanks or invisible characters only; keep one'


def as_seen(text: str) -> str:
    """The text without invisible characters; prompts that differ only in these are the same."""
    shown = "".join(each for each in without_strange(text) if each not in _JOINERS)
    return " ".join(unicodedata.normalize("NFC", shown).split())


def slots_of(text: str) -> list[str]:
    """The names of the slots in a text, in order."""
    return _SLOT.findall(text)


def check_single(text: str) -> str:
    """A template of one subject, with `{subject}` once; raises ValueError with what to write."""
    return _check_slot(text, "subject")


def check_multi(text: str) -> str:
    """A template of several subjects, with `{subjects}` once, or with `{1}`, `{2}` and so on in this order.

    Raises ValueError with what to write.
    """
    if "1" in slots_of(text):
        return _check_numbered(text)
    return _check_slot(text, "subjects")


def template_of_set(text: str, ids: Sequence[str]) -> str:
    """The template of a set of these subjects, whose slots are their numbers from 1, or their ids; with numbers alone.

    `{subject}` or `{subjects}` stays, and a text without any slot names nobody. Raises ValueError with what to write.
    """
    slots = slots_of(text)
    slot = "subject" if len(ids) == 1 else "subjects"
    if not slots and "{" not in text and "}" not in text:
        return _refuse_placeholder(text, slot)
    if slot in slots:
        return _check_slot(text, slot)
    places = [str(place) for place in range(1, len(ids) + 1)]
    numbers = {**dict(zip(ids, places, strict=True)), **{place: place for place in places}}
    for name in slots:
        if name not in numbers:
            raise ValueError(f'the prompt "{text}" names {{{name}}}, which is not in the set, {nearest(name, numbers)}')
    text = _SLOT.sub(lambda found: f"{{{numbers[found[1]]}}}", text)
    _check_numbered(text)
    if len(slots) != len(ids):
        raise ValueError(
            f'the prompt "{text}" has {len(slots)} slots for a set of {len(ids)}; write each of {{1}} to {{{len(ids)}}}'
        )
    return text


def _check_slot(text: str, slot: str) -> str:
    found = slots_of(_refuse_placeholder(text, slot))
    strange = [name for name in found if name != slot]
    if strange:
        raise ValueError(f'the prompt "{text}" has the placeholder {{{strange[0]}}}; write {{{slot}}} exactly once')
    if len(found) != 1 or text.count("{") != 1 or text.count("}") != 1:
        number = "no" if not found else str(len(found))
        raise ValueError(f'the prompt "{text}" has {number} placeholder {{{slot}}}; write it exactly once')
    return text


def _check_numbered(text: str) -> str:
    """Refuse slots that are not 1, 2 and so on in this order: methods get references in the order of the prompt."""
    slots = slots_of(_refuse_placeholder(text, "1"))
    wanted = [str(number) for number in range(1, len(slots) + 1)]
    if text.count("{") != len(slots) or text.count("}") != len(slots):
        raise ValueError(f'the prompt "{text}" has a brace without its pair; write {{1}} for the first subject')
    if sorted(slots) == wanted and slots != wanted:
        raise ValueError(
            f'the prompt "{text}" names subject {slots[0]} first; name the subjects in the order of the set, or list '
            "the set in the order of the prompt"
        )
    if slots != wanted:
        raise ValueError(f'the prompt "{text}" has the slots {_braced(slots)}; write {_braced(wanted)}, each once')
    return text


def _braced(names: Sequence[str]) -> str:
    return " ".join(f"{{{name}}}" for name in names)


def _refuse_placeholder(text: str, slot: str) -> str:
    if "<|image|>" in text:
        raise ValueError(f'the prompt "{text}" holds <|image|>; write {{{slot}}}, each method mentions subjects itself')
    return text
