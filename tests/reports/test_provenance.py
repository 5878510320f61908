"""Results of several states are never presented as one: every state is named, what differs or is unknown is said."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from fc_bench.analysis.comparison import compare
from fc_bench.analysis.gate import Gate
from fc_bench.reports.report import read, write_report, write_report_page
from fc_bench.run_folder.records import RUN, RunFolder

OLD = "0123456789abcdef0123456789abcdef01234567"
DIFFERENT, NOT_KNOWN = "come from different states", "come from one state is not known"


def texts(*folders: Path, out: Path) -> dict[str, str]:
    """The report of runs in each of its forms."""
    runs = read(folders, out)
    parts = write_report(runs, families=())
    page = write_report_page(runs, parts)
    files = [*(file for part in parts for file in part.files if file.suffix in (".md", ".html", ".tex")), page]
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def continued(change: Any):
    """Settings with a second command, of a state that `change` has made another."""

    def settings(run: dict[str, Any]) -> dict[str, Any]:
        command = copy.deepcopy(run["commands"][0])
        change(command)
        return {**run, "commands": [command, *run["commands"]]}

    return settings


def older(command: dict[str, Any]) -> None:
    command["code"]["commit"] = OLD
    command["versions"] |= {"torch": "2.4.0", "onnxruntime": "1.18.0"}
    command["hardware"]["processor"] = "another processor"


def test_every_state_of_a_continued_run_is_named_everywhere(copied, tmp_path):
    folder = copied("run", settings=continued(older))
    own = json.loads((folder / RUN).read_text())["commands"][-1]
    found = texts(folder, out=tmp_path / "report")
    for name, text in found.items():
        assert DIFFERENT in text, name
        for told in (OLD[:12], own["code"]["commit"][:12], "2.4.0", "1.18.0", own["versions"]["onnxruntime"]):
            assert told in text, (name, told)
        assert "another processor" in text, name
    assert OLD in found["index.html"]
    assert found["table.md"].count(f"fc-bench {own['versions']['fc-bench']} from commit") == 2


def test_one_known_state_is_told_in_a_line_without_a_warning(copied, tmp_path):
    folder = copied("run", settings=continued(lambda command: None))
    for name, text in texts(folder, out=tmp_path / "report").items():
        assert DIFFERENT not in text, name
        assert NOT_KNOWN not in text, name
        if name == "table.md":
            assert text.split("## Provenance")[1].count("\n- ") == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda command: command["code"].update(commit=None, dirty=None), "commit unknown"),
        (lambda command: command.pop("code"), "commit unknown"),
        (lambda command: command.pop("versions"), "torch unknown"),
        (lambda command: command["versions"].pop("insightface"), "insightface unknown"),
        (lambda command: command.pop("hardware"), "machine unknown"),
        (lambda command: command["code"].update(dirty=None), "changes unknown"),
        (lambda command: command["versions"].update(insightface=None), "insightface not installed"),
    ],
)
def test_what_is_not_recorded_is_called_unknown(copied, tmp_path, change, told):
    (text,) = (
        text
        for name, text in texts(copied("run", settings=continued(change)), out=tmp_path / "report").items()
        if name == "table.md"
    )
    assert DIFFERENT in text
    assert told in text


def test_unknown_states_are_not_taken_for_equal(copied, tmp_path):
    def unknown(run: dict[str, Any]) -> dict[str, Any]:
        command = {key: run["commands"][0][key] for key in ("command", "started")}
        return {**run, "commands": [command, command]}

    for name, text in texts(copied("run", settings=unknown), out=tmp_path / "report").items():
        assert NOT_KNOWN in text, name
        assert "commit unknown" in text, name


def test_a_command_that_added_no_results_is_named_and_makes_no_difference(copied, tmp_path):
    def idle(command: dict[str, Any]) -> None:
        older(command)
        command["added_results"] = False

    text = texts(copied("run", settings=continued(idle)), out=tmp_path / "report")["table.md"]
    assert DIFFERENT not in text
    assert OLD[:12] in text
    assert "which added no results" in text


def test_states_of_several_runs_in_one_table_are_named_with_their_runs(copied, tmp_path):
    def other(run: dict[str, Any]) -> dict[str, Any]:
        older(run["commands"][0])
        return run

    one, two = copied("one"), copied("two", settings=other)
    own = json.loads((one / RUN).read_text())["commands"][0]["code"]["commit"][:12]
    for name, text in texts(one, two, out=tmp_path / "report").items():
        assert DIFFERENT in text, name
        assert f"code commit {own} (one) and commit {OLD[:12]} (two)" in text, name
    found = compare(RunFolder(one), RunFolder(two), Gate())
    assert any(f"commit {own} (base) and commit {OLD[:12]} (new)" in note for note in found.notes)
    assert not any(DIFFERENT in note for note in compare(RunFolder(one), RunFolder(copied("same")), Gate()).notes)


def test_other_pipeline_weights_under_one_backbone_are_told(copied, tmp_path):
    def swapped(run: dict[str, Any]) -> dict[str, Any]:
        run["methods"]["dreambooth"]["weights"]["pipeline"] = "f" * 64
        return run

    text = texts(copied("run", settings=swapped), out=tmp_path / "report")["table.md"]
    assert "The weights of the pipeline differ" in text
    assert f"sha256 {'f' * 12} of dreambooth" in text


def test_costs_on_a_machine_that_is_not_recorded_do_not_compare(copied):
    def unknown(run: dict[str, Any]) -> dict[str, Any]:
        del run["commands"][0]["hardware"]
        return run

    one, two = (copied(name, settings=unknown) for name in ("one", "two"))
    seconds = [
        item for item in compare(RunFolder(one), RunFolder(two), Gate()).comparisons if "seconds" in item.column.name
    ]
    assert seconds
    assert all(item.verdict == "not comparable" and "unknown hardware" in item.reason for item in seconds)
