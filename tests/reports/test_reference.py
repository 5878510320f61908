"""Publishing a run: what lies in the reference folder and the README is the run's own."""

from __future__ import annotations

import pytest

from fc_bench.errors import UserError
from fc_bench.reports.frame import read_runs
from fc_bench.reports.reference import REPOSITORY, cost_by_backbone, publish, publish_power, publish_protocols
from fc_bench.reports.report import read


@pytest.fixture
def finished(fc_bench, tiny_backbone, plugin, suite, tmp_path):
    folder = tmp_path / "run"
    assert fc_bench("run", suite, "--backbone", tiny_backbone, "-m", "paste", "--out", folder).code == 0
    return folder


def test_published_run_is_copied_and_its_table_replaces_the_old_one(finished, tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    marker = "<!-- results: reports/reference/trio/headline.md -->"
    (repository / "README.md").write_text(f"before\n{marker}\nold numbers\n<!-- end of results -->\nafter\n")
    target = publish(finished, repository)
    assert {file.name for file in target.iterdir()} >= {"table.md", "table.csv", "results.csv", "grid.png", "run.json"}
    for name in ("table.md", "results.csv", "grid.png"):
        assert (target / name).read_bytes() == next((finished / "report").rglob(name)).read_bytes()
    assert (target / "protocols.md").read_bytes() == (finished / "report" / "protocols.md").read_bytes()
    headline = (target / "headline.md").read_text()
    assert "| paste | 9 / 9 | 1.000 [1.000, 1.000] |" in headline
    readme = (repository / "README.md").read_text()
    assert readme == f"before\n{marker}\n\n{headline}\n<!-- end of results -->\nafter\n"


def test_run_published_under_a_name_leaves_its_tables_and_figures_without_records(finished, tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    marker = "<!-- results: reports/reference/looks/headline.md -->"
    (repository / "docs").mkdir()
    for page in ("README.md", "docs/looks.md"):
        (repository / page).write_text(f"{marker}\n<!-- end of results -->\n")
    target = publish(finished, repository, name="looks")
    assert target == repository / "reports" / "reference" / "looks"
    names = {file.name for file in target.iterdir()}
    assert names >= {"table.md", "results.csv", "grid.png", "headline.md"}
    assert "s per image" not in (target / "headline.md").read_text()
    assert not any(name.endswith(".jsonl") or name == "run.json" for name in names)
    for page in ("README.md", "docs/looks.md"):
        assert (target / "headline.md").read_text() in (repository / page).read_text()


def test_kept_scores_under_published_protocols_follow_from_the_kept_records(tmp_path):
    kept = REPOSITORY / "reports" / "reference" / "pocket"
    publish_protocols(read([kept], tmp_path / "report"), tmp_path)
    for name in ("protocols.md", "protocols.csv", "protocols.tex", "protocols.html"):
        assert (tmp_path / name).read_text() == (kept / name).read_text(), name


def test_kept_plan_follows_from_the_kept_records(tmp_path):
    kept = REPOSITORY / "reports" / "reference" / "pocket"
    publish_power(read_runs([kept])[0], tmp_path)
    assert (tmp_path / "power.md").read_text() == (kept / "power.md").read_text()


def test_kept_cost_table_by_backbone_follows_from_the_kept_cost_runs():
    kept = REPOSITORY / "reports" / "reference"
    table = (kept / "cost-backbones.md").read_text()
    assert cost_by_backbone(kept) == table
    assert "sd15: steps" in table
    assert "sdxl-512: steps" in table
    assert "out of memory" in next(line for line in table.splitlines() if line.startswith("| dreambooth |"))


def test_run_that_did_not_measure_identity_is_published_without_protocols(
    fc_bench, tiny_backbone, plugin, suite, tmp_path
):
    suite.write_text(suite.read_text() + "\nmetrics: [prompt-consistency]\n")
    assert fc_bench("run", suite, "--backbone", tiny_backbone, "-m", "paste", "--out", tmp_path / "run").code == 0
    (tmp_path / "README.md").write_text(
        "<!-- results: reports/reference/trio/headline.md -->\n<!-- end of results -->\n"
    )
    target = publish(tmp_path / "run", tmp_path)
    assert (target / "table.md").exists()
    assert not (target / "protocols.md").exists()


def test_readme_without_a_place_for_the_table_is_refused(finished, tmp_path):
    (tmp_path / "README.md").write_text("nothing here\n")
    with pytest.raises(UserError, match="has no place for a table"):
        publish(finished, tmp_path)


def test_page_that_asks_for_a_table_that_is_not_there_is_named(finished, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(
        "<!-- results: reports/reference/trio/headline.md -->\n<!-- end of results -->\n"
    )
    (tmp_path / "docs" / "more.md").write_text("<!-- results: nowhere.md -->\n<!-- end of results -->\n")
    with pytest.raises(UserError, match=r"more\.md asks for nowhere\.md"):
        publish(finished, tmp_path)


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a run folder"):
        publish(tmp_path, tmp_path)
