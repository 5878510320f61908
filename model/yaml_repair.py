"""Repair advice for malformed YAML: a change of one line that makes the file readable, found by trial."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import islice

import yaml

from fc_bench.model.yaml_advice import Advice, quoted, strange_in, why_quotes, without_strange

LARGEST_TEXT = 100_000
"""Largest file, in characters, for which repairs are tried, because each trial parses it again."""
MOST_TRIALS = 80
_LINE = re.compile(
    r"(?P<start>\s*(?:- +)*)(?:(?P<key>[^\s'\"{\[#:&*!|>%@`-][^:{\[]*):\s+)?(?P<value>.*?)(?P<rest>\s+#.*)?"
)
"""A line in block style: dashes, an optional key, a value and an optional comment."""


def advice_on_malformed(text: str, error: yaml.MarkedYAMLError, known: Collection[str]) -> Advice | None:
    """A change of one line after which the parser gets further; `known` are the keys of the schema.

    None if no change of a line near the error helps.
    """
    if len(text) > LARGEST_TEXT:
        return None
    marks = [mark for mark in (error.problem_mark, error.context_mark) if mark is not None]
    lines = text.split("\n")
    failed = marks[0].line if marks else 0
    open_quotes = [place for place in range(min(failed + 1, len(lines))) if _opens_a_quote(lines[place])]
    heads = [place for place in range(max(0, failed - 20), min(failed + 1, len(lines))) if _heads_more(lines, place)]
    begun = [error.context_mark.line] if error.context_mark and "flow" in (error.context or "") else []
    places = [*open_quotes[-1:], *heads[-1:], *begun]
    places += [place for mark in marks for place in (mark.line, mark.line - 1)]
    there = [place for place in dict.fromkeys(places) if 0 <= place < len(lines) and lines[place].strip()]
    trials = ((place, *tried) for place in there for tried in _corrections(lines, place, known))
    changes = (trial for trial in trials if trial[2] != lines[trial[0]])
    for place, what, corrected in islice(changes, MOST_TRIALS):
        if _reads_further(lines, place, corrected, max(failed, place)):
            return Advice(place + 1, what, corrected)
    return None


def _opens_a_quote(line: str) -> bool:
    """Whether the line's value starts with a quotation mark that is not closed."""
    parts = _LINE.fullmatch(line)
    value = parts["value"] if parts else ""
    return value[:1] in ("'", '"') and value.count(value[0]) % 2 == 1


def _reads_further(lines: Sequence[str], place: int, corrected: str, failed: int) -> bool:
    """Whether the parser gets past the failed line if the line at `place` is replaced."""
    try:
        for event in yaml.parse("\n".join([*lines[:place], corrected, *lines[place + 1 :]]), Loader=yaml.SafeLoader):
            if event.start_mark is not None and event.start_mark.line > failed + 1:
                return True
            if isinstance(event, yaml.AliasEvent) or (isinstance(event, yaml.NodeEvent) and _tag_of(event)):
                return False
    except yaml.MarkedYAMLError as error:
        return error.problem_mark is not None and error.problem_mark.line > failed
    except (yaml.YAMLError, ValueError, RecursionError):
        return False
    return True


def _tag_of(event: yaml.NodeEvent) -> str | None:
    """The explicit tag of a node."""
    return getattr(event, "tag", None)


def _corrections(lines: Sequence[str], place: int, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Possible problems of a line with the corrected line, the most likely first."""
    line = lines[place]
    if "\t" in line:
        indent, rest = line[: len(line) - len(line.lstrip())], line.lstrip().replace("\t", " ")
        for step in (2, 4, 8):
            yield "YAML needs spaces instead of a tab", indent.replace("\t", " " * step) + rest
        for column in _columns(lines[:place]):
            yield "YAML needs spaces instead of a tab", " " * column + rest
        return
    if (strange := strange_in(line)) is not None:
        yield f"YAML needs a space instead of the character U+{ord(strange):04X}", without_strange(line)
        return
    yield "a space is missing after the colon", re.sub(r"^(\s*(?:- +)?[\w.-]+)[:：](?=[^\s/])", r"\1: ", line)
    yield "the colon is missing after the key", _with_colon(line, known, _heads_more(lines, place))
    yield "a comma is missing", _with_commas(line, known)
    yield "a closing bracket is missing", line + _unclosed(line)
    own, text = _indent(line), line.lstrip()
    if re.match(r"[-–—]\S|[–—]", text):
        yield "a list item starts with a dash and a space", f"{' ' * own}- {text.lstrip('-–—').lstrip()}"
    yield from _quotations(line)
    dashes = [_indent(other) for other in lines[:place] if re.match(r" *- ", other)]
    columns = [column for column in _columns(lines[:place]) if column != own]
    is_pair = re.match(r"([\w.-]+):(?:\s|$)", text)
    items = [f"{' ' * column}- {text}" for column in dict.fromkeys(reversed(dashes)) if column in (own, own - 2)]
    shifted = [
        (f"the line is indented by {own} spaces, but the lines it belongs to by {column}", " " * column + text)
        for column in columns
    ]
    for what, corrected in shifted if is_pair else ():
        yield what, corrected
    for corrected in items:
        yield "a list item starts with a dash", corrected
    for what, corrected in () if is_pair else shifted:
        yield what, corrected


def _heads_more(lines: Sequence[str], place: int) -> bool:
    """Whether a line is a single word and the next line is indented further."""
    following = next((line for line in lines[place + 1 :] if line.strip()), "")
    return re.fullmatch(r" *[\w.-]+", lines[place]) is not None and _indent(following) > _indent(lines[place])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _columns(lines: Sequence[str]) -> list[int]:
    """The columns where earlier lines start, and where the text after their dashes starts; nearest lines first."""
    columns: dict[int, None] = {}
    for line in reversed(lines):
        if line.strip():
            columns[len(re.match(r" *(?:- +)*", line)[0])] = None  # type: ignore[index]
            columns[_indent(line)] = None
    return list(columns)


def _with_colon(line: str, known: Collection[str], before_more: bool) -> str:
    """The line with a colon after its key; any single word counts as a key if the next line is indented further."""
    found = re.fullmatch(r"(\s*(?:- +)?)([\w.-]+)(?:\s+(?:= *)?(.*)| *= *(.+))?", line)
    if not found or (found[2] not in known and (found[3] or found[4] or not before_more)):
        return line
    return f"{found[1]}{found[2]}: {found[3] or found[4] or ''}".rstrip()


def _with_commas(line: str, known: Collection[str]) -> str:
    keys = "|".join(map(re.escape, known))
    return re.sub(rf"(?<=[^\s,{{\[])\s+(?=(?:{keys}):)", ", ", line) if "{" in line and keys else line


def _unclosed(line: str) -> str:
    """The closing brackets that are missing in a line."""
    left: list[str] = []
    for character in re.sub(r"\"[^\"]*\"|'[^']*'", "", line):
        if character in "[{":
            left.append("]" if character == "[" else "}")
        elif left and character == left[-1]:
            left.pop()
    return "".join(reversed(left))


def _quotations(line: str) -> Iterator[tuple[str, str]]:
    """The line with quotes around its value or the items of its list."""
    parts = _LINE.fullmatch(line)
    if parts is None or not parts["value"] or re.fullmatch(r"---.*|\.\.\.", parts["value"]):
        return
    if parts["key"] is None and re.fullmatch(r"[\w.-]+:", parts["value"]):
        return
    value, end = _without_end(parts["value"])
    rest = end + (parts["rest"] or "")
    head = parts["start"] + (f"{parts['key']}: " if parts["key"] else "")
    first = value[:1]
    if first in ("'", '"'):
        inner = value[1:-1] if value.endswith(first) and len(value) > 1 else value.replace(first, "", 2)
        if _opens_a_quote(line):
            yield "a closing quotation mark is missing", f"{head}{value}{first}{rest}"
        escape = first == '"' and "\\" in inner
        why = "a backslash in double quotes starts an escape" if escape else "the quotes must enclose the whole text"
        yield why, f"{head}{quoted(inner)}{rest}"
        return
    if first in ("[", "{") and _is_whole(value) and (first == "[" or ":" in value):
        inside = value[1:-1] if value.endswith("]" if first == "[" else "}") else value[1:]
        items = [_quoted_item(item.strip(), first == "{") for item in _split(inside)]
        yield why_quotes(inside), f"{head}{first}{', '.join(items)}{']' if first == '[' else '}'}{rest}"
    if re.match(r"[\[{&*!%@`|>]|.*[{}\[\]]|.*:(?: |$)", value):
        yield why_quotes(value), f"{head}{quoted(value)}{rest}"


def _without_end(value: str) -> tuple[str, str]:
    """A value, and separately the comma or brackets after it that belong to a list from an earlier line."""
    end = ""
    while value.endswith((",", "]", "}")) and (value[-1] == "," or _closes_more(value)):
        value, end = value[:-1].rstrip(), value[-1] + end
    return value, end


def _closes_more(value: str) -> bool:
    return sum(map(value.count, "[{")) < sum(map(value.count, "]}"))


def _is_whole(value: str) -> bool:
    """Whether the first bracket of a value is closed at the end of the value or not at all."""
    depth = 0
    for place, character in enumerate(value):
        depth += (character in "[{") - (character in "]}")
        if depth == 0:
            return place == len(value) - 1
    return True


def _quoted_item(item: str, pair: bool) -> str:
    """An item of a list, or the value of a key-value pair, quoted if it is text with braces or colons."""
    key, colon, value = item.partition(":") if pair else ("", "", item)
    value = value.strip()
    if not value or value[0] in "\"'[" or (value[0] == "{" and ": " in value) or not set(value) & set("{}:"):
        return item
    return f"{key}{colon} {quoted(value)}" if pair else quoted(value)


def _split(text: str) -> list[str]:
    """The items of a list, split at commas outside quotes and brackets."""
    items, depth, quote, start = [], 0, "", 0
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[]{}":
            depth += 1 if character in "[{" else -1
        elif character == "," and depth <= 0:
            items.append(text[start:place])
            start = place + 1
    return [*items, text[start:]]
