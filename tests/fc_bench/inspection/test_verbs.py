"""Every verb inspects photographs, refuses before anything is made, and records what it found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def run(fc_bench, tiny_backbone, plugin, suite, tmp_path):
    """`fc-bench run` of the tiny world's suite with the pasting method into `run/`."""

    def invoke(*arguments: object, method: str = "paste"):
        return fc_bench("run", suite, "--backbone", tiny_backbone, "-m", method, "--out", tmp_path / "run", *arguments)

    return invoke


@pytest.fixture
def tall_ann(suite, portrait) -> Path:
    """Ann's first photograph is taller than wide, with her face at the top; the suite's file."""
    photograph = Image.new("RGB", (128, 256), (120, 120, 120))
    photograph.paste(portrait((250, 20, 20)), (0, 0))
    photograph.paste((255, 255, 255), (48, 32, 64, 48))  # found in the whole, too, which is looked at in half its size
    photograph.save(suite.parent / "people" / "ann-1.png")
    return suite


def refused(done, *parts: str) -> None:
    """One line, exit code 2."""
    assert done.code == 2, done
    assert done.err.count("\n") == 1, done.err
    for part in parts:
        assert part in done.err, done.err


def copied(suite: Path, source: str, target: str) -> None:
    (suite.parent / "people" / target).write_bytes((suite.parent / "people" / source).read_bytes())


SAME = ("people/ann-1.png", 'people/bob-1.png of "bob" are the same picture', "give each person")


def test_validate_finds_copies_without_any_model(fc_bench, suite):
    copied(suite, "ann-1.png", "bob-1.png")
    refused(fc_bench("validate", suite), *SAME)


def test_run_refuses_what_makes_numbers_wrong_before_anything_is_made(run, suite, tmp_path):
    copied(suite, "ann-1.png", "bob-1.png")
    refused(run(), *SAME)
    assert [item.name for item in (tmp_path / "run").iterdir()] == [".lock"]


def test_score_refuses_what_makes_numbers_wrong(fc_bench, suite, tiny_backbone, tmp_path, portrait):
    copied(suite, "ann-1.png", "bob-1.png")
    images = tmp_path / "images"
    images.mkdir()
    portrait((250, 20, 20)).save(images / "subject_0000_prompt_0000_instance_0000.png")
    arguments = ("--suite", suite, "--backbone", tiny_backbone, "--layout", "fastcomposer")
    refused(fc_bench("score", images, *arguments, "--out", tmp_path / "scored"), *SAME)
    assert not (tmp_path / "scored" / "run.json").exists()


def test_compose_and_init_suite_refuse_what_makes_numbers_wrong(fc_bench, tiny_backbone, suite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    people = suite.parent / "people"
    for name in ("ann", "bob"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.png").write_bytes((people / "ann-1.png").read_bytes())
    subjects = ("-s", "ann=photos/ann:woman", "-s", "bob=photos/bob:man")
    same = 'photos/ann/1.png of "ann" and photos/bob/1.png of "bob" are the same picture'
    refused(fc_bench("compose", "a {ann} and a {bob}", *subjects, "--backbone", tiny_backbone, "-n", 1), same)
    assert not (tmp_path / "composed").exists()
    refused(fc_bench("init-suite", "photos", "--noun", "man", "--backbone", tiny_backbone, "--prompts", suite), same)
    assert not (tmp_path / "photos-suite").exists()


def test_compose_and_init_suite_tell_of_several_faces(fc_bench, shots, beside, larger, suite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, own in {"ada": shots("p01"), "bo": shots("p02")}.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        own[0] = beside(larger(own[0]), shots("p05")[0]) if name == "ada" else own[0]
        for number, picture in enumerate(own, start=1):
            picture.save(tmp_path / "photos" / name / f"{number}.png")
    told = 'photos/ada/1.png of "ada" shows 2 faces'
    arguments = ("-s", "ada=photos/ada:man", "-n", 1, "--steps", 1, "--no-scores")
    done = fc_bench("compose", "a photo of a {ada} in the snow", *arguments)
    assert (done.code, told in done.out) == (0, True), done
    done = fc_bench("init-suite", "photos", "--noun", "man")
    assert (done.code, told in done.out) == (0, True), done


def test_remarks_are_printed_recorded_and_in_every_report(run, suite, tmp_path):
    copied(suite, "ann-1.png", "ann-2.png")
    told = 'people/ann-1.png and people/ann-2.png of "ann" are the same picture, the reference among them'
    done = run()
    assert (done.code, told in done.out) == (0, True), done
    inspection = json.loads((tmp_path / "run" / "run.json").read_text())["photographs"]
    assert (inspection["version"], inspection["faces"], inspection["crops"]) == (1, "tiny-faces", {})
    same = next(finding for finding in inspection["findings"] if told in finding["text"])
    assert (same["kind"], same["photographs"]) == ("copies", ["people/ann-1.png", "people/ann-2.png"])
    assert told in (tmp_path / "run" / "report" / "table.md").read_text()
    assert "people/ann-2.png of" in (tmp_path / "run" / "report" / "index.html").read_text()


def test_images_made_elsewhere_are_reported_with_the_inspection(run, fc_bench, suite, tiny_backbone, tmp_path):
    copied(suite, "ann-1.png", "ann-2.png")
    assert run().code == 0
    manifest = tmp_path / "images.csv"
    sample = json.loads((tmp_path / "run" / "samples.jsonl").read_text().splitlines()[0])
    manifest.write_text(f"image,subjects,prompt\n{sample['image']},ann,{sample['template']}\n")
    arguments = ("--suite", suite, "--backbone", tiny_backbone, "--manifest", manifest, "-m", "theirs")
    done = fc_bench("score", tmp_path / "run", *arguments, "--out", tmp_path / "scored")
    assert done.code == 4, done.err
    assert "are the same picture" in (tmp_path / "scored" / "report" / "table.md").read_text()


def test_what_an_earlier_command_found_stays_recorded(run, suite, tmp_path):
    copied(suite, "cid-1.png", "cid-2.png")
    assert run().code == 0
    assert run("--limit-subjects", 1, "--images-per-prompt", 2).code == 0
    inspection = json.loads((tmp_path / "run" / "run.json").read_text())["photographs"]
    assert sum("cid-2.png" in finding["text"] for finding in inspection["findings"]) == 1


def test_a_plug_in_gets_the_square_and_the_reference_is_that_square(run, tall_ann, tmp_path):
    done = run("--limit-subjects", 1)
    assert done.code == 0, done.err
    with Image.open(tmp_path / "run" / "references" / "ann.png") as reference:
        assert reference.size == (128, 128)
        above = reference.tobytes()[: 128 * 3 * 100]
    images = list((tmp_path / "run" / "images").rglob("*.png"))
    assert images
    for file in images:
        with Image.open(file) as image:  # what the plug-in read, with noise at the bottom
            assert image.size == (128, 128)
            assert image.tobytes()[: 128 * 3 * 100] == above
    notes = (tmp_path / "run" / "report" / "table.md").read_text()
    assert "1 of the photographs is not square; every method got the same square of each" in notes


def test_a_folder_is_no_half_run_when_prompts_are_refused_after_the_squares(run, tall_ann, tmp_path):
    text = tall_ann.read_text()
    tall_ann.write_text(text.replace("a sketch of a {subject}", "a {subject} " + "very " * 40))
    assert run().code == 2
    assert not (tmp_path / "run" / "photographs").exists()
    tall_ann.write_text(text)
    assert run().code == 0


def older(folder: Path) -> None:
    """Make run.json what a version without inspections wrote."""
    settings = json.loads((folder / "run.json").read_text())
    del settings["photographs"], settings["suite"]["photograph_crop"]
    (folder / "run.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("crop", ["face", "published"])
def test_a_run_of_an_earlier_version_is_reported_and_continued(run, fc_bench, suite, tmp_path, records, crop):
    suite.write_text(suite.read_text() + f"photograph_crop: {crop}\n")
    assert run("--limit-subjects", 1).code == 0
    older(tmp_path / "run")
    assert fc_bench("report", tmp_path / "run").code == 0
    assert run().code == 0
    assert len(records(tmp_path / "run" / "samples.jsonl")) == 11


def test_a_run_of_an_earlier_version_goes_on_with_its_own_crop_alone(run, tall_ann, tmp_path):
    text = tall_ann.read_text()
    tall_ann.write_text(text + "photograph_crop: published\n")
    assert run(method="text-only").code == 0
    older(tmp_path / "run")
    tall_ann.write_text(text)
    refused(run(method="text-only"), "another suite or other photographs")
    tall_ann.write_text(text + "photograph_crop: published\n")
    assert run(method="text-only").code == 0


def test_an_unknown_crop_is_refused_with_its_line(fc_bench, suite):
    suite.write_text(suite.read_text() + "photograph_crop: middle\n")
    refused(fc_bench("validate", suite), "photograph_crop", f"suite.yaml:{len(suite.read_text().splitlines())}")


def test_face_models_are_loaded_once_and_see_every_picture_once(run, tall_ann, monkeypatch):
    from collections import Counter
    from weakref import WeakValueDictionary

    from fc_bench.scoring.faces import FaceModels

    loaded: list[int] = []
    looked: Counter[bytes] = Counter()
    begin, find = FaceModels.__init__, FaceModels._find

    def begun(self, *arguments):
        loaded.append(1)
        begin(self, *arguments)

    def found(self, images):
        looked.update(image.tobytes() for image in images)
        return find(self, images)

    monkeypatch.setattr("fc_bench.scoring.faces._SHARED", WeakValueDictionary())  # other tests' models are still about
    monkeypatch.setattr(FaceModels, "__init__", begun)
    monkeypatch.setattr(FaceModels, "_find", found)
    assert run().code == 0
    assert len(loaded) == 1
    assert set(looked.values()) == {1}


def test_a_suite_of_things_needs_no_face_model(fc_bench, write, tiny_backbone, tmp_path):
    backbone = tmp_path / "backbone" / "tiny.yaml"
    shutil.copytree(tiny_backbone.parent, backbone.parent, ignore=shutil.ignore_patterns("faces"))
    vase = Image.effect_noise((90, 140), 60).convert("RGB")
    file = write({"vase": [vase]}, noun="man", metrics=["prompt-consistency"])
    done = fc_bench("validate", file, "--backbone", backbone)
    assert done.code == 0, done.err
    assert "The face models tiny-faces are not here: photographs are cropped to their center square." in done.out


def test_init_suite_without_crops_leaves_tall_photographs_to_the_run_s_square(
    fc_bench, shots, tall, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "ada").mkdir(parents=True)
    for number, picture in enumerate(shots("p01"), start=1):
        tall(picture).save(tmp_path / "photos" / "ada" / f"{number}.png")
    done = fc_bench("init-suite", "photos", "--noun", "man", "--no-crop")
    assert done.code == 0, done.err
    assert "are cropped to a square around the face" in done.out
    assert "The metric identity is left out" not in done.out
    with Image.open(tmp_path / "photos-suite" / "subjects" / "ada" / "1.png") as kept:
        assert kept.size == (128, 224)
    done = fc_bench("validate", "photos-suite/suite.yaml", "--backbone", "pocket")
    assert (done.code, "cropped to a square around the face" in done.out) == (0, True), done
