"""A user's copy of a benchmark becomes a suite with its prompts, people and targets, in the benchmark's order."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from fc_bench.layouts.catalog import LAYOUTS
from fc_bench.suites.suite import read_suite

from .test_round_trip import scores_by_slot

PARTS = {
    "multihuman": None,
    "xverse": "multi",
    "multiid": None,
    "omnicontext": None,
    "dreambooth": None,
    "uno": "multi",
    "dreambench-plus": None,
    "customconcept101": "multi",
    "psrbench": None,
}
NAMES = {
    "multihuman": ["0", "1"],
    "xverse": ["0", "1", "2", "3", "4"],
    "multiid": ["0001", "num_3_0002"],
    "omnicontext": ["single_character/0001", "multi_character/0002", "single_object/0003"],
    "uno": ["0", "1"],
    "customconcept101": [f"pet_cat1+scene_barn/samples/{number:04d}" for number in range(3)],
    "psrbench": [
        f"{subset}/0" for subset in ("Attribute", "Action", "Background", "Position", "Complex", "Three", "Four")
    ],
}
TEXTS = {
    "multihuman": ["An athlete in a race. Ultra-Realistic. 8K.", "Three athletes in a race."],
    "xverse": [
        "A {1} near a {2}.",
        "A {1} is riding a {2}.",
        "A {1} is behind a {2}.",
        "A {1} is standing beside another {2}.",
        "A {1} is standing beside another {2}.",
    ],
    "multiid": ["A person in the snow.", "Three friends."],
    "uno": ["a {1} and a {2} in the jungle", "a {1} and a {2} in the snow"],
    "customconcept101": ["{1} behind a {2}", "{1} in front of {2}", "barn and barn"],
    "psrbench": [f"a {{1}} beside a {{2}}, {name.partition('/')[0]}" for name in NAMES["psrbench"]],
}


@pytest.fixture
def imported(fc_bench, copies, tmp_path):
    """Imports a benchmark's copy into `<tmp>/suite.yaml`."""

    def invoke(name: str, subset: str | None = None, *arguments: object, out: str = "suite.yaml"):
        part = ("--subset", subset) if subset else ()
        return fc_bench("import", name, copies(name), "--out", tmp_path / out, *part, *arguments)

    return invoke


@pytest.mark.parametrize("name", PARTS)
def test_copy_becomes_a_suite_in_the_benchmarks_order_with_its_names(name, imported, tmp_path):
    done = imported(name, PARTS[name])
    assert done.code == 0, done.err
    suite = read_suite(tmp_path / "suite.yaml")
    for text in (suite.file.license, suite.file.source, suite.file.citation):
        assert text
    if name not in LAYOUTS:
        return
    items = LAYOUTS[name].named(suite)
    if name in NAMES:
        assert list(items) == NAMES[name]
    if name in TEXTS:
        assert [item.prompt.template for item in items.values()] == TEXTS[name]


def test_subjects_of_a_prompt_stand_in_the_order_of_its_text(imported, tmp_path):
    imported("xverse", "multi")
    items = LAYOUTS["xverse"].named(read_suite(tmp_path / "suite.yaml"))
    assert items["2"].text == "A motorcycle is behind a boy."
    assert [subject.noun for subject in items["2"].subject_set.subjects] == ["motorcycle", "boy"]
    assert items["3"].subject_set.key == "human-05_man+human-01_man"
    assert items["4"].subject_set.key == "human-01_man+human-05_man"


def test_people_alone_are_a_suite_that_reads_the_whole_benchmarks_folder(
    imported, copies, fc_bench, tiny_backbone, portrait, records, tmp_path
):
    done = imported("xverse", "multi-people")
    assert done.code == 0, done.err
    assert "1 of 5 prompts show no person" in done.out
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for item in json.loads((copies("xverse") / "eval/tools/XVerseBench_multi.json").read_text()):
        grid = Image.new("RGB", (256, 256), (40 * item["index"], 0, 0))
        grid.save(theirs / f"{item['index']}_{item['prompt'][:40].replace(' ', '_')}.png")
    common = ("--suite", tmp_path / "suite.yaml", "--backbone", tiny_backbone, "--out", tmp_path / "scored")
    done = fc_bench("score", theirs, "--layout", "xverse", *common)
    assert done.code == 0, done.err
    found = {(tuple(one["subjects"]), one["made_elsewhere"][0]) for one in records(tmp_path / "scored/samples.jsonl")}
    assert found == {
        (("human-05_man",), "1"),
        (("human-00_boy",), "2"),
        (("human-05_man", "human-01_man"), "3"),
        (("human-01_man", "human-05_man"), "4"),
    }
    assert "XVerse ID" in (tmp_path / "scored/report/table.csv").read_text()


def test_targets_are_scored_and_written_for_the_scripts(imported, fc_bench, tiny_backbone, copies, records, tmp_path):
    assert imported("multiid").code == 0
    suite = read_suite(tmp_path / "suite.yaml")
    assert [path.name for path in suite.targets.values()] == ["0001.jpg", "0002.jpg"]
    root = tmp_path / "theirs"
    for name, image in (("0001", "p1/untar/0001.jpg"), ("num_3_0002", "p3/num_3/0002.jpg")):
        (root / name).mkdir(parents=True)
        Image.open(copies("multiid") / image).save(root / name / "out.png")
    common = ("--suite", tmp_path / "suite.yaml", "--backbone", tiny_backbone)
    done = fc_bench("score", root, "--layout", "multiid", *common, "--out", tmp_path / "scored", "-m", "a")
    assert done.code == 0, done.err
    scores = [one["values"] for one in records(tmp_path / "scored/scores.jsonl") if one["metric"] == "copy-paste"]
    assert any(values.get("target_similarity") == pytest.approx(1.0, abs=1e-3) for values in scores)
    export = ("export-images", tmp_path / "scored", "--layout", "multiid", "--out")
    assert fc_bench(*export, tmp_path / "plain").code == 0
    assert not (tmp_path / "plain/0001/ori.png").exists()
    done = fc_bench(*export, tmp_path / "whole", "--suite", tmp_path / "suite.yaml")
    assert done.code == 0, done.err
    names = sorted(file.name for file in (tmp_path / "whole/num_3_0002").iterdir())
    assert names == ["meta.json", "ori.png", "out.png", "ref_1.png", "ref_2.png", "ref_3.png"]
    done = fc_bench("score", tmp_path / "whole", "--layout", "multiid", *common, "--out", tmp_path / "again", "-m", "a")
    assert done.code == 0, done.err
    again = [one["values"] for one in records(tmp_path / "again/scores.jsonl")]
    assert again == [one["values"] for one in records(tmp_path / "scored/scores.jsonl")]


def test_what_the_generating_script_leaves_is_read_as_a_benchmark(copies, fc_bench, tmp_path):
    root = tmp_path / "left"
    (root / "0001").mkdir(parents=True)
    shutil.copy(copies("multiid") / "p1/untar/0001.jpg", root / "0001/ori.jpg")
    shutil.copy(copies("multiid") / "p1/untar/0001_1.jpg", root / "0001/ref_0.jpg")
    (root / "0001/meta.json").write_text(json.dumps({"prompt": "A person in the snow."}))
    done = fc_bench("import", "multiid", root, "--out", tmp_path / "suite.yaml")
    assert done.code == 0, done.err
    assert list(LAYOUTS["multiid"].named(read_suite(tmp_path / "suite.yaml"))) == ["0001"]


def test_photographs_elsewhere_are_given_with_the_suite(copies, fc_bench, tmp_path):
    (tmp_path / "suites").mkdir()
    folder = copies("multihuman")
    done = fc_bench("import", "multihuman", folder, "--out", tmp_path / "suites/suite.yaml")
    assert done.code == 0, done.err
    assert f"--photographs {folder}" in done.out
    suite = read_suite(tmp_path / "suites/suite.yaml", folder)
    assert suite.subjects[0].photographs[0] == folder / "data/faces/ffhq_0.jpg"


def test_copied_photographs_lie_beside_the_suite(imported, tmp_path):
    done = imported("multiid", None, "--copy")
    assert done.code == 0, done.err
    assert "--photographs" not in done.out
    shutil.rmtree(tmp_path / "multiid")
    suite = read_suite(tmp_path / "suite.yaml")
    assert all(path.is_relative_to(tmp_path / "suite-photographs") for path in suite.targets.values())


def _json(root: Path, name: str, change) -> None:
    content = json.loads((root / name).read_text())
    change(content)
    (root / name).write_text(json.dumps(content))


MH, XM = "data/multihuman_metadata.json", "eval/tools/XVerseBench_multi.json"
DAMAGED = {
    "no metadata": ("multihuman", lambda root: (root / MH).unlink(), "has no data/multihuman_metadata.json"),
    "no JSON": ("multihuman", lambda root: (root / MH).write_text("["), "is not valid JSON"),
    "no list": ("multihuman", lambda root: (root / MH).write_text("{}"), "holds no list of items"),
    "another benchmark": (
        "multihuman",
        lambda root: (root / MH).write_text('[{"prompt": "x"}]'),
        '"identifier" is missing',
    ),
    "no mapping": ("multihuman", lambda root: (root / MH).write_text("[1]"), "item 0 (from 0) is no mapping"),
    "one noun too few": (
        "multihuman",
        lambda root: _json(root, MH, lambda items: items[1]["identifier"].pop()),
        "3 people have 2 class nouns",
    ),
    "prompt that is no text": (
        "multihuman",
        lambda root: _json(root, MH, lambda items: items[1].update(prompt=3)),
        '"prompt" is no text',
    ),
    "missing face": (
        "multihuman",
        lambda root: (root / "data/faces/ffhq_1.jpg").unlink(),
        'the photograph "data/faces/ffhq_1.jpg" does not exist',
    ),
    "missing faces": (
        "multihuman",
        lambda root: [(root / f"data/faces/ffhq_{number}.jpg").unlink() for number in (1, 2)],
        "2 of 4 photographs are not in",
    ),
    "file outside": (
        "multihuman",
        lambda root: _json(root, MH, lambda items: items[0].update(people=["../../secret.jpg"])),
        "lies outside the folder",
    ),
    "wrong index": (
        "xverse",
        lambda root: _json(root, XM, lambda items: items[1].update(index=7)),
        "the index is 7",
    ),
    "use of an unknown image": (
        "xverse",
        lambda root: _json(root, XM, lambda items: items[1]["modulation"][0]["use_words"][0].__setitem__(0, 5)),
        '"use_words" is not of the known form',
    ),
    "repeated key": (
        "omnicontext",
        lambda root: (root / "metadata.jsonl").write_text(
            (root / "metadata.jsonl").read_text().replace("0002", "0001").replace("multi_character", "single_character")
        ),
        'the key "0001" of single_character is also that of',
    ),
    "key that is a path": (
        "omnicontext",
        lambda root: (root / "metadata.jsonl").write_text(
            (root / "metadata.jsonl").read_text().replace('"key": "0001"', '"key": "../0001"')
        ),
        "is no name of a file",
    ),
    "broken line": (
        "omnicontext",
        lambda root: (root / "metadata.jsonl").write_text("{}\n{"),
        "metadata.jsonl:2: not valid JSON",
    ),
    "no subsets": ("multiid", lambda root: [(root / f"{part}.json").unlink() for part in ("p1", "p3")], "hf2bench.py"),
    "unknown subject": (
        "uno",
        lambda root: _json(
            root / "datasets",
            "dreambench_multiip.json",
            lambda items: items[0].update(image_paths=["./dreambooth/dataset/cat9/0.jpg"]),
        ),
        "is no subject of DreamBooth",
    ),
    "ten prompts": (
        "dreambench-plus",
        lambda root: (root / "captions/object/00.txt").write_text("\n".join(["cup", *map(str, range(10))])),
        "has 10 prompts, the benchmark nine",
    ),
    "empty captions": ("dreambench-plus", lambda root: (root / "captions/object/00.txt").write_text(""), "is empty"),
    "no photographs": (
        "customconcept101",
        lambda root: shutil.rmtree(root / "benchmark_dataset/scene_barn"),
        "unpack benchmark_dataset",
    ),
    "no prompts": ("dreambooth", lambda root: (root / "dataset/prompts_and_classes.txt").write_text("x"), "restore it"),
    "no categories": (
        "psrbench",
        lambda root: _json(root, "Action.json", lambda items: items[0].pop("category2")),
        '"category2" is missing',
    ),
    "repeated prompt": (
        "psrbench",
        lambda root: _json(root, "Action.json", lambda items: items.append(items[0])),
        "is listed twice",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_copy_that_is_not_the_benchmark_is_refused_in_one_sentence_and_nothing_is_written(
    case, imported, copies, tmp_path
):
    name, damage, expected = DAMAGED[case]
    damage(copies(name))
    before = sorted(tmp_path.rglob("*"))
    done = imported(name, PARTS[name], "--copy")
    assert done.code == 2, done.out
    assert expected in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_part_has_to_be_named_where_there_are_several(imported):
    done = imported("xverse")
    assert done.code == 2
    assert "give --subset" in done.err
    done = imported("xverse", "triple")
    assert done.code == 2
    assert 'has no part "triple"' in done.err


def test_existing_suite_is_not_overwritten(imported, tmp_path):
    (tmp_path / "suite.yaml").write_text("mine")
    done = imported("multihuman")
    assert done.code == 2
    assert (tmp_path / "suite.yaml").read_text() == "mine"


@pytest.mark.parametrize("name", [name for name in PARTS if name in LAYOUTS])
def test_run_of_an_imported_suite_is_written_and_read_back_with_equal_numbers(
    name, imported, fc_bench, tiny_backbone, records, tmp_path
):
    assert imported(name, PARTS[name]).code == 0
    suite = tmp_path / "suite.yaml"
    content = yaml.safe_load(suite.read_text())
    content.pop("sampler", None)  # the tiny backbone's own size
    suite.write_text(yaml.safe_dump(content, sort_keys=False))
    common = ("--backbone", tiny_backbone, "--out")
    done = fc_bench("run", suite, "-m", "text-only", *common, tmp_path / "run")
    assert done.code == 0, done.err
    done = fc_bench("export-images", tmp_path / "run", "--layout", name, "--out", tmp_path / "theirs")
    assert done.code == 0, done.err
    done = fc_bench("score", tmp_path / "theirs", "--suite", suite, "--layout", name, *common, tmp_path / "scored")
    assert done.code == 0, done.err
    assert "left out" not in done.out
    found = [scores_by_slot(tmp_path / folder, records) for folder in ("run", "scored")]
    assert found[0] == found[1]
    assert found[0]
