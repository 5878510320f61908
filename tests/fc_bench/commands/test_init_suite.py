"""A folder of folders becomes a suite that runs, with portraits and everything left out named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from PIL import Image

from fc_bench import registry
from fc_bench.suites.suite import read_suite


@pytest.fixture
def photographs(tmp_path, portrait, people, monkeypatch) -> Path:
    """A folder for each of the tiny world's people, two photographs each; the cwd is beside it."""
    for name, (_, color) in people.items():
        folder = tmp_path / "family" / name
        folder.mkdir(parents=True)
        for number in (1, 2):
            portrait(color, shade=10 * number).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "family"


@pytest.fixture
def init_suite(fc_bench, tiny_backbone, photographs, suite):
    """Runs the verb on the tiny backbone, with the prompts of the tests' own suite."""

    def invoke(*arguments: object):
        return fc_bench("init-suite", "family", "--backbone", tiny_backbone, "--prompts", suite, *arguments)

    return invoke


def test_it_is_a_suite_that_runs(init_suite, fc_bench, tmp_path, tiny_backbone, plugin):
    done = init_suite("--noun", "ann=woman", "--noun", "man")
    assert done.code == 0, done.err
    file = tmp_path / "family-suite" / "suite.yaml"
    made = read_suite(file)
    assert made.file.name == "family"
    assert {subject.id: subject.noun for subject in made.subjects} == {"ann": "woman", "bob": "man", "cid": "man"}
    assert [len(subject.photographs) for subject in made.subjects] == [2, 2, 2]
    assert len(made.subject_sets()) == 6  # three people alone and every pair
    assert f"fc-bench run family-suite/suite.yaml --backbone {tiny_backbone}" in done.out
    run = fc_bench("run", file, "--backbone", tiny_backbone, "-m", "paste", "--out", tmp_path / "run")
    assert run.code == 0, run.err
    assert "12 samples, 12 to generate" in run.out
    with Image.open(tmp_path / "family-suite" / "sheet.png") as sheet:
        assert sheet.height > 3 * 192


def test_photographs_without_a_face_are_left_out_and_named(init_suite, tmp_path, photographs):
    Image.new("RGB", (128, 128), "gray").save(photographs / "bob" / "1.png")
    done = init_suite("--noun", "person")
    assert 'Left out for "bob": No face is found in the photograph family/bob/1.png' in done.out
    assert len(read_suite(tmp_path / "family-suite" / "suite.yaml").subjects[1].photographs) == 1
    Image.new("RGB", (128, 128), "gray").save(photographs / "bob" / "2.png")
    done = init_suite("--noun", "person", "--out", "again")
    assert done.code == 2
    assert '"bob" has no usable photograph' in done.err
    assert not (tmp_path / "again").exists()


def test_photographs_that_nobody_s_folder_holds_or_no_format_of_ours_are_named(init_suite, photographs):
    (photographs / "ann" / "IMG_3.heic").write_bytes(b"heic")
    Image.new("RGB", (8, 8)).save(photographs / "loose.png")
    done = init_suite("--noun", "person")
    assert "Left out of family: loose.png; move each photograph into the folder of its person" in " ".join(
        done.out.split()
    )
    assert "Left out of family/ann: IMG_3.heic; only .jpg" in " ".join(done.out.split())


def test_prompts_suit_what_the_backbone_knows(fc_bench, photographs, tmp_path):
    arguments = ("init-suite", "family", "--noun", "person", "--no-crop")
    own = tmp_path / "own.yaml"
    own.write_text("name: mine\nextends: pocket\ndescription: the pocket world under another name\n")
    assert fc_bench(*arguments, "--backbone", own, "--out", "a").code == 0
    suited = {
        prompt.template for _, prompts in read_suite(registry.suite_file("pocket")).subject_sets() for prompt in prompts
    }
    taken = {prompt.template for _, prompts in read_suite(Path("a/suite.yaml")).subject_sets() for prompt in prompts}
    assert taken == suited


def test_identity_is_not_asked_of_subjects_without_a_face(init_suite, photographs, tmp_path):
    Image.new("RGB", (128, 128), "gray").save(photographs / "bob" / "1.png")
    done = init_suite("--noun", "person", "--no-crop")
    assert "The metric identity is left out: no face is found in bob/1.png" in " ".join(done.out.split())
    assert read_suite(tmp_path / "family-suite" / "suite.yaml").file.metrics == ["prompt-consistency"]


def test_folders_of_any_script_are_people_and_those_of_systems_are_not(
    init_suite, fc_bench, tmp_path, photographs, tiny_backbone, plugin
):
    for old, new in (("ann", "Jose\u0301 Mar\u00eda"), ("bob", "\u674e\u96f7"), ("cid", "\u0410\u043d\u043d\u0430")):
        (photographs / old).rename(photographs / new)
    for name in ("__MACOSX", "@eaDir", ".git"):
        (photographs / name).mkdir()
    (photographs / "\u674e\u96f7" / "._1.png").write_bytes(b"\0\5\x16\7")
    (photographs / "\u674e\u96f7" / "2.png").rename(photographs / "\u674e\u96f7" / "IMG_2.PNG")
    done = init_suite("--noun", "Jos\u00e9 Mar\u00eda=woman", "--noun", "man")
    assert done.code == 0, done.err
    assert "Left out" not in done.out
    suite = read_suite(tmp_path / "family-suite" / "suite.yaml")
    nouns = {subject.id: (subject.noun, len(subject.photographs)) for subject in suite.subjects}
    assert nouns == {
        "Jos\u00e9-Mar\u00eda": ("woman", 2),
        "\u674e\u96f7": ("man", 2),
        "\u0410\u043d\u043d\u0430": ("man", 2),
    }
    run = fc_bench("run", suite.path, "--backbone", tiny_backbone, "-m", "paste", "--out", tmp_path / "run")
    assert run.code == 0, run.err
    report = fc_bench("report", tmp_path / "run", "--out", tmp_path / "report")
    assert report.code == 0, report.err


@pytest.mark.parametrize("name", ["Ann", "ann ", "ann?"])
def test_two_folders_of_one_id_are_named(init_suite, tmp_path, photographs, name):
    (photographs / "bob").rename(photographs / name)
    done = init_suite("--noun", "person")
    assert done.code == 2
    assert "are both the subject" in done.err
    assert repr(name)[1:-1] in done.err


def test_neighbors_alone_are_paired_among_many(init_suite, tmp_path, photographs, portrait):
    for name, color in {"dan": (90, 90, 200), "eve": (200, 90, 200)}.items():
        (photographs / name).mkdir()
        portrait(color).save(photographs / name / "1.png")
    assert init_suite("--noun", "person").code == 0
    pairs = yaml.safe_load((tmp_path / "family-suite" / "suite.yaml").read_text())["multi"]["subjects"]
    assert pairs == [["ann", "bob"], ["bob", "cid"], ["cid", "dan"], ["dan", "eve"], ["eve", "ann"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "of ann, bob, cid is missing; add --noun ann=woman"),
        (["--noun", "anne=woman", "--noun", "man"], 'did you mean "ann"'),
        (["--noun", "<x>"], "neither ID=NOUN"),
        (["--noun", "man", "--prompts", "pockett"], "did you mean"),
        (["--noun", "man", "--name", "a b"], "The photographs do not make a valid suite: name"),
        (["--noun", "man", "--out", "family"], "already exists"),
    ],
)
def test_what_cannot_be_a_suite_is_refused_with_nothing_written(init_suite, tmp_path, arguments, message):
    done = init_suite(*arguments)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "family-suite").exists()


def test_folders_that_cannot_be_people_are_refused(fc_bench, tmp_path, photographs, tiny_backbone):
    for folder, message in ((tmp_path / "nowhere", "does not exist"), (photographs / "ann", "has no folder in it")):
        done = fc_bench("init-suite", folder, "--noun", "man", "--backbone", tiny_backbone)
        assert done.code == 2
        assert message in done.err
    (photographs / "!!").mkdir()
    done = fc_bench("init-suite", photographs, "--noun", "man", "--backbone", tiny_backbone)
    assert "gives no id of a subject" in done.err
