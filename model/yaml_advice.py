"""Advice on YAML that means something other than intended: the problem, and the corrected line."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

INVISIBLE = "\u00ad\u034f\u180e\u200b\u2060\ufeff"
"""Invisible characters: soft hyphen, zero-width space and others."""
BLANKS = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f"
"""Blanks that look like a space but are other characters."""
_QUOTES = {"“": "”", "‘": "’", "„": "“", "«": "»", "”": "”", "’": "’"}
"""Typographic quotes: opening -> closing."""
OF_MODELS = ("model_type", "model_attributes_type")
"""Pydantic's error types for a missing mapping with known keys."""
_EMPTY, _STRING = "tag:yaml.org,2002:null", "tag:yaml.org,2002:str"


@dataclass(frozen=True)
class Advice:
    """A problem in a line (from 1) and the corrected line; None if no correction is known."""

    line: int
    what: str
    corrected: str | None = None

    def __str__(self) -> str:
        return f"{self.what}; write: {self.corrected.strip()}" if self.corrected else self.what


def quoted(text: str) -> str:
    """The text in YAML quotes."""
    if not any(character in text for character in '"\\'):
        return f'"{text}"'
    return "'" + text.replace("'", "''") + "'"


def why_quotes(value: str) -> str:
    """The reason why a text needs quotes."""
    if value[:1] in "{[&*!%@`|>":
        return f"a text that starts with {value[:1]} needs quotes"
    if ": " in value or value.endswith(":"):
        return "a text with a colon and a space needs quotes"
    return "a text with braces needs quotes in a list"


def strange_in(text: str) -> str | None:
    """The first invisible character or blank other than a space in a text; None if there is none."""
    return next((character for character in text if character in INVISIBLE or character in BLANKS), None)


def described(character: str) -> str:
    """A description of a character that `strange_in` found, with what to do."""
    if character in BLANKS:
        return f"the blank U+{ord(character):04X}; use a space"
    return f"the invisible character U+{ord(character):04X}; remove it"


def without_strange(text: str) -> str:
    """The text without invisible characters and with spaces in place of other blanks."""
    return "".join(" " if each in BLANKS else each for each in text if each not in INVISIBLE)


def advice_on_characters(root: yaml.Node, text: str) -> Advice | None:
    """Advice on the first key with invisible characters or the first text in typographic quotes; None without any."""
    for node, is_key in _scalars(root):
        if is_key and (strange := strange_in(node.value)) is not None:
            what = f"the key contains {described(strange)}"
            return _advice(node, what, text, without_strange(node.value).strip())
        if not node.style and len(node.value) > 1 and _QUOTES.get(node.value[0]) == node.value[-1]:
            what = f"YAML reads the quotes {node.value[0]} {node.value[-1]} as part of the text"
            return _advice(node, what, text, node.value[1:-1] if is_key else quoted(node.value[1:-1]))
    return None


def _scalars(root: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, bool]]:
    """Every scalar below a node, in file order, with whether it is a key."""
    waiting: list[tuple[yaml.Node, bool]] = [(root, False)]
    while waiting:
        node, is_key = waiting.pop()
        if isinstance(node, yaml.ScalarNode):
            yield node, is_key
        elif isinstance(node, yaml.MappingNode):
            for key, value in reversed(node.value):
                waiting += [(value, False), (key, True)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(item, False) for item in reversed(node.value)]


def advice_on_misread(node: yaml.Node, value: Any, text: str) -> Advice | None:
    """Advice on the first number that YAML reads differently than it looks; `value` is what was read without an error.

    Examples: `yes` becomes 1 in a number field, 010 becomes 8, 1:30 becomes 90.
    """
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(node, yaml.MappingNode) and isinstance(value, dict):
        pairs = [(item, value.get(constructed(key))) for key, item in node.value]
    elif isinstance(node, yaml.SequenceNode) and isinstance(value, (list, tuple)):
        pairs = list(zip(node.value, value, strict=False))
    else:
        return _misread_number(node, value, text)
    return next((found for item, own in pairs if (found := advice_on_misread(item, own, text)) is not None), None)


def _misread_number(node: yaml.Node, value: Any, text: str) -> Advice | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (isinstance(node, yaml.ScalarNode) and not node.style and is_number):
        return None
    kind = node.tag.rpartition(":")[2]
    if kind == "bool":
        what = f"YAML reads {node.value} as {_read_as(node)}, which is not a number; write a number"
        return _advice(node, what, text)
    if kind in ("int", "float") and (":" in node.value or re.match(r"[-+]?0[0-7_]+$", node.value)):
        return _advice(node, f"YAML reads {node.value} as {value}", text, str(_plain_number(node.value, value)))
    return None


def _plain_number(raw: str, value: Any) -> Any:
    """The number that digits with leading zeros look like."""
    return int(raw.replace("_", "")) if re.fullmatch(r"[-+]?[0-9_]+", raw) else value


def constructed(node: yaml.Node) -> Any:
    """The value of a node; None if it cannot be constructed on its own."""
    constructor: Any = yaml.constructor.SafeConstructor()
    try:
        return constructor.construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError, TypeError):
        return None


def advice_on_rejected(
    error_type: str, node: yaml.Node, holder: yaml.Node | None, text: str, known: Collection[str]
) -> Advice | None:
    """Why the schema rejects a node, if the text shows what was intended; otherwise None.

    `holder` is the mapping or list that contains the node, and `known` are the allowed keys.
    """
    if isinstance(node, yaml.ScalarNode) and node.tag == _EMPTY and not node.value:
        return Advice(node.start_mark.line + 1, "there is no value after the colon or the dash; write a value there")
    advise = _ADVISERS.get(error_type)
    found = advise(node, holder, text, known) if advise is not None else None
    if (
        found is None
        and isinstance(holder, yaml.SequenceNode)
        and isinstance(node, yaml.ScalarNode)
        and _is_folded(node)
    ):
        place = node.start_mark.line + 1
        what = f"the text continues in line {place + 1}, but a list item starts with a dash"
        return Advice(place + 1, what, f"- {text.split(chr(10))[place].strip()}")
    return found


def _is_folded(node: yaml.ScalarNode) -> bool:
    return not node.style and node.end_mark.line > node.start_mark.line


def _advice_on_text(node: yaml.Node, holder: yaml.Node | None, text: str, known: Collection[str]) -> Advice | None:
    if isinstance(node, yaml.MappingNode):
        raw = _source(node, text)
        return _advice(node, why_quotes(raw), text, quoted(raw))
    if not isinstance(node, yaml.ScalarNode) or node.tag == _STRING:
        return None
    what = f"YAML reads {node.value} as {_read_as(node)}, but a text is expected here"
    return _advice(node, what, text, quoted(node.value))


def _read_as(node: yaml.ScalarNode) -> str:
    """What YAML reads a plain scalar as, if not as text."""
    value = constructed(node)
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return "a number" if str(value) == node.value else f"the number {value}"
    return "a date"


def _advice_on_list(node: yaml.Node, holder: yaml.Node | None, text: str, known: Collection[str]) -> Advice | None:
    lines = text.split("\n")
    place, column = node.start_mark.line, node.start_mark.column
    own_line = not lines[place][:column].strip()
    if isinstance(node, yaml.ScalarNode) and re.match(r"[-–—]\S|[–—]", node.value):
        after = re.sub(r"^[-–—]\s*", "", lines[place].strip())
        return Advice(place + 1, "a list item starts with a dash and a space", f"{' ' * column}- {after}")
    if own_line and not (isinstance(node, yaml.ScalarNode) and not node.value):
        return Advice(place + 1, "a list item starts with a dash", f"{' ' * column}- {lines[place].strip()}")
    if isinstance(holder, yaml.SequenceNode) and holder.flow_style:
        return _advice(holder, "a list of lists is expected here", text, f"[{_source(holder, text)}]")
    if isinstance(node, yaml.ScalarNode) and node.value:
        items = ", ".join(item.strip() for item in node.value.split(","))
        return _advice(node, "a list is expected here", text, f"[{items}]")
    return None


def _advice_on_mapping(node: yaml.Node, holder: yaml.Node | None, text: str, known: Collection[str]) -> Advice | None:
    if isinstance(node, yaml.ScalarNode) and (found := re.fullmatch(r"([\w.-]+)[:：](\S.*)", node.value)):
        return _advice(node, "a space is missing after the colon", text, f"{found[1]}: {found[2]}")
    if isinstance(node, yaml.MappingNode):
        return None
    keys = f" with the keys {', '.join(known)}" if known else ""
    return Advice(node.start_mark.line + 1, f"a mapping{keys} is expected here")


def _advice_on_key(node: yaml.Node, holder: yaml.Node | None, text: str, known: Collection[str]) -> Advice | None:
    if not isinstance(node, yaml.ScalarNode) or re.split("[:：]", node.value)[0] not in known:
        return None
    place, keys = node.start_mark.line, "|".join(map(re.escape, known))
    spaced = re.sub(rf"(?<![\w.-])({keys})[:：](?=\S)", r"\1: ", text.split("\n")[place])
    return Advice(place + 1, "a space is missing after the colon", spaced)


def _advice_on_value(node: yaml.Node, holder: yaml.Node | None, text: str, known: Collection[str]) -> Advice | None:
    if isinstance(node, yaml.ScalarNode) and (strange := strange_in(node.value)) is not None:
        clean = without_strange(node.value).strip()
        return _advice(node, f"the text contains {described(strange)}", text, quoted(clean) if node.style else clean)
    if isinstance(node, yaml.ScalarNode) and not node.style and node.tag.endswith(":bool"):
        return _misread_number(node, 1, text)
    words = r"[\w.-]+(?: +[\w.-]+)+"
    in_brackets = isinstance(holder, yaml.SequenceNode) and holder.flow_style
    if in_brackets and isinstance(node, yaml.ScalarNode) and not node.style and re.fullmatch(words, node.value):
        return _advice(node, "a comma is missing", text, ", ".join(node.value.split()))
    return None


_ADVISERS: dict[str, Callable[[yaml.Node, yaml.Node | None, str, Collection[str]], Advice | None]] = {
    "string_type": _advice_on_text,
    "path_type": _advice_on_text,
    "literal_error": _advice_on_text,
    "list_type": _advice_on_list,
    **dict.fromkeys(("dict_type", *OF_MODELS), _advice_on_mapping),
    "extra_forbidden": _advice_on_key,
    "string_pattern_mismatch": _advice_on_value,
    "value_error": _advice_on_value,
}


def _source(node: yaml.Node, text: str) -> str:
    """The first line of a node's text in the file."""
    return text[node.start_mark.index : node.end_mark.index].strip().split("\n")[0].rstrip()


def _advice(node: yaml.Node, what: str, text: str, instead: str | None = None) -> Advice:
    """Advice on a node; the corrected line has `instead` in place of the node."""
    place = node.start_mark.line
    if instead is None:
        return Advice(place + 1, what)
    line = text.split("\n")[place]
    end = node.start_mark.column + len(_source(node, text))
    return Advice(place + 1, what, f"{line[: node.start_mark.column]}{instead}{line[end:]}")
