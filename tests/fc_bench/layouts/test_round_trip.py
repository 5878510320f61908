"""A run's images, written for a benchmark's scripts and read back, are the images with the numbers that they had."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fc_bench.layouts import LayoutName
from fc_bench.layouts.catalog import LAYOUTS

IMAGES = 4
ALL = [name.value for name in LayoutName]
EXACT = [name for name in ALL if not LAYOUTS[name].jpeg]


@pytest.fixture
def four(suite_data, write_suite) -> Path:
    """The tiny suite with four images of each prompt."""
    suite_data["images_per_prompt"] = IMAGES
    return write_suite(suite_data)


@pytest.fixture
def made(fc_bench, plugin, four, tiny_backbone, tmp_path_factory, request) -> Path:
    """A run of the plug-in method, made once for all tests of the module."""
    kept = getattr(request.module, "_MADE", None)
    if kept is None:
        kept = request.module._MADE = tmp_path_factory.mktemp("layouts") / "made"
        done = fc_bench("run", four, "-m", "paste", "--backbone", tiny_backbone, "--out", kept)
        assert done.code == 0, done.err
    return kept


@pytest.fixture
def scored(fc_bench, four, tiny_backbone, tmp_path) -> Callable[..., Any]:
    """Scores a folder in a layout into `<tmp>/scored`."""

    def invoke(folder: Path, layout: str, *arguments: object) -> Any:
        common = ("--suite", four, "--backbone", tiny_backbone, "-m", "theirs", "--out", tmp_path / "scored")
        return fc_bench("score", folder, "--layout", layout, *common, *arguments)

    return invoke


def images_by_slot(folder: Path, records) -> dict[tuple, Path]:
    return {
        (tuple(one["subjects"]), one["template"], one["index"]): folder / one["image"]
        for one in records(folder / "samples.jsonl")
        if one["status"] == "ok"
    }


def scores_by_slot(folder: Path, records) -> dict[tuple, dict[str, Any]]:
    slots = {
        one["id"]: (tuple(one["subjects"]), one["template"], one["index"]) for one in records(folder / "samples.jsonl")
    }
    return {
        (*slots[score["sample"]], score["metric"]): score["values"]
        for score in records(folder / "scores.jsonl")
        if score["sample"] in slots
    }


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB"), dtype=int)


def expected_indices(layout: str) -> int:
    return LAYOUTS[layout].images or IMAGES


@pytest.mark.parametrize("layout", EXACT)
def test_images_written_and_read_back_are_equal_and_get_equal_numbers(
    layout, made, scored, fc_bench, records, tmp_path
):
    done = fc_bench("export-images", made, "--layout", layout, "--out", tmp_path / "theirs")
    assert done.code == 0, done.err
    back = scored(tmp_path / "theirs", layout, "--images-per-prompt", expected_indices(layout))
    assert back.code == 0, back.err
    assert "left out" not in back.out
    before, after = images_by_slot(made, records), images_by_slot(tmp_path / "scored", records)
    assert len(after) == 11 * expected_indices(layout)
    for slot, file in after.items():
        assert np.array_equal(pixels(file), pixels(before[slot])), slot
    numbers, own = scores_by_slot(tmp_path / "scored", records), scores_by_slot(made, records)
    assert numbers == {slot: own[slot] for slot in numbers}
    assert len(numbers) == 2 * len(after)


@pytest.mark.parametrize("layout", [name for name in ALL if name not in EXACT])
def test_jpeg_written_and_read_back_differs_by_rounding_alone(layout, made, scored, fc_bench, records, tmp_path):
    assert fc_bench("export-images", made, "--layout", layout, "--out", tmp_path / "theirs").code == 0
    assert scored(tmp_path / "theirs", layout).code == 0
    before, after = images_by_slot(made, records), images_by_slot(tmp_path / "scored", records)
    assert after.keys() == before.keys()
    worst = max(np.abs(pixels(after[slot]) - pixels(before[slot])).max() for slot in after)
    assert worst <= 4
    numbers, own = scores_by_slot(tmp_path / "scored", records), scores_by_slot(made, records)
    for slot, values in numbers.items():
        for column, value in values.items():
            assert value == pytest.approx(own[slot][column], abs=0.02), (slot, column)


def test_missing_images_are_listed_and_the_exit_code_says_so(made, fc_bench, records, tmp_path):
    shutil.copytree(made, tmp_path / "part")
    first = next(iter(images_by_slot(tmp_path / "part", records).values()))
    first.unlink()
    done = fc_bench("export-images", tmp_path / "part", "--layout", "uno", "--out", tmp_path / "theirs")
    assert done.code == 4
    assert 'missing: ann, "a photo of a {subject} in the snow", image 0' in done.out
    assert "43 / 44 images exported" in done.err
    assert not (tmp_path / "theirs" / "0_0.png").exists()
    assert (tmp_path / "theirs" / "0_1.png").is_file()


def test_grid_with_a_missing_cell_is_left_out_as_a_whole_and_named(made, fc_bench, records, tmp_path):
    shutil.copytree(made, tmp_path / "part")
    next(iter(images_by_slot(tmp_path / "part", records).values())).unlink()
    done = fc_bench("export-images", tmp_path / "part", "--layout", "xverse", "--out", tmp_path / "theirs")
    assert done.code == 4
    assert done.out.count("its 2 x 2 grid is incomplete") == 3
    assert len(list((tmp_path / "theirs").glob("*.png"))) == 10
    assert not list((tmp_path / "theirs").glob("0_*"))


def test_half_an_export_is_scored_with_the_rest_missing_and_what_the_scripts_say(made, scored, fc_bench, tmp_path):
    assert fc_bench("export-images", made, "--layout", "xverse", "--out", tmp_path / "theirs").code == 0
    for number in (3, 4, 5):
        next((tmp_path / "theirs").glob(f"{number}_*")).unlink()
    done = scored(tmp_path / "theirs", "xverse")
    assert done.code == 4
    assert "32 / 44 samples finished, 12 failed or missing" in done.err
    assert "the benchmark's own scripts refuse 8 files for 11 prompts" in done.out


def test_folder_that_holds_something_is_never_written_into(made, fc_bench, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "0.png").write_bytes(b"another run's")
    done = fc_bench("export-images", made, "--layout", "multihuman", "--out", tmp_path / "theirs")
    assert done.code == 2
    assert "already exists" in done.err
    assert (tmp_path / "theirs" / "0.png").read_bytes() == b"another run's"


def test_images_beyond_a_layouts_single_one_are_counted(made, fc_bench, tmp_path):
    done = fc_bench("export-images", made, "--layout", "multihuman", "--out", tmp_path / "theirs")
    assert done.code == 0
    assert "11 images in the layout multihuman, 33 planned images have no place in this layout." in done.out
    assert sorted(int(file.stem) for file in (tmp_path / "theirs").iterdir()) == list(range(11))


def test_files_beside_the_images_say_what_the_scripts_read(made, fc_bench, tmp_path):
    for layout in ("dreambench-plus", "psrbench", "customconcept101", "multiid"):
        fc_bench("export-images", made, "--layout", layout, "--out", tmp_path / layout)
    plus = tmp_path / "dreambench-plus"
    names = [
        sorted(str(file.relative_to(plus / part).with_suffix("")) for file in (plus / part).rglob("*.*"))
        for part in ("src_image", "tgt_image", "text")
    ]
    assert names[0] == names[1] == names[2]
    assert len(names[0]) == 44
    assert (plus / "text" / "ann" / "0_0.txt").read_text() == "a photo of a woman in the snow"
    concept = json.loads((tmp_path / "customconcept101" / "ann" / "prompts.json").read_text())
    samples = {file.stem for file in (tmp_path / "customconcept101" / "ann" / "samples").glob("*.png")}
    assert concept.keys() == samples
    item = json.loads((tmp_path / "psrbench" / "context.json").read_text())[-1]
    assert (item["category1"], item["category2"]) == ("man", "man")
    assert (tmp_path / "psrbench" / item["result_path"]).is_file()
    assert all((tmp_path / "psrbench" / path).is_file() for path in item["input_path"])
    assert json.loads((tmp_path / "multiid" / "0" / "meta.json").read_text()) == {
        "prompt": "a photo of a woman in the snow"
    }
    assert (tmp_path / "multiid" / "10" / "ref_2.png").is_file()


def test_method_of_a_run_with_several_has_to_be_named(made, fc_bench, four, tiny_backbone, plugin, tmp_path):
    shutil.copytree(made, tmp_path / "both")
    arguments = ("--backbone", tiny_backbone, "--out", tmp_path / "both", "--limit-subjects", "1")
    assert fc_bench("run", four, "-m", "text-only", *arguments).code == 0
    done = fc_bench("export-images", tmp_path / "both", "--layout", "uno", "--out", tmp_path / "theirs")
    assert done.code == 2
    assert "name it with --method" in done.err
    done = fc_bench(
        "export-images", tmp_path / "both", "--layout", "uno", "--out", tmp_path / "theirs", "-m", "text-only"
    )
    assert done.code == 0
    # Numbers count the whole suite, also where a run has a part of it.
    assert len(list((tmp_path / "theirs").iterdir())) == 12


def test_grid_of_fewer_images_is_refused_before_anything_is_written(fc_bench, plugin, suite, tiny_backbone, tmp_path):
    assert fc_bench("run", suite, "-m", "paste", "--backbone", tiny_backbone, "--out", tmp_path / "one").code == 0
    done = fc_bench("export-images", tmp_path / "one", "--layout", "xverse", "--out", tmp_path / "theirs")
    assert done.code == 2
    assert "run it with --images-per-prompt 4" in done.err
    assert not (tmp_path / "theirs").exists()
