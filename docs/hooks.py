"""What the documentation site gets at build time beside the pages in this folder.

The README is its home page. Every file of the repository that a page links to comes along: documents as pages, source
files as pages that show them, anything else as a file. The command line and the fields of a suite are written from the
code itself, and formulas become MathML, which browsers display without a script or a font.
"""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

REPOSITORY = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "DESIGN.md": "design.md", "CONTRIBUTING.md": "contributing.md"}
SHOWN = {".py": "python", ".yaml": "yaml", ".toml": "toml"}
"""Source files that the site shows, with the name of their language."""
_LINK = re.compile(r'(?P<before>\]\(|src=")(?P<path>[^)\s":#]+)(?P<anchor>#[^)\s"]*)?(?P<after>[)"])')
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)

origins: dict[str, str] = {}
"""Page of the site -> the file of the repository that it is made of."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root and whatever pages link to."""
    origins.clear()
    origins.update({file.src_uri: f"docs/{file.src_uri}" for file in files.documentation_pages()})
    waiting = list(origins)
    for name, uri in PAGES.items():
        files.append(File.generated(config, uri, content=(REPOSITORY / name).read_text(encoding="utf-8")))
        origins[uri] = name
        waiting.append(uri)
    while waiting:
        source = origins[waiting.pop()]
        for link in _LINK.finditer((REPOSITORY / source).read_text(encoding="utf-8")):
            name = _linked(source, link["path"])
            uri = name and _uri(name)
            if not name or not uri or files.get_file_from_path(uri):
                continue
            path = REPOSITORY / name
            if path.is_dir():
                raise PluginError(f"{source} links to the folder {name}; link to a file in it.")
            if path.suffix in SHOWN:
                shown = f"# `{name}`\n\n``` {SHOWN[path.suffix]}\n{path.read_text(encoding='utf-8')}\n```\n"
                files.append(File.generated(config, uri, content=shown))
            else:
                files.append(File.generated(config, uri, abs_src_path=str(path)))
            if path.suffix == ".md":
                origins[uri] = name
                waiting.append(uri)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links between files of the repository to their pages; fill in what is written from the code."""
    source = origins.get(page.file.src_uri)
    if source is None:
        return markdown

    def renewed(link: re.Match[str]) -> str:
        name = _linked(source, link["path"])
        file = files.get_file_from_path(_uri(name)) if name else None
        if file is None:
            return link[0]
        if link["before"] == 'src="':
            target = get_relative_url(file.url, page.url)
        else:
            target = posixpath.relpath(file.src_uri, posixpath.dirname(page.file.src_uri))
        return f"{link['before']}{target}{link['anchor'] or ''}{link['after']}"

    markdown = _LINK.sub(renewed, markdown)
    for marker, written in (("<!-- command line -->", command_line), ("<!-- suite schema -->", suite_schema)):
        if marker in markdown:
            markdown = markdown.replace(marker, written())
    return markdown


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write formulas as MathML."""
    return _FORMULA.sub(
        lambda formula: convert(html.unescape(formula[2]), display="block" if formula[1] == "div" else "inline"),
        content,
    )


def _linked(source: str, path: str) -> str | None:
    """The file of the repository that a file links to by a relative path; None where there is none."""
    name = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    return name if not name.startswith("..") and (REPOSITORY / name).exists() else None


def _uri(name: str) -> str:
    """Where a file of the repository stands on the site."""
    if name in PAGES:
        return PAGES[name]
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return f"repository/{name}" + (".md" if Path(name).suffix in SHOWN else "")


def command_line() -> str:
    """Every verb with its arguments and options, as typer writes it."""
    import typer
    from typer.cli import get_docs_for_click

    from fc_bench.cli.app import app

    command = typer.main.get_command(app)
    written = get_docs_for_click(obj=command, ctx=typer.Context(command), name="fc-bench", indent=1)
    return re.sub(r"(`[^`]*`)|<", lambda part: part[1] or "&lt;", written)


def suite_schema() -> str:
    """The fields of a suite's file, a table for each mapping in it, from the model that reads it."""
    import griffe
    from pydantic import BaseModel

    from fc_bench.suites import suite_file

    schema = suite_file.SuiteFile.model_json_schema()
    module = griffe.load(suite_file.__name__, search_paths=[str(REPOSITORY)])
    parts = []
    for name, described in {"SuiteFile": schema, **schema["$defs"]}.items():
        model: type[BaseModel] = getattr(suite_file, name)
        rows = ["| field | value | default | meaning |", "|---|---|---|---|"]
        for field, value in described["properties"].items():
            meaning = module[f"{name}.{field}"].docstring
            text = " ".join(meaning.value.split()) if meaning else ""
            rows.append(f"| `{field}` | {_value(value)} | {_default(model, field)} | {text} |")
        parts += [f"## {name}", described["description"], "\n".join(rows)]
    return "\n\n".join(parts)


def _default(model: Any, field: str) -> str:
    """What a field is where it is left out."""
    from pydantic import BaseModel

    info = model.model_fields[field]
    if info.is_required():
        return "required"
    default = info.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return "the defaults below"
    return "none" if default in (None, "", {}) else f"`{default}`"


def _value(schema: Mapping[str, Any] | bool) -> str:
    """What a field takes, in words, from its JSON schema."""
    if isinstance(schema, bool):
        return "anything"
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_value(choice) for choice in schema["anyOf"] if choice.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{choice}`" for choice in schema.get("enum", [schema.get("const")]))
    kind = str(schema.get("type", "anything"))
    if kind == "array" and "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])} numbers"
    if kind == "array":
        return f"list of {_value(schema['items'])}{_bounds(schema)}"
    if kind == "object":
        return f"mapping of names to {_value(schema['additionalProperties'])}"
    return {"string": "text", "integer": "whole number"}.get(kind, kind) + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    """The bounds of a number, a list's or a text's length, in words."""
    words = {
        "minItems": "{} or more",
        "maxItems": "{} at most",
        "minLength": "{} characters or more",
        "maxLength": "{} characters at most",
        "minimum": "{} or more",
        "maximum": "{} at most",
        "exclusiveMinimum": "more than {}",
        "exclusiveMaximum": "less than {}",
        "multipleOf": "a multiple of {}",
        "pattern": "matching `{}`",
    }
    bounds = [text.format(schema[name]) for name, text in words.items() if name in schema]
    return f" ({', '.join(bounds)})" if bounds else ""
