"""What the README says holds; what all pages have in common is in `test_documentation`."""

from __future__ import annotations

import re

from tests.documentation import REPOSITORY, blocks, commands

README = REPOSITORY / "README.md"


def test_it_is_short_enough_to_be_read() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_its_test_command_stands_on_a_line_of_its_own() -> None:
    assert ["python", "-m", "pytest"] in [words for block in blocks(README, "bash") for words in block.commands()]
    assert re.search(r"^python -m pytest$", README.read_text(encoding="utf-8"), re.MULTILINE)


def test_its_extras_are_those_of_the_package() -> None:
    packaged = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    asked = {name for _, words in commands("pip") for name in re.findall(r"\[([\w,]+)\]", " ".join(words))}
    assert asked
    assert [name for extras in asked for name in extras.split(",") if f"\n{name} = [" not in packaged] == []


def test_what_it_makes_is_a_target_of_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^(\w+):", makefile, re.MULTILINE)
    assert [words for _, words in commands("make") if words[0] not in targets] == []


def test_its_method_runs_in_the_comparison(fc_bench, tiny_backbone, suite, tmp_path, monkeypatch) -> None:
    (method,) = blocks(README, "python")
    (entry,) = blocks(README, "toml")
    installed = tmp_path / "installed"
    (installed / "my_package-1.dist-info").mkdir(parents=True)
    (installed / "my_package.py").write_text(method.content)
    (installed / "my_package-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: my-package\nVersion: 1\n"
    )
    group, line = re.findall(r'entry-points\."([\w.]+)"\]\n(.*)', entry.content)[0]
    (installed / "my_package-1.dist-info" / "entry_points.txt").write_text(
        f"[{group}]\n" + line.replace(chr(34), "") + "\n"
    )
    monkeypatch.syspath_prepend(str(installed))
    run = (
        "run",
        suite,
        "--backbone",
        tiny_backbone,
        "-m",
        "my-method",
        "--limit-subjects",
        1,
        "--out",
        tmp_path / "run",
    )
    finished = fc_bench(*run)
    assert finished.code == 0, finished.err
    assert "my-method" in finished.out
