"""Lists of methods, metrics, suites and backbones, and the options of a method."""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fc_bench import registry
from fc_bench.errors import UserError
from fc_bench.generation.plan import completed, default
from fc_bench.model.backbones.backbone import Backbone, backbone_names, read_backbone
from fc_bench.model.errors import ModelInputError
from fc_bench.model.yaml_file import read_yaml
from fc_bench.protocols import Method
from fc_bench.suites.suite_file import SuiteFile

NOTHING = "–"


def show_kind(kind: Literal["methods", "metrics", "suites", "backbones"], console: Console) -> None:
    """Print all of a kind with their descriptions; a broken plug-in shows the reason in its row."""
    table = Table(title=kind, title_justify="left", box=None, show_header=False, padding=(0, 2))
    if kind == "backbones":
        for name in backbone_names():
            table.add_row(name, escape(read_backbone(name).description))
    else:
        for item in registry.registered(kind).values():
            table.add_row(*map(escape, (item.name, _description(kind, item.name), item.distribution)))
    console.print(table)


def show_options(name: str, backbone: str, console: Console) -> None:
    """Print a method's options: type, default, the value on the backbone (name or path), and meaning.

    Raises UserError or ModelInputError if there is no such method or backbone.
    """
    method, chosen = registry.load("methods", name), read_backbone(backbone)
    console.print(f"{name}: {_description('methods', name)}", markup=False, highlight=False, soft_wrap=True)
    if message := chosen.lacks(name):
        console.print(message, markup=False, highlight=False, soft_wrap=True)
        return
    fields = method.Options.model_fields
    if not fields:
        console.print("It has no options.", highlight=False)
        return
    meaning_of = {key: _meaning(method.Options, key) for key in fields}
    meanings = any(meaning_of.values())
    table = Table(box=None, padding=(0, 2))
    for title in ("option", "type", "default", f"on {chosen.name}", *(["meaning"] if meanings else [])):
        table.add_column(escape(title), overflow="fold")
    suited = _suited(method, chosen, name)
    for key, field in fields.items():
        own = default(method.Options, key)
        cells = [
            key,
            _type(field.annotation),
            "required" if field.is_required() else json.dumps(own),
            json.dumps(suited[key]) if key in suited and suited[key] != own else NOTHING,
        ]
        table.add_row(*map(escape, [*cells, *([meaning_of[key]] if meanings else [])]))
    console.print(table)
    console.print(f"Set one with -o {name}.OPTION=VALUE.", markup=False, highlight=False)


def _description(kind: Literal["methods", "metrics", "suites"], name: str) -> str:
    """The description of a registered object, or the reason why it has none."""
    try:
        found = registry.load(kind, name)
        return read_yaml(Path(found), SuiteFile).description if kind == "suites" else str(found.description)
    except (UserError, ModelInputError) as error:
        return str(error)
    except AttributeError:
        return "has no description"


def _suited(method: type[Method], backbone: Backbone, name: str) -> dict[str, Any]:
    """The options on the backbone without further options of the command line, as far as they are known."""
    suited = backbone.methods.get(name, {})
    try:
        return completed(method, backbone, method.Options.model_validate(suited)).model_dump(mode="json")
    except (ValidationError, UserError, ModelInputError):
        # An option has to be given, or the method is not meant for this backbone.
        return dict(suited)


def _type(annotation: Any) -> str:
    """A type in the words of a user: `whole number`, `text or null`, `"joint" or "merge"`."""
    inner = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _type(inner[0])
    if get_origin(annotation) is Literal:
        return " or ".join(json.dumps(value) for value in inner)
    if get_origin(annotation) in (list, tuple, set, frozenset):
        return f"list of {_type(inner[0])}" if inner else "list"
    if inner:
        return " or ".join(_type(part) for part in inner)
    names = {NoneType: "null", str: "text", bool: "true or false", float: "number", int: "whole number"}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _meaning(options: type[BaseModel], key: str) -> str:
    """The description of an option, from the nearest class that gives one."""
    classes = [kind for kind in options.__mro__ if issubclass(kind, BaseModel) and key in kind.model_fields]
    return next((text for kind in classes if (text := kind.model_fields[key].description)), "")
