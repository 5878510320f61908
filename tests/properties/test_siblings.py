"""Scores that rest on siblings: the same whenever and in whatever order samples are finished and scored."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from fc_bench.progress import progress
from fc_bench.protocols import Column, Score, ScoredSample, Subject
from fc_bench.run_folder.records import SAMPLES, SCORES, RunFolder
from fc_bench.scoring.score import PendingScores, score

METHODS, SETS, TEMPLATES, IMAGES = ("one", "two"), (("ann",), ("ann", "bob")), ("in the snow", "at sea"), 3


class Distance:
    """Mean difference of an image's brightness from its siblings'."""

    description: ClassVar[str] = "of brightness"
    needs_siblings: ClassVar[bool] = True
    columns: ClassVar[tuple[Column, ...]] = (Column("distance", "distance", True, "of brightness"),)

    def prepare(self, subjects: Sequence[Subject]) -> None:
        pass

    def score(self, sample: ScoredSample) -> Score:
        own = np.asarray(sample.image, dtype=float).mean()
        others = [np.asarray(sibling.image(), dtype=float).mean() for sibling in sample.siblings]
        return Score({"distance": float(np.mean([abs(own - other) for other in others])) if others else None})

    def anchors(self, subjects: Sequence[Subject], others: Sequence[Subject]) -> Mapping[str, Sequence[Score]]:
        return {}

    def provenance(self) -> Mapping[str, Any]:
        return {}


class Brightness(Distance):
    """Looks at the image alone."""

    needs_siblings: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = (Column("brightness", "brightness", None, "mean"),)

    def score(self, sample: ScoredSample) -> Score:
        assert sample.siblings == ()
        return Score({"brightness": float(np.asarray(sample.image, dtype=float).mean())})


def all_records() -> list[dict[str, Any]]:
    """Two methods on two subject sets, two prompts and three images each; text-like names, no two alike."""
    return [
        {
            "id": f"{method}-{'+'.join(who)}-{template[:2]}-{index}",
            "method": method,
            "subjects": list(who),
            "category": "any",
            "template": template,
            "prompt": template,
            "index": index,
            "seed": index,
            "shared_key": "",
            "status": "ok",
        }
        for method, who, template, index in itertools.product(METHODS, SETS, TEMPLATES, range(IMAGES))
    ]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image for each sample."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, record in enumerate(all_records()):
        Image.new("RGB", (4, 4), (number * 7 % 251, number * 13 % 251, 40)).save(folder / f"{record['id']}.png")
    return folder


def open_folder(path: Path, pictures: Path) -> RunFolder:
    (path / "images").symlink_to(pictures)
    return RunFolder(path)


def finish(folder: RunFolder, records: Sequence[Mapping[str, Any]]) -> None:
    with (folder.path / SAMPLES).open("a") as file:
        for record in records:
            file.write(json.dumps({**record, "image": f"images/{record['id']}.png"}) + "\n")


def score_all(folder: RunFolder) -> None:
    people = SimpleNamespace(subjects=[Subject(name, "man", ()) for name in ("ann", "bob")], targets={})
    metrics: Any = {"distance": Distance(), "brightness": Brightness()}
    with progress(Console(quiet=True), "Scoring", 1) as show:
        score(people, folder, metrics, show, PendingScores(folder, metrics))  # type: ignore[arg-type]
    assert not len(PendingScores(folder, metrics))


def final(folder: RunFolder) -> dict[tuple[str, str], Any]:
    return {key: (record["values"], record.get("siblings")) for key, record in folder.scores().items()}


def scored_at_once(records: Sequence[Mapping[str, Any]], path: Path, pictures: Path) -> dict[tuple[str, str], Any]:
    folder = open_folder(path, pictures)
    finish(folder, records)
    score_all(folder)
    return final(folder)


@pytest.fixture(scope="module")
def at_once(pictures, tmp_path_factory) -> dict[tuple[str, str], Any]:
    """The scores of all samples, made together."""
    return scored_at_once(all_records(), tmp_path_factory.mktemp("whole"), pictures)


@given(order=st.permutations(all_records()), pauses=st.sets(st.integers(1, len(all_records()) - 1), max_size=3))
@settings(max_examples=8, deadline=None)
def test_final_scores_depend_neither_on_the_order_nor_on_when_scoring_came_between(pictures, at_once, order, pauses):
    with tempfile.TemporaryDirectory() as place:
        folder = open_folder(Path(place), pictures)
        for start, end in itertools.pairwise([0, *sorted(pauses), len(order)]):
            finish(folder, order[start:end])
            score_all(folder)
        assert final(folder) == at_once


@given(kept=st.sets(st.sampled_from([record["id"] for record in all_records()]), min_size=1))
@settings(max_examples=12, deadline=None)
def test_siblings_are_the_finished_samples_that_differ_in_their_index_alone(pictures, kept):
    records = [record for record in all_records() if record["id"] in kept]
    with tempfile.TemporaryDirectory() as place:
        scores = scored_at_once(records, Path(place), pictures)
    for record in records:
        values, siblings = scores[record["id"], "distance"]
        expected = [
            other["id"]
            for other in records
            if other["index"] != record["index"]
            and all(other[key] == record[key] for key in ("method", "subjects", "template"))
        ]
        assert siblings == sorted(expected)
        assert (values["distance"] is None) == (not expected)
        assert scores[record["id"], "brightness"][1] is None


def test_other_methods_and_prompts_change_nobodys_scores(pictures, tmp_path):
    own = [record for record in all_records() if (record["method"], record["template"]) == ("one", "at sea")]
    for name in ("alone", "beside"):
        (tmp_path / name).mkdir()
    alone = scored_at_once(own, tmp_path / "alone", pictures)
    beside = scored_at_once(all_records(), tmp_path / "beside", pictures)
    assert len(alone) == 2 * len(own)
    assert {key: beside[key] for key in alone} == alone


def test_failed_sample_is_nobody_s_sibling_until_it_is_made(pictures, tmp_path):
    group = all_records()[:IMAGES]
    failed = {**group[0], "status": "error"}
    folder = open_folder(tmp_path, pictures)
    with (folder.path / SAMPLES).open("a") as file:
        file.write(json.dumps(failed) + "\n")
    finish(folder, group[1:])
    score_all(folder)
    assert final(folder)[group[1]["id"], "distance"][1] == [group[2]["id"]]
    finish(folder, group[:1])
    score_all(folder)
    assert final(folder)[group[1]["id"], "distance"][1] == [group[0]["id"], group[2]["id"]]


def test_only_scores_that_rest_on_others_are_made_again(pictures, tmp_path):
    records = all_records()
    group, rest = records[:IMAGES], records[IMAGES:]
    folder = open_folder(tmp_path, pictures)
    finish(folder, [*group[:2], *rest])
    score_all(folder)
    before = (folder.path / SCORES).read_text().splitlines()
    finish(folder, group[2:])
    score_all(folder)
    added = [json.loads(line) for line in (folder.path / SCORES).read_text().splitlines()[len(before) :]]
    made = {(record["sample"], record["metric"]) for record in added}
    assert made == {*((one["id"], "distance") for one in group), (group[2]["id"], "brightness")}
    shutil.copy(folder.path / SCORES, folder.path / "kept")
    score_all(folder)
    assert (folder.path / SCORES).read_bytes() == (folder.path / "kept").read_bytes()
