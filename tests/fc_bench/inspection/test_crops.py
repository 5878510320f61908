"""Every method and metric gets the same square of a photograph; a square photograph stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from fc_bench.baselines.tuning.concepts import originals_of
from fc_bench.baselines.tuning.latents import square as square_of
from fc_bench.builtin import DATASETS, POCKET_FULL_SUITE, POCKET_SUITE
from fc_bench.commands.run import RunOptions, prepare, setting_of
from fc_bench.generation.plan import make_plan, resolve_method
from fc_bench.inspection.inspector import Inspector, cropped, inspector_of, write_crops
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.suites.photographs import center_square, cut_out, read_photograph
from fc_bench.suites.suite import read_suite

REFERENCE = DATASETS.parent / "reports" / "reference" / "pocket"


@pytest.mark.parametrize("file", [POCKET_SUITE, POCKET_FULL_SUITE])
def test_methods_get_the_pocket_people_s_photographs_as_they_are(file, tmp_path):
    suite = read_suite(file)
    squares = cropped(suite, inspector_of(suite, read_backbone("pocket")), tmp_path)
    assert squares.subjects == suite.subjects
    assert squares.photograph_digests() == suite.photograph_digests()
    for subject in squares.subjects:
        for number, path in enumerate(subject.photographs, start=1):
            assert path == file.parent / "subjects" / subject.id / f"{number}.png"
            with Image.open(path) as picture:
                assert np.array_equal(np.asarray(read_photograph(path)), np.asarray(picture))


def test_samples_of_the_pocket_run_have_the_ids_that_they_had():
    planned = [json.loads(line) for line in (REFERENCE / "plan.jsonl").read_text().splitlines()]
    rows = json.loads((REFERENCE / "run.json").read_text())["methods"]
    suite = read_suite(POCKET_SUITE)
    setting = setting_of(suite, read_backbone("pocket"), "cpu")
    suite = cropped(suite, Inspector(None), Path())
    methods = [resolve_method(row["name"], {}, setting) for row in rows.values()]
    if [dict(row.weights) for *_, row in methods] != [row["weights"] for row in rows.values()]:
        pytest.skip("the reference run was made with other weights")
    assert [sample.id for sample in make_plan(suite, setting, methods).samples()] == [one["id"] for one in planned]


def test_every_method_and_metric_gets_the_same_square_with_the_face(write, shots, tall, finder, tmp_path):
    pictures = {"ada": [tall(one) for one in shots("p01")], "bo": shots("p02")}
    suite = read_suite(write(pictures))
    squares = cropped(suite, inspector_of(suite, read_backbone("pocket")), tmp_path / "run")
    write_crops(squares, {"ada", "bo"})
    ada, bo = squares.subjects
    assert bo == suite.subjects[1]
    for source, path, whole in zip(suite.sources[0].photographs, ada.photographs, pictures["ada"], strict=True):
        assert path.is_relative_to(tmp_path / "run" / "photographs" / "ada")
        square = read_photograph(path)
        assert square.tobytes() == cut_out(whole, squares.crops[source]).tobytes()
        assert square.size == (128, 128)
        assert squares.crops[source] != center_square(whole.size)
        assert len(finder.find(square)) == 1
    tuned = [square_of(one, 128) for one in originals_of(ada, 5)]
    assert [np.asarray(one).tobytes() for one in tuned] == [read_photograph(p).tobytes() for p in ada.photographs]


@pytest.mark.parametrize("picture", ["empty", "mostly without"])
def test_of_a_subject_that_is_no_person_it_is_the_center_square(write, shot, tall, picture, tmp_path):
    vase = Image.effect_noise((90, 140), 60).convert("RGB")
    last = tall(shot("p01", 1)) if picture == "mostly without" else ImageOps.flip(vase)
    pictures = [vase, vase.rotate(180), last]
    suite = read_suite(write({"vase": pictures}, noun="vase", metrics=["prompt-consistency"]))
    crops = cropped(suite, inspector_of(suite, read_backbone("pocket")), tmp_path).crops
    for path, whole in zip(suite.sources[0].photographs, pictures, strict=True):
        assert crops[path] == center_square(whole.size)


def test_published_leaves_photographs_to_the_methods(write, shots, tall, fc_bench, tmp_path):
    file = write({"ada": [tall(one) for one in shots("p01")]}, photograph_crop="published")
    suite = read_suite(file)
    same = cropped(suite, inspector_of(suite, read_backbone("pocket")), tmp_path)
    assert same.subjects == suite.sources
    done = fc_bench("validate", file, "--backbone", "pocket")
    assert done.code == 0, done.err
    assert "The center square of ada/1.png, ada/2.png" in done.out
    assert "cuts off the face; crop by hand or set photograph_crop: face" in done.out


def test_what_is_cut_out_decides_the_sample_s_id(write, shots, tall, tmp_path):
    ids = {}
    for crop in ("face", "published"):
        for shape in ("square", "tall"):
            own = shots("p01") if shape == "square" else [tall(one) for one in shots("p01")]
            file = write({"ada": own}, photograph_crop=crop)
            plan = prepare(RunOptions(str(file), ["text-only"], device="cpu", out=tmp_path / "run")).plan
            ids[crop, shape] = [sample.id for sample in plan.samples()]
    assert ids["face", "square"] == ids["published", "square"]
    assert ids["face", "tall"] != ids["published", "tall"]


def test_published_suites_of_fastcomposer_keep_what_was_published():
    from fc_bench.model.yaml_file import read_yaml
    from fc_bench.registry import suite_file
    from fc_bench.suites.suite_file import SuiteFile

    for name in ("fastcomposer-single", "fastcomposer-multi"):
        assert read_yaml(suite_file(name), SuiteFile).photograph_crop == "published"


@pytest.mark.parametrize("wide", [False, True])
def test_a_long_photograph_is_searched_for_small_faces(write, shot, finder, wide):
    missed = found = 0
    for person in ("p01", "p02", "p03", "p04"):
        long = Image.new("RGB", (128 + 300 * wide, 128 + 300 * (not wide)), (150, 150, 150))
        long.paste(shot(person, 1), (0, 0))
        missed += not finder.find(long)
        found += len(finder.search(long)) == 1
    assert missed > 0
    assert found == 4
