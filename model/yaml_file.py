"""YAML files read into pydantic models, with errors that name the file and the line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from fc_bench.model.errors import ModelInputError
from fc_bench.model.settings import vanishes
from fc_bench.model.text_file import encoding_of
from fc_bench.model.yaml_advice import (
    OF_MODELS,
    Advice,
    advice_on_characters,
    advice_on_misread,
    advice_on_rejected,
    constructed,
)
from fc_bench.model.yaml_repair import advice_on_malformed

Schema = TypeVar("Schema", bound=BaseModel)

MOST_ERRORS = 100
"""Number of validation errors among which the most specific one is chosen."""
LONGEST_QUOTED = 60
"""Largest number of characters of a value that an error quotes."""
LARGEST_FILE = 4 << 20
"""Largest size in bytes; suites and backbones have a few kilobytes, and a larger file is something else."""


class _Loader(yaml.SafeLoader):
    """The safe loader, but numbers that are not finite or do not fit into Python's numbers stay text.

    Infinity becomes `inf`, as on the command line and in JSON, which has no infinity.
    """


def _float(loader: _Loader, node: yaml.ScalarNode) -> float | str:
    value = loader.construct_yaml_float(node)
    if not math.isfinite(value):
        return str(value)
    return str(node.value) if vanishes(node.value) else value


def _int(loader: _Loader, node: yaml.ScalarNode) -> int | str:
    try:
        return loader.construct_yaml_int(node)
    except ValueError:
        return str(node.value)


_FASTEST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _FastLoader(_FASTEST):
    """The same on libyaml, where PyYAML was built with it; its errors have less to say."""


for _kind in (_Loader, _FastLoader):
    _kind.add_constructor("tag:yaml.org,2002:float", _float)
    _kind.add_constructor("tag:yaml.org,2002:int", _int)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: `did you mean "x"?` if a known name is similar, otherwise the list of known names."""
    known = sorted(known)
    spelled = {each.lower(): each for each in reversed(known)}
    close = get_close_matches(name.lower(), spelled, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{spelled[close[0]]}"?'
    return f"known: {', '.join(known)}." if known else "there are none."


def read_yaml(path: Path, schema: type[Schema]) -> Schema:
    """The file's content as an instance of `schema`, read with the safe loader.

    Raises ModelInputError with `file:line` for an unreadable file, malformed YAML, a repeated key, an unknown key (with
    the most similar known one) or a value that the schema rejects.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ModelInputError(f"{path}: larger than {LARGEST_FILE >> 20} MiB, which is too large for such a file.")
        text = path.read_text(encoding=encoding_of(path))
    except UnicodeDecodeError as error:
        raise ModelInputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}).") from None
    except UnicodeError as error:
        raise ModelInputError(f"{path}: not UTF-8 text ({error}).") from None
    except OSError as error:
        raise ModelInputError(f"{path}: cannot be read ({error.strerror}).") from None
    if "\t" not in text:  # libyaml accepts tabs where PyYAML does not
        with suppress(ModelInputError):
            return _read(text, path, schema, _FastLoader)
    return _read(text, path, schema, _Loader)


def _read(text: str, path: Path, schema: type[Schema], loader: type[Any]) -> Schema:
    root, data = _parsed(text, str(path), schema, loader)
    if not isinstance(data, dict) or root is None:
        raise ModelInputError(f"{path}:1: a mapping of keys to values is expected.")
    try:
        read = schema.model_validate(data)
    except ValidationError as error:
        raise ModelInputError(_describe_rejected(error, root, path, text, schema)) from None
    _refuse(str(path), advice_on_misread(root, read, text))
    return read


def read_value(text: str) -> Any:
    """The value of a YAML text: number, text, list, ...; raises ModelInputError for malformed YAML."""
    return _parsed(text, "the value", None, _Loader)[1]


def _parsed(text: str, where: str, schema: type[BaseModel] | None, loader: type[Any]) -> tuple[yaml.Node | None, Any]:
    """The root node and the content of a YAML text, whose keys are those of `schema`."""
    try:
        root = yaml.compose(text, Loader=loader)
        if root is not None:
            _refuse_aliases_and_repeated_keys(root, where, text)
            _refuse(where, advice_on_characters(root, text))
        return root, yaml.load(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        raise ModelInputError(_describe_malformed(error, where, text, _every_key(schema) if schema else ())) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        character = f"U+{int(error.character):04X}" if isinstance(error.character, int) else repr(error.character)
        raise ModelInputError(f"{where}:{line}: malformed YAML: the character {character}; remove it.") from None
    except ModelInputError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelInputError(f"{where}: malformed YAML: {str(error).splitlines()[0]}.") from None


def line_of(path: Path, location: Sequence[str | int]) -> int:
    """The line (from 1) of the value at `location` in the YAML file, or of its closest existing parent."""
    root = yaml.compose(path.read_text(encoding=encoding_of(path)), Loader=yaml.SafeLoader)
    return _line(root, location) if root is not None else 1


def placed(message: str, *location: str | int) -> PydanticCustomError:
    """An error for a validator to raise about the value at a location below the validated model."""
    return PydanticCustomError("placed", "{message}", {"message": message, "location": location})


def sentence(error: ValidationError, schema: type[BaseModel]) -> str:
    """The first validation error as a sentence without file and line: what is wrong and what to do."""
    return _sentence(error.errors()[0], schema)


def _sentence(first: ErrorDetails, schema: type[BaseModel]) -> str:
    location = first["loc"]
    if first["type"] == "extra_forbidden":
        return f'unknown key "{location[-1]}", {nearest(str(location[-1]), _known_keys(schema, location[:-1]))}'
    name = ".".join(str(part) for part in location)
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if first["type"] not in ("value_error", "placed"):
        message += _describe_input(first["input"])
    message += "" if message.endswith("?") else "."
    return f"{name}: {message}" if name else message


def _describe_input(value: Any) -> str:
    """The rejected value as the end of a sentence; empty if it is too long."""
    if value is None or isinstance(value, (bool, float, str)) or (isinstance(value, int) and abs(value) < 10**40):
        written = json.dumps(value, ensure_ascii=False)
        return f", not {written}" if len(written) <= LONGEST_QUOTED else ""
    return ""


def _refuse(where: str, advice: Advice | None) -> None:
    if advice is not None:
        raise ModelInputError(f"{where}:{advice.line}: {advice}")


def _describe_malformed(error: yaml.MarkedYAMLError, where: str, text: str, known: Collection[str]) -> str:
    """Where and why a text is malformed YAML, with the corrected line if one is known."""
    advice = advice_on_malformed(text, error, known)
    if advice is not None:
        return f"{where}:{advice.line}: malformed YAML: {advice}"
    mark = error.problem_mark or error.context_mark
    place = f"{where}:{mark.line + 1}" if mark else where
    problem = " ".join(part for part in (error.context, error.problem) if part)
    return f"{place}: malformed YAML: {problem}."


def _describe_rejected(error: ValidationError, root: yaml.Node, path: Path, text: str, schema: type[BaseModel]) -> str:
    """The most specific error with its line, and with the corrected line if one is known."""
    first = _most_specific(error.errors(), root)
    location = (*first["loc"], *first.get("ctx", {}).get("location", ()))
    nodes = _path_to(root, location)
    node, holder = nodes[-1], nodes[-2] if len(nodes) > 1 else None
    if first["type"] == "extra_forbidden":
        node = next((key for key, value in _pairs(root) if value is node), node)
    advice = None
    if location[-1:] != ("[key]",) or (holder is not None and node in [key for key, _ in holder.value]):
        known = _known_keys(schema, location if first["type"] in OF_MODELS else location[:-1])
        known = [] if first["type"] == "dict_type" else known
        advice = advice_on_rejected(first["type"], node, holder, text, known)
    if advice is None:
        return f"{path}:{_line(root, location)}: {_sentence(first, schema)}"
    parts = (*location[:-2], getattr(node, "value", "")) if location[-1:] == ("[key]",) else first["loc"]
    name = ".".join(str(part) for part in parts if not re.search(r"[\[\]]", str(part)))
    return f"{path}:{advice.line}: {name}: {advice}" if name else f"{path}:{advice.line}: {advice}"


def _most_specific(errors: Sequence[ErrorDetails], root: yaml.Node) -> ErrorDetails:
    """The first error, or a more specific one about the same value.

    Among alternative types of one value, the deepest error is chosen. A wrong key comes before the missing key that it
    should have been.
    """
    first = errors[0]
    if first["type"] == "missing":
        wrong = [each for each in errors if each["type"] == "extra_forbidden" and each["loc"][:-1] == first["loc"][:-1]]
        return wrong[0] if wrong else first
    start = _path_to(root, first["loc"])
    same = [each for each in errors[:MOST_ERRORS] if _path_to(root, each["loc"])[: len(start)] == start]
    lists = [each for each in same if each["type"] == "list_type"]
    deepest = max(same, key=lambda each: len(_path_to(root, each["loc"])))
    return lists[0] if lists and len(_path_to(root, deepest["loc"])) == len(start) else deepest


def _every_key(schema: type[BaseModel]) -> set[str]:
    """The names of all fields of a schema and of the models in it."""
    keys: set[str] = set()
    waiting, seen = [schema], set[type[BaseModel]]()
    while waiting:
        model = waiting.pop()
        if model not in seen:
            seen.add(model)
            keys |= set(model.model_fields)
            waiting += [inner for field in model.model_fields.values() for inner in _models_in(field.annotation)]
    return keys


def _known_keys(schema: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """Field names of the model at `location` below `schema`, according to the annotations."""
    current: type[BaseModel] = schema
    for part in location:
        field = current.model_fields.get(str(part)) if isinstance(part, str) else None
        if field is not None:
            current = next(iter(_models_in(field.annotation)), current)
    return list(current.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]


def _line(root: yaml.Node, location: Sequence[Any]) -> int:
    node = _path_to(root, location)[-1]
    return next((key for key, value in _pairs(root) if value is node), node).start_mark.line + 1


def _pairs(root: yaml.Node) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Every key below a node with its value."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            yield from node.value
            waiting += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _path_to(root: yaml.Node, location: Sequence[Any]) -> list[yaml.Node]:
    """The nodes on the path to a location, as far as they exist; the last one may be a key."""
    path = [root]
    for place, part in enumerate(location):
        node = path[-1]
        if isinstance(node, yaml.MappingNode):
            is_key = tuple(location[place + 1 :]) == ("[key]",)
            own = [pair for pair in node.value if pair[0].value == str(part)]
            own = own or [pair for pair in node.value if constructed(pair[0]) == part]
            path += [pair[0] if is_key else pair[1] for pair in own[:1]]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            path.append(node.value[part])
    return path


def _refuse_aliases_and_repeated_keys(root: yaml.Node, where: str, text: str) -> None:
    """Refuse aliases, which can expand a small file without bound, and repeated keys, which hide a value."""
    seen, items = set[int](), set[int]()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            raise ModelInputError(f"{where}:{node.start_mark.line + 1}: YAML aliases (*name) are not accepted.")
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            items |= {id(item) for item in node.value}
        elif isinstance(node, yaml.MappingNode):
            keys: list[str] = []
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    line = key.start_mark.line
                    if key.value in keys:
                        next_item = id(node) in items and key.value == keys[0] and not node.flow_style
                        item = f", or write: - {text.splitlines()[line].strip()}" if next_item else ""
                        raise ModelInputError(
                            f'{where}:{line + 1}: the key "{key.value}" is given twice; keep one{item}.'
                        )
                    keys.append(key.value)
                waiting += [key, value]
