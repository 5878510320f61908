"""What the documents say holds: commands, links, tables and code.

Every `fc-bench` command in a bash block is parsed by the real command line. A block with a title needs what the title
says beside a checkout, and is parsed only; the commands of every other block run here, page by page and in order.
`run` and `sweep` plan only (`--dry-run`) and get the kept reference run as their result; figures are left out.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.documentation import PAGES, REPOSITORY, Block, blocks, commands

FC_BENCH = commands("fc-bench")
SHORTENED = {
    "run": ["--dry-run"],
    "sweep": ["--dry-run"],
    "report": ["--no-figures"],
    "doctor": ["--no-checksums"],
    "compose": ["--steps", "2"],
}
"""Verb -> options that make it quick."""
SHELL = ("mkdir", "cp")
"""Commands beside `fc-bench` that run, as later ones need what they make."""


def told(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


@pytest.mark.parametrize(("block", "words"), FC_BENCH, ids=told)
def test_every_command_is_one_that_the_command_line_takes(block: Block, words: list[str]) -> None:
    parse(words)


@pytest.mark.parametrize("words", [["walk"], ["run", "--no-such-option"], ["show", "runs/pocket"]], ids=told)
def test_a_command_that_the_command_line_does_not_take_is_found(words: list[str]) -> None:
    from fc_bench.errors import UserError

    with pytest.raises(UserError):
        parse(words)


def test_the_commands_of_the_example_workflow_are_ones_that_the_command_line_takes() -> None:
    workflow = yaml.safe_load((REPOSITORY / "docs" / "examples" / "gate.yml").read_text(encoding="utf-8"))
    lines = [line for step in workflow["jobs"]["gate"]["steps"] for line in step.get("run", "").splitlines()]
    found = [shlex.split(line)[1:] for line in lines if line.startswith("fc-bench ")]
    assert [words[0] for words in found] == ["run", "compare"]
    for words in found:
        parse(words)


def parse(words: list[str]) -> None:
    """Parse a command as `fc-bench` does; raises what it raises."""
    import typer

    from fc_bench.cli.app import app

    group = typer.main.get_command(app)
    for verb in group.commands.values():  # type: ignore[attr-defined]
        for command in (verb, *getattr(verb, "commands", {}).values()):
            command.callback = lambda **_: None
    group.main(args=words, prog_name="fc-bench", standalone_mode=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_command_in_a_sentence_has_a_verb_and_options_that_exist(page: Path) -> None:
    import typer

    from fc_bench.cli.app import app

    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for command in re.findall(r"`fc-bench ([^`]*)`", " ".join(text.split())):
        verb, *rest = shlex.split(command)
        if verb.startswith("-") or verb == "VERB":
            continue
        assert verb in verbs, command
        known = {name for option in verbs[verb].params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
        assert {word for word in rest if word.startswith("-")} <= known, command


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which commands find what a checkout holds and the runs that pages speak of, and may write."""
    for name in ("datasets", "reports", "model", "tests"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    keep(tmp_path / "runs" / "pocket")
    keep(tmp_path / "runs" / "cost-pocket", "cost-sd15-cpu")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    return tmp_path


def keep(folder: Path, reference: str = "pocket") -> None:
    """Put a reference run into a folder, with a grey image for each sample."""
    if folder.exists():
        return
    shutil.copytree(REPOSITORY / "reports" / "reference" / reference, folder)
    if not (folder / "samples.jsonl").exists():
        return
    for line in (folder / "samples.jsonl").read_text().splitlines():
        image = folder / json.loads(line)["image"]
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (128, 128), "grey").save(image)


def running(page: Path) -> list[list[str]]:
    """The commands of a page that run here."""
    quick = [words for block in blocks(page, "bash") if not block.title for words in block.commands()]
    return [words for words in quick if words[0] in ("fc-bench", *SHELL)]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if running(page)], ids=lambda page: str(page.relative_to(REPOSITORY))
)
@pytest.mark.usefixtures("plugin")
def test_commands_of_a_block_without_a_title_run(page: Path, checkout: Path, fc_bench) -> None:
    sample = json.loads((checkout / "runs/pocket/samples.jsonl").read_text().splitlines()[-1])
    for words in running(page):
        if words[0] in SHELL:
            subprocess.run(words, check=True)
            continue
        _, verb, *rest = words
        rest = [word.replace("fastcomposer/p01+p02/ID.png", sample["image"].removeprefix("images/")) for word in rest]
        rest = [sample["id"] if word == "ID" else word for word in rest]
        finished = fc_bench(verb, *rest, *SHORTENED.get(verb, ()))
        assert finished.code == 0, f"{shlex.join(words)}\n{finished.out}\n{finished.err}"
        if verb in ("run", "sweep") and "--out" in rest:
            keep(Path(rest[rest.index("--out") + 1]))


@pytest.mark.parametrize(("block", "words"), commands("python"), ids=told)
def test_every_module_that_is_run_exists_and_has_the_options(block: Block, words: list[str]) -> None:
    if words[0] == "-m" and words[1].startswith("fc_bench."):
        assert importlib.util.find_spec(words[1]), words[1]
        source = Path(str(importlib.util.find_spec(words[1]).origin)).read_text(encoding="utf-8")
    elif words[0].endswith(".py"):
        source = (REPOSITORY / words[0]).read_text(encoding="utf-8")
    else:
        return
    for option in (word for word in words if word.startswith("--")):
        assert f'"{option}"' in source, option


def python_blocks() -> Iterator[Block]:
    return (block for page in PAGES for block in blocks(page, "python"))


@pytest.mark.parametrize("block", python_blocks(), ids=str)
def test_code_is_python_and_imports_what_is_there(block: Block) -> None:
    for node in ast.walk(ast.parse(textwrap.dedent(block.content))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("fc_bench"):
            module = importlib.import_module(str(node.module))
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_file_a_page_links_exists(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = [linked or shown for linked, shown in re.findall(r'\]\((?!http)([^)#\s]+)[^)]*\)|src="([^"]+)"', text)]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_tables_of_results_are_those_of_the_reference_runs() -> None:
    found = 0
    for page in PAGES:
        sections = re.findall(
            r"<!-- results: (\S+) -->\n(.*?)<!-- end of results -->", page.read_text(encoding="utf-8"), re.DOTALL
        )
        for file, shown in sections:
            assert shown.strip() == (REPOSITORY / file).read_text(encoding="utf-8").strip(), f"{page} {file}"
        found += len(sections)
    assert found >= 5


def test_every_page_has_a_place_in_the_site() -> None:
    site = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    named = {page.relative_to(REPOSITORY / "docs").as_posix() for page in (REPOSITORY / "docs").rglob("*.md")}
    assert [name for name in sorted(named) if f": {name}\n" not in site] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_path_of_the_code_that_a_page_names_exists(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    rooms = "baselines|datasets|docs|fc_bench|model|reports|tests"
    named = re.findall(rf"`((?:{rooms})/[\w./-]*)`", text)
    assert [path for path in named if not (REPOSITORY / path).exists()] == []
