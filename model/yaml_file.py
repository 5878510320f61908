"""Reading a YAML file into a pydantic model, with errors that name the file and the line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from fc_bench.model.errors import ModelInputError
from fc_bench.model.settings import vanishes
from fc_bench.model.text_file import encoding_of

Schema = TypeVar("Schema", bound=BaseModel)

LARGEST_FILE = 4 << 20
"""Bytes; a suite or a backbone is a few kilobytes, anything near this is another kind of file."""


class _Loader(yaml.SafeLoader):
    """The safe loader; a number that is not finite, or larger or smaller than Python has any, stays text.

    Infinity is `inf` then, as on the command line and in JSON, which has no number for it.
    """

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float | str:
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            return str(value)
        return str(node.value) if vanishes(node.value) else value

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int | str:
        try:
            return super().construct_yaml_int(node)
        except ValueError:
            return str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


LONGEST_QUOTED = 60
"""Characters of a value that an error quotes."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean "x"?` when a known name is close, otherwise the list of known names; for the end of a sentence."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"known: {', '.join(known)}." if known else "there are none."


def read_yaml(path: Path, schema: type[Schema]) -> Schema:
    """The file's content as `schema`, read with the safe loader.

    Raises ModelInputError with `file:line` for an unreadable file, malformed YAML, a key given twice, an unknown key
    (with the nearest known one) or a value that the schema rejects.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ModelInputError(f"{path}: larger than {LARGEST_FILE >> 20} MiB, which no such YAML file is.")
        text = path.read_text(encoding=encoding_of(path))
    except UnicodeDecodeError as error:
        raise ModelInputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}).") from None
    except UnicodeError as error:
        raise ModelInputError(f"{path}: not UTF-8 text ({error}).") from None
    except OSError as error:
        raise ModelInputError(f"{path}: cannot be read ({error.strerror}).") from None
    root, data = _parsed(text, str(path))
    if not isinstance(data, dict) or root is None:
        raise ModelInputError(f"{path}:1: a mapping of keys to values is expected.")
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise ModelInputError(_first_error(error, root, path, schema)) from None


def read_value(text: str) -> Any:
    """A value as a YAML file would hold it: number, text, list, ...; raises ModelInputError for malformed YAML."""
    return _parsed(text, "the value")[1]


def _parsed(text: str, where: str) -> tuple[yaml.Node | None, Any]:
    """The root node and the content of a YAML text."""
    try:
        root = yaml.compose(text, Loader=_Loader)
        if root is not None:
            _refuse_aliases_and_repeated_keys(root, where)
        return root, yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}" if mark else where
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise ModelInputError(f"{place}: malformed YAML: {problem}.") from None
    except ModelInputError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelInputError(f"{where}: malformed YAML: {str(error).splitlines()[0]}.") from None


def line_of(path: Path, location: Sequence[str | int]) -> int:
    """The line (from 1) of the value at `location` in the YAML file, or of its closest parent there."""
    root = yaml.compose(path.read_text(encoding=encoding_of(path)), Loader=yaml.SafeLoader)
    return _line(root, location) if root is not None else 1


def sentence(error: ValidationError, schema: type[BaseModel]) -> str:
    """The first validation error as a sentence without a place: what is wrong and what to do."""
    first = error.errors()[0]
    location = first["loc"]
    if first["type"] == "extra_forbidden":
        return f'unknown key "{location[-1]}", {nearest(str(location[-1]), _known_keys(schema, location[:-1]))}'
    name = ".".join(str(part) for part in location)
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if first["type"] != "value_error":
        message += _given(first["input"])
    return f"{name}: {message}." if name else f"{message}."


def _given(value: Any) -> str:
    """What was given instead, as the end of a sentence, where it fits one."""
    if value is None or isinstance(value, (bool, float, str)) or (isinstance(value, int) and abs(value) < 10**40):
        written = json.dumps(value, ensure_ascii=False)
        return f", not {written}" if len(written) <= LONGEST_QUOTED else ""
    return ""


def _first_error(error: ValidationError, root: yaml.Node, path: Path, schema: type[BaseModel]) -> str:
    return f"{path}:{_line(root, error.errors()[0]['loc'])}: {sentence(error, schema)}"


def _known_keys(schema: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """Field names of the model that sits at `location` below `schema`, as far as annotations tell."""
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


def _line(node: yaml.Node, location: Sequence[Any]) -> int:
    line = node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    break
            else:
                continue
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _refuse_aliases_and_repeated_keys(root: yaml.Node, where: str) -> None:
    """Aliases can grow a small file without bound and repeated keys hide one of two values: both are refused."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            raise ModelInputError(f"{where}:{node.start_mark.line + 1}: YAML aliases (*name) are not accepted.")
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in keys:
                        raise ModelInputError(
                            f'{where}:{key.start_mark.line + 1}: the key "{key.value}" is given twice; keep one.'
                        )
                    keys.add(key.value)
                waiting += [key, value]
