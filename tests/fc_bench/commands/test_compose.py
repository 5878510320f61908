"""Composing: pictures of one's own people, each made once, each following from the request alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from fc_bench.errors import UserError
from fc_bench.run_folder.lock import held
from fc_bench.suites.slots import OwnSubject, parse_slots, parse_subject

PROMPT = "a {ann} and a {bob} cooking"


@pytest.fixture
def photographs(tmp_path, portrait, people, monkeypatch) -> Path:
    """Folder with a photograph of ann and a folder of three of bob, the second without a face; also the cwd."""
    folder = tmp_path / "photos"
    (folder / "bo").mkdir(parents=True)
    portrait(people["ann"][1]).save(folder / "ann.png")
    for number in (1, 3):
        portrait(people["bob"][1], shade=10 * number).save(folder / "bo" / f"{number}.png")
    Image.new("RGB", (128, 128), "gray").save(folder / "bo" / "2.png")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def compose(fc_bench, tiny_backbone, photographs):
    """Runs the verb on the tiny backbone with ann and bob."""

    def invoke(*arguments: object, prompt: str = PROMPT):
        subjects = ("--subject", "ann=photos/ann.png:woman", "--subject", "bob=photos/bo/:man")
        return fc_bench("compose", prompt, *subjects, "--backbone", tiny_backbone, *arguments)

    return invoke


def pictures(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("[0-9]*.png")}


def test_pictures_scores_and_a_sheet_lie_in_one_folder(compose, tmp_path):
    done = compose("--images", 3, "--alpha", 0.6)
    assert done.code == 0, done.err
    (folder,) = (tmp_path / "composed").iterdir()
    assert folder.name.startswith("a-woman-and-a-man-cooking-")
    assert pictures(folder).keys() == {"1.png", "2.png", "3.png"}
    assert {file.name for file in (folder / "references").iterdir()} == {"ann-1.png", "bob-1.png", "bob-2.png"}
    record = json.loads((folder / "compose.json").read_text())
    assert record["asked"]["method"]["options"]["alpha"] == 0.6
    assert len({image["seed"] for image in record["images"]}) == 3
    for image in record["images"]:
        assert 0 <= image["scores"]["identity"] <= 1
        assert image["scores"]["prompt_consistency"] is not None
        assert f"{Path('composed') / folder.name / image['file']}: seed {image['seed']}, ann " in done.out
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width > 3 * 192
    assert 'Left out for "bob": No face is found in the photograph photos/bo/2.png' in done.out


def test_more_images_are_added_and_none_is_made_twice(compose, tmp_path):
    compose("--images", 4, "--no-scores", "--out", "all", "--batch-size", 1)
    compose("--images", 2, "--no-scores", "--out", "some", "--batch-size", 1)
    made = (tmp_path / "some" / "1.png").stat().st_mtime_ns
    assert compose("--images", 4, "--out", "some", "--batch-size", 1).code == 0
    assert (tmp_path / "some" / "1.png").stat().st_mtime_ns == made
    assert pictures(tmp_path / "some") == pictures(tmp_path / "all")
    images = json.loads((tmp_path / "some" / "compose.json").read_text())["images"]
    assert [image["number"] for image in images] == [1, 2, 3, 4]
    assert all(image["scores"] for image in images)


def test_pictures_of_several_states_are_told(compose, tmp_path):
    assert "different states" not in compose("--images", 1, "--no-scores", "--out", "some").out
    file = tmp_path / "some" / "compose.json"
    record = json.loads(file.read_text())
    for commands, told in (([{**record["commands"][0], "code": {"commit": "0" * 40}}], "0" * 12), (None, "unknown")):
        changed = {key: value for key, value in record.items() if key != "commands"}
        file.write_text(json.dumps(changed | ({} if commands is None else {"commands": commands})))
        out = compose("--images", 2, "--no-scores", "--out", "some").out
        assert "come from different states" in out
        assert told in out
        (tmp_path / "some" / "2.png").unlink()


@pytest.mark.parametrize("change", [["--alpha", 0.2], ["--seed", 1], ["--steps", 3]])
def test_another_request_is_another_folder(compose, tmp_path, change):
    compose("--images", 1, "--no-scores")
    compose("--images", 1, "--no-scores", *change)
    assert len(list((tmp_path / "composed").iterdir())) == 2
    (folder, *_) = (tmp_path / "composed").iterdir()
    refused = compose("--images", 1, "--out", folder, "--guidance-scale", 7)
    assert refused.code == 2
    assert "holds pictures of another request" in refused.err


def test_pictures_are_those_of_the_method_on_the_portraits(compose, tmp_path, tiny_backbone):
    from fc_bench.baselines.fastcomposer import FastComposer, FastComposerOptions
    from fc_bench.model.backbones.backbone import read_backbone
    from fc_bench.protocols import Request, Sampler, Setting, Subject, seed_of

    compose("--images", 1, "--out", "made", "--alpha", 1.0, prompt="a {bob} and a {ann} cooking")
    setting = Setting(read_backbone(str(tiny_backbone)), Sampler("ddim", 2, 2.0, 64), "cpu", "float32")
    method = FastComposer(setting, FastComposerOptions(alpha=1.0))
    subjects = [Subject("bob", "man", (tmp_path / "photos" / "bo" / "1.png",))]
    subjects += [Subject("ann", "woman", (tmp_path / "photos" / "ann.png",))]
    request = Request(
        "a man <|image|> and a woman <|image|> cooking",
        "a man and a woman cooking",
        seed_of(0, "a {bob} and a {ann} cooking", 0),
    )
    (expected,) = method.generate(method.customize(subjects, 0, tmp_path, None), [request])
    with Image.open(tmp_path / "made" / "1.png") as picture:
        assert picture.tobytes() == expected.tobytes()


@pytest.mark.parametrize("apart", [True, False])
def test_a_method_that_tunes_is_fitted_once(compose, tmp_path, plugin, apart):
    arguments = ("--method", "collage", "-o", f"collage.apart={apart}", "--out", "made")
    assert compose(*arguments, "--images", 1).code == 0

    def artefacts() -> dict[str, int]:
        return {folder.name: folder.stat().st_ino for folder in (tmp_path / "made" / "artefacts").glob("*/*")}

    fitted = artefacts()
    assert fitted.keys() == ({"ann", "bob"} if apart else {"ann+bob"})
    assert compose(*arguments, "--images", 2).code == 0
    assert artefacts() == fitted


def test_a_damaged_artefact_is_made_again_and_gives_the_same_pictures(compose, tmp_path, plugin):
    arguments = ("--method", "collage", "--out", "made", "--no-scores")
    compose(*arguments, "--images", 1)
    (artefact,) = (tmp_path / "made" / "artefacts").glob("*/*/0.npy")
    artefact.write_bytes(b"damaged")
    assert compose(*arguments, "--images", 2).code == 0
    assert compose(*arguments[:2], "--out", "anew", "--no-scores", "--images", 2).code == 0
    assert pictures(tmp_path / "made") == pictures(tmp_path / "anew")


def test_a_second_process_on_the_folder_is_told_who_works_there(compose, tmp_path):
    compose("--images", 1, "--no-scores", "--out", "made")
    with held(tmp_path / "made"):
        done = compose("--images", 2, "--no-scores", "--out", "made")
    assert done.code == 2
    assert f"Another process is working in made (process {os.getpid()} on " in done.err
    assert pictures(tmp_path / "made").keys() == {"1.png"}
    assert compose("--images", 2, "--no-scores", "--out", "made").code == 0


def test_a_folder_of_something_else_is_left_alone(compose, tmp_path, photographs):
    before = sorted(photographs.rglob("*"))
    done = compose("--images", 1, "--out", "photos")
    assert done.code == 2
    assert "The folder photos holds something else" in done.err
    assert sorted(photographs.rglob("*")) == before
    assert "photos/ann.png cannot be written (File exists)" in compose("--images", 1, "--out", "photos/ann.png").err


def test_a_method_that_fails_says_why_and_keeps_what_it_made(compose, tmp_path, plugin):
    failing = ("--method", "collage", "-o", "collage.fail_subject=bob", "--out", "made")
    done = compose(*failing)
    assert done.code == 2
    assert "cannot be fitted to ann and bob: RuntimeError: diverged." in done.err
    assert not any((tmp_path / "made" / "artefacts").glob("ann*"))
    assert compose("--method", "paste", "-o", "paste.fail_prompt=cooking", "--out", "other").code == 2


def test_a_photograph_without_a_face_ends_it_before_anything_is_made(compose, tmp_path, photographs):
    Image.new("RGB", (128, 128), "gray").save(photographs / "ann.png")
    done = compose()
    assert done.code == 2
    assert 'fc-bench: "ann" has no usable photograph: No face is found in the photograph photos/ann.png' in done.err
    assert not (tmp_path / "composed").exists()
    assert compose("--no-crop", "--no-scores", "--images", 1).code == 0


def test_what_shows_no_face_is_composed_and_measured_without_identity(compose, tmp_path, photographs):
    Image.new("RGB", (128, 128), "gray").save(photographs / "ann.png")
    done = compose("--no-crop", "--images", 2)
    assert done.code == 0, done.err
    assert "Identity is not measured: No face is found in composed/" in " ".join(done.out.split())
    (folder,) = (tmp_path / "composed").iterdir()
    for image in json.loads((folder / "compose.json").read_text())["images"]:
        assert image["scores"].keys() == {"prompt_consistency"}
    assert compose("--no-crop", "--images", 3).code == 0
    assert len(pictures(folder)) == 3


def test_photographs_of_a_format_that_is_not_read_are_named(compose, photographs):
    (photographs / "bo" / "IMG_2.HEIC").write_bytes(b"heic")
    done = compose("--images", 1, "--no-scores")
    told = " ".join(done.out.split())
    assert "Left out of photos/bo:" in told
    assert "IMG_2.HEIC" in told
    assert "so convert them" in told


def test_without_crop_and_scores_no_face_model_is_needed(compose, tiny_backbone, tmp_path, fc_bench):
    import yaml

    data = yaml.safe_load(tiny_backbone.read_text())
    data |= {key: str(tiny_backbone.parent / data[key]) for key in ("pipeline", "clip")}
    data["fastcomposer"]["variants"]["random"] = str(tiny_backbone.parent / "fastcomposer")
    data["faces"]["pack"] = "nowhere"
    data["clip"] = "nowhere"
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(data))
    arguments = ("compose", "a {ann}", "-s", "ann=photos/ann.png:woman", "--backbone", tmp_path / "bare.yaml", "-n", 1)
    done = fc_bench(*arguments, "--no-crop", "--no-scores")
    assert done.code == 0, done.err
    refused = fc_bench(*arguments)
    assert refused.code == 2
    assert "faces needs" in refused.err or "clip needs" in refused.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ann", "not of the form"),
        ("ann=photo.jpg", "not of the form"),
        ("=photo.jpg:woman", "not of the form"),
        ("a/b=photo.jpg:woman", 'The id "a/b" of a subject needs'),
        ("ann=photo.jpg:<woman>", "class noun"),
    ],
)
def test_subject_that_is_none_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_subject(text)


def test_a_subject_s_path_may_hold_colons_and_equal_signs():
    assert parse_subject("ann=C:/a=b/ann.png:old woman") == OwnSubject("ann", "old woman", Path("C:/a=b/ann.png"))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a man cooking", r"does not name \{ann\}"),
        ("a {ann} and {bo}", 'did you mean "bob"'),
        ("a {ann} and a {bob} and {ann}", r"names \{ann\} twice"),
        ("a {ann} and a {bob", "a brace without its pair"),
        ("a {ann} and a {bob} <|image|>", "holds <|image|>"),
        ("a {ann} and a {bob} " + "x" * 1000, "characters"),
    ],
)
def test_prompt_that_does_not_name_each_subject_once_is_refused(prompt, message):
    subjects = [OwnSubject("ann", "woman", Path("a")), OwnSubject("bob", "man", Path("b"))]
    with pytest.raises(UserError, match=message):
        parse_slots(prompt, subjects)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "text-only", "--alpha", "0.5"], "--alpha is an option of fastcomposer"),
        (["-o", "dreambooth.steps=3"], 'The option is for "dreambooth"'),
        (["-m", "fastcompose"], "did you mean"),
        (["-o", "fastcomposer.alpa=1"], 'has no option "alpa"'),
    ],
)
def test_wrong_options_are_refused_before_anything_is_made(compose, tmp_path, arguments, message):
    done = compose(*arguments)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "composed").exists()


def test_the_pocket_world_s_people_are_recognized_in_their_pictures(fc_bench, tmp_path):
    from fc_bench.builtin import DATASETS

    people = DATASETS / "pocket" / "subjects"
    arguments = ("-s", f"ada={people / 'p04'}/:woman", "-s", f"bo={people / 'p03' / '1.png'}:man", "-n", 2)
    done = fc_bench("compose", "a photo of a {ada} and a {bo} in the snow", *arguments, "--out", tmp_path / "both")
    assert done.code == 0, done.err
    for image in json.loads((tmp_path / "both" / "compose.json").read_text())["images"]:
        # Each face is much more alike to its own person than to the other one.
        assert image["scores"]["identity_mixing"] < -0.1
