"""Comparing two runs: neither the order of records nor a method that only one run has changes a number."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fc_bench.analysis.aggregate import result_rows
from fc_bench.analysis.comparison import Report, compare
from fc_bench.analysis.gate import Gate
from fc_bench.reports.reference import REPOSITORY
from fc_bench.run_folder.records import JOBS, PLAN, SAMPLES, SCORES, RunFolder

SHIFTS = {"identity": -0.3, "prompt_consistency": 0.1}
REFERENCE = REPOSITORY / "reports" / "reference" / "pocket"


def lines_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(file: Path, records: list[dict]) -> None:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The kept reference run with four of its methods."""
    return without(copied(REFERENCE, tmp_path / "base"), "ip-adapter", "textual-inversion", "dreambooth-lora")


@pytest.fixture
def new(base: Path, tmp_path: Path) -> Path:
    """The same with other values: less identity, more consistency with the prompt, noise; some scores are missing."""
    folder = copied(base, tmp_path / "new")
    random = np.random.default_rng(0)
    records = [record for record in lines_of(folder / SCORES) if random.uniform() > 0.05]
    for record in records:
        for name, value in record["values"].items():
            if value is not None:
                record["values"][name] = value + SHIFTS.get(name, 0.0) + random.normal(0, 0.02)
    write(folder / SCORES, records)
    return folder


def copied(folder: Path, target: Path) -> Path:
    target.mkdir()
    for name in ("run.json", PLAN, SAMPLES, JOBS, SCORES):
        shutil.copy(folder / name, target / name)
    return target


def shuffled(folder: Path, target: Path, seed: int) -> Path:
    copied(folder, target)
    random = np.random.default_rng(seed)
    for name in (PLAN, SAMPLES, JOBS, SCORES):
        records = lines_of(target / name)
        write(target / name, [records[number] for number in random.permutation(len(records))])
    return target


def without(folder: Path, *methods: str) -> Path:
    """Take methods out of a run, as if they had not been asked for."""
    gone = {record["id"] for record in lines_of(folder / PLAN) if record["method"] in methods}
    for name, key in ((PLAN, "id"), (SAMPLES, "id"), (SCORES, "sample")):
        write(folder / name, [record for record in lines_of(folder / name) if record[key] not in gone])
    write(folder / JOBS, [record for record in lines_of(folder / JOBS) if record["method"] not in methods])
    settings = json.loads((folder / "run.json").read_text())
    settings["methods"] = {label: row for label, row in settings["methods"].items() if label not in methods}
    (folder / "run.json").write_text(json.dumps(settings))
    return folder


def numbers(report: Report) -> dict:
    """Everything that is told of each comparison; sums in another order differ in the last digits."""
    return {
        (item.method, item.subjects, item.column.name): (
            item.verdict,
            item.alarm,
            item.pairs,
            item.planned,
            item.incomplete,
            item.reason,
            pytest.approx(
                [
                    np.nan if value is None else value
                    for value in (item.base, item.new, item.difference.mean, item.difference.low, item.difference.high)
                ],
                nan_ok=True,
                abs=1e-12,
            ),
        )
        for item in report.comparisons
    }


def plain(report: Report) -> dict:
    return {key: (*told[:-1], told[-1].expected) for key, told in numbers(report).items()}


@pytest.mark.parametrize("seed", [1, 2])
def test_order_of_records_is_of_no_account(base, new, tmp_path, seed):
    report = compare(RunFolder(base), RunFolder(new), Gate())
    assert {item.verdict for item in report.comparisons} >= {"better", "worse", "unchanged"}
    turned = [shuffled(folder, tmp_path / f"turned-{folder.name}", seed) for folder in (base, new)]
    again = compare(RunFolder(turned[0]), RunFolder(turned[1]), Gate())
    assert plain(again) == numbers(report)
    assert again.exit_code == report.exit_code


@pytest.mark.parametrize("side", ["base", "new"])
def test_method_that_only_one_run_has_changes_no_comparison(base, new, side):
    both = numbers(compare(RunFolder(base), RunFolder(new), Gate(methods=["fastcomposer", "text-only"])))
    without(base if side == "new" else new, "dreambooth")
    without(base, "custom-diffusion")
    without(new, "custom-diffusion")
    report = compare(RunFolder(base), RunFolder(new), Gate(methods=["fastcomposer", "text-only"]))
    assert plain(report) == {key: told for key, told in both.items() if key[0] in ("fastcomposer", "text-only")}
    assert ("dreambooth is not in the new run." in report.notes) == (side == "base")


def test_results_do_not_depend_on_the_order_of_records_either(new, tmp_path):
    def told(folder: Path) -> dict:
        return {
            (row["method"], row["subjects"], row["category"], row["column"]): row
            for row in result_rows(RunFolder(folder))
        }

    before, after = told(new), told(shuffled(new, tmp_path / "turned", 3))
    assert before.keys() == after.keys()
    for key, row in before.items():
        for name in ("mean", "low", "high", "n_sets", "n_ok", "n_total"):
            value = row[name]
            assert after[key][name] == (value if value is None else pytest.approx(value, abs=1e-12)), (key, name)
