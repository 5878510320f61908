"""A page of very many samples holds a part of them and says so; what it counts and tells is of all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fc_bench.reports.page import selection

SNOW, SKETCH, BOAT = "a photo of a {subject} in the snow", "a sketch of a {subject}", "a photo of {subjects} on a boat"
MOST = 12


def data_of(page: Path) -> dict:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(data)


def without_samples(page: str) -> str:
    """What the page says, but for the gallery and the notice about it."""
    page = re.sub(r'<script type="application/json" id="data">.*?</script>', "", page, flags=re.DOTALL)
    page = re.sub(r'<p class="notice">The gallery holds .*?</p>\n', "", page)
    return re.sub(r"<select.*?</select>", "", page, flags=re.DOTALL)


@pytest.fixture
def made(make_run):
    return make_run(failed={("dreambooth", "p2", SNOW): "no room"}, unscored={("text-only", "p3", SKETCH): "odd"})


def test_gallery_holds_whole_questions_and_what_failures_name(made, page_of, monkeypatch):
    whole = page_of(made.path).read_text()
    everything = data_of(made.page)["samples"]
    monkeypatch.setattr(selection, "MOST", MOST)
    part = page_of(made.path).read_text()
    held = [made.samples[sample["id"]] for sample in data_of(made.page)["samples"]]
    assert f"The gallery holds {len(held)} of {len(everything)} samples" in part
    assert "The gallery holds" not in whole
    named = [made.of("dreambooth", "p2", SNOW)["id"], made.of("text-only", "p3", SKETCH)["id"]]
    assert {record["id"] for record in held} >= set(named)
    questions: dict[tuple, set[str]] = {}
    for record in held:
        questions.setdefault((tuple(record["subjects"]), record["template"]), set()).add(record["method"])
    complete = [asked for asked, methods in questions.items() if len(methods) == 3]
    assert len(complete) == MOST // 3
    assert len(held) <= MOST + len(named)
    # The order is the plan's, and everything else on the page is as it was.
    order = [record["id"] for record in held]
    assert order == [name for name in made.samples if name in set(order)]
    assert without_samples(part) == without_samples(whole)


def test_part_is_the_same_in_every_report_and_in_reports_of_several_runs(make_run, page_of, monkeypatch, tmp_path):
    monkeypatch.setattr(selection, "MOST", MOST)
    one, other = make_run("one"), make_run("other", methods=("text-only", "mine", "dreambooth"))
    first, again = (data_of(page_of(one.path))["samples"] for _ in range(2))
    assert first == again
    monkeypatch.setattr(selection, "MOST", 2 * MOST)
    both = data_of(page_of(one.path, other.path, out=tmp_path / "both"))["samples"]
    assert {sample["key"].split("/")[1] for sample in both if sample["key"].startswith("one/")} == {
        sample["id"] for sample in first
    }


def test_page_of_fewer_samples_holds_all(make_run, page_of, monkeypatch):
    made = make_run()
    monkeypatch.setattr(selection, "MOST", len(made.samples))
    assert len(data_of(page_of(made.path))["samples"]) == len(made.samples)
