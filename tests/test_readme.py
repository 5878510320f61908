"""What the README says holds."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()


def test_its_table_is_the_reference_run_s() -> None:
    sections = re.findall(r"<!-- results: (\S+) -->\n(.*?)<!-- end of results -->", README, re.DOTALL)
    assert sections
    for file, shown in sections:
        assert shown.strip() == (REPOSITORY / file).read_text().strip(), file


def test_every_file_it_links_exists() -> None:
    links = [linked or shown for linked, shown in re.findall(r'\]\((?!http)([^)#]+)\)|src="([^"]+)"', README)]
    assert len(links) > 10
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_every_module_it_runs_exists() -> None:
    modules = re.findall(r"python -m (fc_bench\.[\w.]+)", README)
    rooms = ("model", "reports", "baselines")
    missing = []
    for module in modules:
        _, *parts = module.split(".")
        path = REPOSITORY.joinpath(*(parts if parts[0] in rooms else ["fc_bench", *parts]))
        if not (path.with_suffix(".py").exists() or (path / "__main__.py").exists()):
            missing.append(module)
    assert modules
    assert missing == []
