"""`fc-bench audit power`: a kept run tells how many people, prompts and images a difference needs."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from fc_bench.reports.reference import REPOSITORY

KEPT = REPOSITORY / "reports" / "reference" / "pocket"


@pytest.fixture
def pocket(tmp_path: Path) -> Path:
    return Path(shutil.copytree(KEPT, tmp_path / "pocket"))


def test_kept_reference_serves_as_a_pilot(fc_bench, pocket):
    done = fc_bench("audit", "power", pocket, "--method", "dreambooth", "--against", "fastcomposer")
    assert done.code == 0, done.err
    assert "dreambooth − fastcomposer: with 8 people, 5 prompts and 1 image a prompt" in done.out
    assert "twice the people" in done.out
    assert "does not separate person × prompt and image" in done.out
    with (pocket / "report" / "power.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    needed = [row["people, 1 image a prompt"] for row in rows if row["people, 1 image a prompt"]]
    people = [int(cell.split()[0]) for cell in needed]
    assert people == sorted(people, reverse=True)
    assert "# identity preservation: people, prompts and images" in (pocket / "report" / "power.md").read_text()


def test_other_columns_differences_and_sizes_are_planned_for(fc_bench, pocket, tmp_path):
    command = ("audit", "power", pocket, "--column", "prompt_consistency", "--difference", 0.01, "--power", 0.9)
    done = fc_bench(*command, "-m", "dreambooth", "--against", "fastcomposer", "--subjects", 2, "--out", tmp_path / "o")
    assert done.code == 0, done.err
    written = (tmp_path / "o" / "power.md").read_text()
    assert "Sets (images of a method) for a difference of 0.01 with 90 % power" in written


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--column", "identityy"), 'no column "identityy", did you mean "identity"'),
        (("--difference", 0), "--difference 0 cannot be planned for"),
        (("--difference", "nan"), "--difference nan cannot be planned for"),
        (("--power", 1), "--power 1 is out of range"),
        (("--method", "dreambooths"), 'no method "dreambooths", did you mean "dreambooth"'),
        (("--against", "nobody"), 'no method "nobody", known: '),
        (("--subjects", 3), "no images of 3 subjects; it has those of 1, 2"),
        (("--column", "told_apart"), 'no value of "told_apart" with 1 subjects an image'),
        (("--column", "prompt_consistency", "--against", "text-only"), "share images"),
        (("--difference", "much"), "--difference"),
    ],
)
def test_bad_input_is_one_sentence(fc_bench, pocket, options, sentence):
    done = fc_bench("audit", "power", pocket, *options)
    assert done.code == 2
    assert sentence in done.err
    assert len(done.err.splitlines()) == 1
    assert not (pocket / "report").exists()


@pytest.mark.parametrize("folder", ["cost-sd15-cpu", "pocket-alpha", "nothing"])
def test_folder_without_scores_is_refused(fc_bench, folder):
    done = fc_bench("audit", "power", KEPT.parent / folder)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1


def test_out_that_cannot_be_written_is_one_sentence(fc_bench, pocket, tmp_path):
    (tmp_path / "file").write_text("")
    done = fc_bench("audit", "power", pocket, "--out", tmp_path / "file")
    assert done.code == 2
    assert "name another folder with --out" in done.err
