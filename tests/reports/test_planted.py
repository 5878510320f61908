"""Planted cases under published protocols: published scores are those of the cases, the tables those of the scores."""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fc_bench.analysis.aggregate import values_by_set
from fc_bench.model.pocket.cases import CASES
from fc_bench.reports.frame import Run, read_runs
from fc_bench.reports.planted import (
    FOLDERS,
    IMAGES,
    MANIFEST,
    RUN,
    SCORES,
    SHEET,
    SUMMARY,
    draw_cases,
    publish_cases,
    score_cases,
    scores_of_images,
)
from fc_bench.reports.quality.side_by_side import disagreements, side_by_side
from tests.documentation import REPOSITORY

PUBLISHED = REPOSITORY / "reports" / "reference" / "protocols-planted"
ABOUT = ["method", "set", "prompt", "index"]
PERCENT = ("xverse_id", "umo_id_confidence")
PEOPLE = 2
"""Number of the first subjects whose cases are drawn again: two requests of one, or one pair."""


@cache
def published(size: int) -> pd.DataFrame:
    return pd.read_csv(PUBLISHED / FOLDERS[size] / SCORES)


def summary(size: int) -> list[list[str]]:
    """The cells of the published table: its header, then its rows."""
    header, _, *rows = (PUBLISHED / FOLDERS[size] / SUMMARY).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, *rows)]


@pytest.fixture(scope="module", params=CASES)
def size(request) -> int:
    return request.param


@pytest.fixture(scope="module")
def drawn_again(size: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the first people's cases, scored."""
    folder = tmp_path_factory.mktemp("cases") / FOLDERS[size]
    draw_cases(size, folder, limit=PEOPLE)
    assert score_cases(size, folder, limit=PEOPLE) == 0
    return folder


@pytest.fixture
def run(drawn_again: Path) -> Run:
    (found,) = read_runs([drawn_again / RUN])
    return found


def test_published_scores_are_those_of_cases_drawn_again(size, drawn_again):
    found = scores_of_images(drawn_again / RUN)
    assert set(found["method"]) == set(CASES[size])
    both = found.merge(published(size), on=ABOUT, how="left", suffixes=("", " published"), indicator=True)
    assert len(both) == len(found)
    assert (both["_merge"] == "both").all()
    assert list(found.columns) == list(published(size).columns)
    for name in found.columns.drop(ABOUT):
        values, kept = (both[column].to_numpy(float) for column in (name, f"{name} published"))
        tolerance = 0.1 if name in PERCENT else 1e-3
        assert np.allclose(values, kept, rtol=0, atol=tolerance, equal_nan=True), name


def test_published_table_holds_the_means_of_the_published_scores(size):
    scores = published(size)
    header, *rows = summary(size)
    names = list(scores.columns.drop(ABOUT))
    assert len(header) == len(names) + 1
    assert [row[0] for row in rows] == list(CASES[size]) == list(dict.fromkeys(scores["method"]))
    groups = {str(case): own for case, own in scores.groupby("method")}
    for case, *cells in rows:
        own = groups[case]
        for name, cell in zip(names, cells, strict=True):
            values = values_by_set(own, name)
            number, *count = cell.replace("*", "").split()
            if not values:
                assert number == "–", name
                continue
            mean = np.mean([found.mean() for found in values.values()])
            assert abs(float(number) - mean) <= 0.5 * unit_of(number) + 1e-4, name
            assert int(count[0].strip("()") if count else len(own)) == sum(map(len, values.values())), name


def unit_of(number: str) -> float:
    """The value of the last digit."""
    return 10.0 ** -len(number.partition(".")[2])


def test_bold_values_are_those_at_least_as_good_as_the_truths(size):
    header, truth, *others = summary(size)
    assert not any("**" in cell for cell in truth)
    for row in others:
        for title, best, cell in zip(header[1:], truth[1:], row[1:], strict=True):
            sign = {"↑": 1, "↓": -1}.get(title[-1])
            if sign is None or "–" in (cell, best):
                assert "**" not in cell
            else:
                values = [float(text.replace("*", "").split()[0]) for text in (cell, best)]
                assert ("**" in cell) == (sign * values[0] >= sign * values[1]), (title, cell, best)


def test_numbers_in_the_sentences_on_planted_cases_are_those_of_the_tables():
    page = (REPOSITORY / "docs" / "published.md").read_text(encoding="utf-8")
    section = page.partition("## Planted cases")[2].partition("\n## ")[0].rpartition("<!-- end of results -->")[2]
    tables = [(PUBLISHED / folder / SUMMARY).read_text() for folder in FOLDERS.values()]
    shown = {number for table in tables for number in re.findall(r"-?\d+\.\d+", table)}
    sentences = section.partition("\nSources:")[0]
    named = re.findall(r"-?\d+\.\d+", sentences)
    assert len(named) > 10
    assert [number for number in named if number not in shown] == []


def test_a_picture_of_each_case_is_published_in_a_small_file(size):
    file = PUBLISHED / FOLDERS[size] / SHEET
    assert file.stat().st_size <= 200_000
    with Image.open(file) as image:
        assert image.width * image.height >= len(CASES[size]) * 128 * 128


def test_publishing_writes_what_is_published(size, drawn_again, tmp_path):
    publish_cases(drawn_again, tmp_path)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {file.name for file in (PUBLISHED / FOLDERS[size]).iterdir()}
    with (drawn_again / MANIFEST).open() as file:
        assert len(list(csv.DictReader(file))) == len(list((drawn_again / IMAGES).iterdir()))


def test_scores_without_a_better_direction_have_no_rank_and_those_of_text_no_say_about_people(run):
    tables = {table.name.rpartition("-")[0]: [row[0].text for row in table.rows] for table in side_by_side([run])}
    assert "CLIP-I, all photographs" in tables["protocols"]
    assert "CLIP-I, all photographs" not in tables["protocol-ranks"]
    assert "prompt consistency" in tables["protocol-ranks"]
    assert not [line for line in disagreements([run]) if line.startswith(("prompt", "CustomConcept101", "CLIP-I"))]


def test_a_column_without_any_value_is_left_out(run):
    assert "dino_all" in {column.name for column in run.columns}
    assert not [row for table in side_by_side([run]) for row in table.rows if row[0].text.startswith("DINO")]
