"""Images that fit their sets' prompts better in another order are pointed out, and correct folders never are."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fc_bench.scoring.prompt_order import FEWEST, misplaced

SCENES = {
    "a photo of a {subject} wearing a red hat": {"accessory": "hat"},
    "a watercolor painting of a {subject}": {"style": "watercolor"},
    "a photo of a {subject} in the snow": {"context": "snow"},
    "a photo of a {subject} in the jungle": {"context": "jungle"},
    "a photo of a {subject} holding a book": {"action": "book"},
}
"""The prompts of the suite pocket and what a true picture of each shows."""
TURNED = [0, 1, 4, 2, 3]
"""The number that each gets where the action comes before the contexts."""
PEOPLE = ["p01", "p02", "p03"]


@pytest.fixture(scope="module")
def pictures() -> dict[tuple[str, int], Image.Image]:
    """True pictures by subject and prompt."""
    from fc_bench.model.pocket.render import Scene, render
    from fc_bench.model.pocket.subjects import suite_people

    drawn = {}
    for place, name in enumerate(PEOPLE):
        for number, scene in enumerate(SCENES.values()):
            rng = np.random.default_rng(100 * place + number)
            drawn[name, number] = Image.fromarray(render([suite_people()[name]], Scene(**scene), rng).image)
    return drawn


def written(folder: Path, pictures, numbers: list[int]) -> Path:
    """The pictures under the authors' names, each prompt with its number."""
    folder.mkdir()
    for (name, prompt), picture in pictures.items():
        picture.save(folder / f"subject_{PEOPLE.index(name):04d}_prompt_{numbers[prompt]:04d}_instance_0000.png")
    return folder


@pytest.fixture
def score(fc_bench, tmp_path):
    """Scores a folder of pictures of the suite pocket."""

    def invoke(images: Path, *arguments: object, people: int = len(PEOPLE)):
        limit = ("--limit-subjects", people, "--out", tmp_path / "scored", "-m", "theirs")
        return fc_bench("score", images, "--suite", "pocket", *limit, *arguments)

    return invoke


def test_images_numbered_in_another_order_are_named_with_the_cause_and_scored(score, pictures, tmp_path):
    done = score(written(tmp_path / "images", pictures, TURNED), "--layout", "fastcomposer")
    (told,) = [line for line in done.out.splitlines() if line.startswith("theirs: ")]
    assert "9 of 15 images (such as subject_0000_prompt_0002_instance_0000.png) match another prompt" in told
    assert '"a photo of a {subject} in the snow" shows "a photo of a {subject} in the jungle"' in told
    assert "red hat" not in told
    assert "numbered in another prompt order" in told
    settings = json.loads((tmp_path / "scored" / "run.json").read_text())
    assert [(remark["method"], remark["subjects"]) for remark in settings["remarks"]] == [("theirs", 1)]
    assert "theirs¹" in done.out


def test_remark_goes_once_the_images_are_renumbered(score, pictures, tmp_path):
    score(written(tmp_path / "images", pictures, TURNED), "--layout", "fastcomposer")
    again = score(tmp_path / "images", "--layout", "fastcomposer")
    assert "match another prompt" in again.out
    done = score(written(tmp_path / "right", pictures, list(range(5))), "--layout", "fastcomposer")
    assert "match another prompt" not in done.out
    assert json.loads((tmp_path / "scored" / "run.json").read_text())["remarks"] == []


def test_manifest_that_names_the_next_row_s_prompt_is_pointed_out(score, pictures, tmp_path):
    templates = list(SCENES)
    images = written(tmp_path / "images", pictures, list(range(5)))
    with (tmp_path / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "subjects", "prompt"])
        for name, prompt in pictures:
            image = f"subject_{PEOPLE.index(name):04d}_prompt_{prompt:04d}_instance_0000.png"
            rows.writerow([image, name, templates[(prompt + 1) % 5]])
    done = score(images, "--manifest", tmp_path / "list.csv")
    assert "15 of 15 images" in done.out
    assert "correct their names or the manifest" in done.out


def similarities(
    truth: np.ndarray, prompts: int, follows: float, seed: int, shared: float = 0.0, sets: int = 1
) -> np.ndarray:
    """Cosines of images that show `truth` with texts of a few topics, as closely as `follows` says."""
    rng = np.random.default_rng(seed)
    topics = rng.normal(size=(prompts, 6))
    topics /= np.linalg.norm(topics, axis=1, keepdims=True)
    noise = rng.normal(size=(len(truth), 6)) @ topics.T * 0.5 + rng.normal(size=(len(truth), prompts)) * 0.35
    same_noise = np.tile(rng.normal(size=(len(truth) // sets, prompts)), (sets, 1)) * shared
    return follows * (topics @ topics.T)[truth] + noise + same_noise + rng.normal(size=prompts) * 0.7


SIZES = [(40, 15, 4), (40, 1, 4), (21, 10, 1), (5, 8, 1)]
"""Prompts, subject sets, images of each prompt."""


@pytest.mark.parametrize(("prompts", "sets", "images"), SIZES)
def test_half_of_the_prompts_in_another_order_is_found_from_images_that_follow_them(prompts, sets, images):
    own = np.tile(np.repeat(np.arange(prompts), images), sets)
    turned = np.arange(prompts)
    turned[prompts // 2 :] = np.roll(turned[prompts // 2 :], max(1, prompts // 4))
    for seed in range(5):
        found = misplaced(similarities(turned[own], prompts, 3.0, seed), own)
        assert found is not None
        right = [turned[prompt] == fits for prompt, fits in found.fits.items()]
        assert sum(right) >= 0.8 * len(right)


@pytest.mark.parametrize("follows", [0.0, 0.4, 1.0, 2.0])
@pytest.mark.parametrize(("prompts", "sets", "images"), SIZES)
def test_nothing_is_said_of_images_under_their_own_prompts_however_poorly_they_follow_them(
    follows, prompts, sets, images
):
    own = np.tile(np.repeat(np.arange(prompts), images), sets)
    assert all(misplaced(similarities(own, prompts, follows, seed), own) is None for seed in range(20))


def test_few_images_say_nothing():
    own = np.arange(5)
    assert misplaced(similarities(np.roll(own, 1), 5, 3.0, 0), own) is None
    assert len(own) < FEWEST


@pytest.mark.parametrize("rotation", [1, 2])
def test_what_a_prompt_has_in_common_with_all_images_moves_nothing(rotation):
    own = np.tile(np.arange(8), 6)
    found = similarities(np.roll(np.arange(8), rotation)[own], 8, 3.0, 3)
    lifted = misplaced(found + np.linspace(0, 50, 8), own)
    assert lifted == misplaced(found, own)
    assert lifted is not None
