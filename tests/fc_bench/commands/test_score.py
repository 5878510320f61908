"""Images made elsewhere give the numbers that the same images give when fc-bench made them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fc_bench.commands.image_assignment import read_manifest
from fc_bench.errors import UserError
from fc_bench.layouts.requested import RequestedImages
from fc_bench.suites.suite import read_suite


@pytest.fixture
def made(fc_bench, plugin, suite, tiny_backbone, tmp_path) -> Path:
    """A run of the plug-in method, whose images show the faces they are asked for."""
    folder = tmp_path / "made"
    done = fc_bench("run", suite, "-m", "paste", "--backbone", tiny_backbone, "--out", folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def score(fc_bench, suite, tiny_backbone, tmp_path) -> Callable[..., Any]:
    """Scores a folder of images into `<tmp>/scored`."""

    def invoke(images: Path, *arguments: object, suite: Path = suite) -> Any:
        out = tmp_path / "scored"
        return fc_bench(
            "score", images, "--suite", suite, "--backbone", tiny_backbone, "--out", out, "-m", "theirs", *arguments
        )

    return invoke


def by_slot(folder: Path, records: Callable[[Path], list[dict]]) -> dict[tuple, dict[str, Any]]:
    """Values of every metric by subject set, template, index and metric."""
    slots = {
        record["id"]: (tuple(record["subjects"]), record["template"], record["index"])
        for record in records(folder / "samples.jsonl")
    }
    return {
        (*slots[score["sample"]], score["metric"]): score["values"]
        for score in records(folder / "scores.jsonl")
        if score["sample"] in slots
    }


def export(made: Path, target: Path, records) -> list[dict[str, Any]]:
    """The run's images under the authors' names; returns the samples in the order of those names."""
    target.mkdir()
    samples = records(made / "plan.jsonl")
    images = {record["id"]: record["image"] for record in records(made / "samples.jsonl")}
    sets = list(dict.fromkeys(tuple(sample["subjects"]) for sample in samples))
    for sample in samples:
        own = tuple(sample["subjects"])
        templates = list(dict.fromkeys(s["template"] for s in samples if tuple(s["subjects"]) == own))
        name = f"subject_{sets.index(own):04d}_prompt_{templates.index(sample['template']):04d}_instance_0000.png"
        shutil.copy(made / images[sample["id"]], target / name)
    return samples


def write_manifest(file: Path, rows: list[dict[str, Any]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def test_images_under_the_authors_names_give_the_numbers_of_the_run_that_made_them(made, score, records, tmp_path):
    export(made, tmp_path / "theirs", records)
    done = score(tmp_path / "theirs", "--layout", "fastcomposer")
    assert done.code == 0, done.err
    own = by_slot(made, records)
    assert by_slot(tmp_path / "scored", records) == own
    assert any(values.get("identity", 0) > 0.5 for values in own.values())


def test_images_of_a_manifest_give_the_numbers_of_the_run_that_made_them(made, score, records, tmp_path):
    samples = {record["id"]: record for record in records(made / "samples.jsonl")}
    rows = [
        # Prompts by template and as filled in: both say which one is meant.
        {"image": record["image"], "subjects": "+".join(record["subjects"]), "prompt": record[key]}
        for record, key in zip(samples.values(), ["template", "prompt"] * len(samples), strict=False)
    ]
    done = score(made, "--manifest", write_manifest(tmp_path / "list.csv", rows))
    assert done.code == 0, done.err
    assert by_slot(tmp_path / "scored", records) == by_slot(made, records)


def test_scored_folder_compares_with_the_run_that_made_the_images(made, score, fc_bench, records, tmp_path):
    export(made, tmp_path / "theirs", records)
    score(tmp_path / "theirs", "--layout", "fastcomposer")
    done = fc_bench("compare", made, tmp_path / "scored", "-m", "paste=theirs")
    assert done.code == 0, done.out + done.err
    assert "unchanged" in done.out


def test_missing_images_are_planned_and_counted_as_missing(made, score, records, tmp_path):
    export(made, tmp_path / "theirs", records)
    (tmp_path / "theirs" / "subject_0001_prompt_0002_instance_0000.png").unlink()
    done = score(tmp_path / "theirs", "--layout", "fastcomposer")
    assert done.code == 4
    assert "8 / 9" in done.out
    assert "10 / 11 samples finished" in done.err


def test_unreadable_image_fails_alone_and_is_scored_once_it_is_replaced(made, score, records, tmp_path):
    export(made, tmp_path / "theirs", records)
    broken = tmp_path / "theirs" / "subject_0000_prompt_0000_instance_0000.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    first = score(tmp_path / "theirs", "--layout", "fastcomposer")
    assert first.code == 4
    assert broken.name in first.out
    assert "Traceback" not in first.out + first.err
    broken.write_bytes(whole)
    before = (tmp_path / "scored" / "scores.jsonl").read_text()
    assert score(tmp_path / "theirs", "--layout", "fastcomposer").code == 0
    after = (tmp_path / "scored" / "scores.jsonl").read_text()
    assert after.startswith(before)
    assert len(after.splitlines()) == len(before.splitlines()) + 2
    assert by_slot(tmp_path / "scored", records) == by_slot(made, records)


def test_scoring_again_measures_nothing_twice(made, score, records, tmp_path):
    export(made, tmp_path / "theirs", records)
    score(tmp_path / "theirs", "--layout", "fastcomposer")
    files = [tmp_path / "scored" / name for name in ("samples.jsonl", "scores.jsonl")]
    before = [file.read_bytes() for file in files]
    assert score(tmp_path / "theirs", "--layout", "fastcomposer").code == 0
    assert [file.read_bytes() for file in files] == before


def test_scoring_needs_no_pipeline(made, score, records, tiny_backbone, tmp_path):
    export(made, tmp_path / "theirs", records)
    data = tiny_backbone.read_text().replace("pipeline: pipeline", "pipeline: not-there")
    alone = tiny_backbone.with_name("alone.yaml")
    alone.write_text(data)
    done = score(tmp_path / "theirs", "--layout", "fastcomposer", "--backbone", alone)
    assert done.code == 0, done.err


def test_columns_method_and_index_of_a_manifest_make_rows_of_their_own(made, score, records, tmp_path):
    image = records(made / "samples.jsonl")[0]["image"]
    row = {"subjects": "ann", "prompt": "a sketch of a {subject}"}
    rows = [
        {"image": image, **row, "method": "one", "index": 1},
        {"image": image, **row, "method": "two", "index": 0},
    ]
    score(made, "--manifest", write_manifest(tmp_path / "list.csv", rows), "--images-per-prompt", 2)
    placed = records(tmp_path / "scored" / "samples.jsonl")
    assert [(record["method"], record["index"]) for record in placed] == [("one", 1), ("two", 0)]
    methods = json.loads((tmp_path / "scored" / "run.json").read_text())["methods"]
    assert list(methods) == ["one", "two"]


HEADER, ROWS = (
    ["image", "subjects", "prompt"],
    [
        ["a.png", "ann", "a sketch of a {subject}"],
        ["b.png", "bob", "a photo of a {subject}, in the snow"],
    ],
)
"""A table whose prompts hold a comma."""


def table(separator: str = ",", end: str = "\n", quote: str = '"', header=HEADER, rows=ROWS) -> str:
    lines = [separator.join(f"{quote}{cell}{quote}" for cell in row) for row in [header, *rows]]
    return end.join(lines) + end


SPREADSHEETS = {
    "byte order mark": table().encode("utf-8-sig"),
    "semicolons": table(";", "\r\n").encode(),
    "tabs without quotes": table("\t", quote="").encode(),
    "unicode text": table("\t", "\r\n").encode("utf-16"),
    "big-endian": b"\xfe\xff" + table().encode("utf-16-be"),
    "old line ends": table(end="\r").encode(),
    "first line names the separator": ("sep=;\n" + table(";")).encode(),
    "separator of its own": ("sep=|\n" + table("|")).encode(),
    "empty rows": ("\n,,\n" + table() + "\n,,\n").encode(),
    "empty columns": table(header=[*HEADER, "", ""], rows=[[*row, "", ""] for row in ROWS]).encode(),
    "capitals and blanks": table(
        ", ", header=[" Image", "SUBJECTS ", "Prompt\u00a0"], rows=[[f" {cell}\u00a0" for cell in row] for row in ROWS]
    ).encode(),
    "decimals": table(";", header=[*HEADER, "Index"], rows=[[*row, "0,0"] for row in ROWS]).encode(),
    "other columns": table(header=["note", *HEADER], rows=[["x; y", *row] for row in ROWS]).encode(),
}


@pytest.fixture
def asked(suite_data, write_suite) -> RequestedImages:
    """A suite in which the rows' prompts are asked for."""
    suite_data["single"]["prompts"]["context"] = ["a photo of a {subject}, in the snow"]
    sets = read_suite(write_suite(suite_data)).subject_sets()
    return RequestedImages(sets, sets, 2)


@pytest.mark.parametrize("kind", SPREADSHEETS)
def test_table_is_read_as_any_spreadsheet_writes_it(kind, asked, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "list.csv").write_bytes(SPREADSHEETS[kind])
    found, _ = read_manifest(tmp_path / "list.csv", tmp_path, asked, "mine")
    assert {(slot[1], slot[2], slot[3], file.name) for slot, file in found.items()} == {
        ("ann", "a sketch of a {subject}", 0, "a.png"),
        ("bob", "a photo of a {subject}, in the snow", 0, "b.png"),
    }


BAD_TABLES = {
    "column twice": (table(header=[*HEADER, "Image"], rows=[[*row, "c.png"] for row in ROWS]), "occurs 2 times"),
    "value without a column": (table(header=[*HEADER, ""], rows=[[*row, "x"] for row in ROWS]), "more fields than"),
    "empty cell": (table(rows=[["", *ROWS[0][1:]]]), 'list.csv:2: the column "image" is empty'),
    "file for two prompts": (
        table(rows=[ROWS[0], ["a.png", "ann", "a photo of a {subject}, in the snow"]]),
        "list.csv:3: the image a.png is already used by .*list.csv:2",
    ),
    "file for two people": (
        table(rows=[ROWS[0], ["a.png", *ROWS[1][1:]]]),
        "list.csv:3: the image a.png is already used by",
    ),
    "file for two indices": (table(rows=[ROWS[0], ROWS[0]]), "list.csv:3: the image a.png is already used by"),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_table_that_cannot_be_meant_is_refused_by_its_line(kind, asked, tmp_path):
    content, told = BAD_TABLES[kind]
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(UserError, match=told):
        read_manifest(tmp_path / "list.csv", tmp_path, asked, "mine")


def test_image_that_stands_for_two_people_of_one_text_is_named_and_counts_once(score, portrait, records, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    portrait((20, 250, 20)).save(images / "a.png")
    shutil.copy(images / "a.png", images / "copy.png")
    rows = [
        {"image": image, "subjects": who, "prompt": "a sketch of a man"}
        for image, who in (("a.png", "bob"), ("copy.png", "cid"))
    ]
    done = score(images, "--manifest", write_manifest(tmp_path / "list.csv", rows))
    assert "2 samples share their image with another sample, such as a.png and copy.png" in done.out
    first, second = records(tmp_path / "scored" / "samples.jsonl")
    assert (second["image"], second["same_image_as"]) == (first["image"], first["id"])
    assert "1 samples share the image of another sample: their files are the same." in " ".join(done.out.split())


def test_what_systems_and_data_tools_leave_beside_images_is_skipped_or_named(made, score, records, tmp_path):
    export(made, tmp_path / "theirs", records)
    name = "subject_0000_prompt_0000_instance_0000.png"
    (tmp_path / "theirs" / f"._{name}").write_bytes(b"\0\5\x16\7")
    (tmp_path / "theirs" / "subject_0000_prompt_0001_instance_0000.png").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    (tmp_path / "theirs" / "subject_0000_prompt_0002_instance_0000.png").unlink()
    (tmp_path / "theirs" / "subject_0000_prompt_0002_instance_0000.png").symlink_to("../.git/annex/objects/gone")
    done = score(tmp_path / "theirs", "--layout", "fastcomposer")
    assert done.code == 4, done.err
    assert "it is a pointer of Git LFS); fetch it with git lfs pull" in done.out
    assert "it is a link to a file that is not here); fetch that" in done.out
    assert "left out" not in done.out


BAD_ROWS = {
    "unknown subjects": ({"subjects": "anne"}, 'the suite has no subjects "anne", did you mean "ann"?'),
    "unknown prompt": ({"prompt": "a photo"}, 'the suite has no prompt "a photo" for ann'),
    "outside": ({"image": "../list.csv"}, "lies outside"),
    "absolute": ({"image": "/etc/passwd"}, "lies outside"),
    "absent": ({"image": "no.png"}, "does not exist"),
    "index": ({"index": "-1"}, 'the index "-1" is not a whole number'),
    "beyond": ({"index": "3"}, "raise --images-per-prompt"),
    "method": ({"method": "../up"}, "is not usable"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_row_that_says_something_impossible_is_refused_by_file_and_line(case, score, portrait, tmp_path):
    change, told = BAD_ROWS[case]
    images = tmp_path / "images"
    images.mkdir()
    portrait((250, 20, 20)).save(images / "a.png")
    row = {"image": "a.png", "subjects": "ann", "prompt": "a sketch of a {subject}", "index": "", "method": ""}
    done = score(images, "--manifest", write_manifest(tmp_path / "list.csv", [{**row, **change}]))
    assert done.code == 2
    assert told in done.err
    assert "list.csv:2" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "scored").exists()


BAD_MANIFESTS = {
    "column": (b"image,subjects\na.png,ann\n", 'the column "prompt" is missing'),
    "empty": (b"", 'the column "image" is missing'),
    "no rows": (b"image,subjects,prompt\n", "lists no image"),
    "encoding": (b"image,subjects,prompt\n\xff\xfe,ann,x\n", "is not UTF-8"),
    "long row": (b"image,subjects,prompt\na.png,ann,a sketch, of {subject}\n", "more fields than the header"),
    "twice": (
        b"image,subjects,prompt,index\na.png,ann,a sketch of a {subject},0\na.png,ann,a sketch of a {subject},0\n",
        "are both image 0 of ann",
    ),
}


@pytest.mark.parametrize("case", BAD_MANIFESTS)
def test_file_that_is_no_manifest_is_refused_in_one_sentence(case, score, portrait, tmp_path):
    content, told = BAD_MANIFESTS[case]
    images = tmp_path / "images"
    images.mkdir()
    portrait((250, 20, 20)).save(images / "a.png")
    (tmp_path / "list.csv").write_bytes(content)
    done = score(images, "--manifest", tmp_path / "list.csv")
    assert done.code == 2
    assert told in done.err
    assert len(done.err.strip().splitlines()) == 1


BAD_NAMES = {
    "other names": (["mine.png"], "has a name like subject_0000_prompt_0000_instance_0000.jpg"),
    "set": (["subject_0005_prompt_0000_instance_0000.png"], "belongs to subject set 5, but the suite has 5"),
    "prompt": (["subject_0000_prompt_0003_instance_0000.png"], "belongs to prompt 3, but the suite has 3 for ann"),
    "index": (["subject_0000_prompt_0000_instance_0001.png"], "raise --images-per-prompt"),
    "twice": ([f"subject_0000_prompt_0000_instance_0000.{kind}" for kind in ("png", "jpg")], "are both image 0"),
}


@pytest.mark.parametrize("case", BAD_NAMES)
def test_name_that_fits_no_place_of_the_suite_is_refused_in_one_sentence(case, score, portrait, tmp_path):
    names, told = BAD_NAMES[case]
    images = tmp_path / "images"
    images.mkdir()
    for name in names:
        portrait((250, 20, 20)).save(images / name)
    done = score(images, "--layout", "fastcomposer")
    assert done.code == 2
    assert told in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "scored").exists()


def test_layout_or_manifest_has_to_be_given_and_not_both(score, tmp_path):
    for arguments in ((), ("--layout", "fastcomposer", "--manifest", tmp_path / "list.csv")):
        done = score(tmp_path, *arguments)
        assert done.code == 2
        assert "either --layout NAME or --manifest" in done.err


@pytest.fixture
def authors(suite_data, write_suite):
    """A suite with the prompts of FastComposer's authors, all turned round: context before action, the last first."""
    from fc_bench.model.yaml_file import read_yaml
    from fc_bench.registry import suite_file
    from fc_bench.suites.suite_file import SuiteFile

    def write(name: str) -> Path:
        file = read_yaml(suite_file(name), SuiteFile)
        for kind, part in (("single", file.single), ("multi", file.multi)):
            suite_data.pop(kind, None)
            if part is not None:
                turned = {category: texts[::-1] for category, texts in reversed(part.model_dump()["prompts"].items())}
                suite_data[kind] = {**part.model_dump(), "prompts": turned}
        people = (("ann", "woman"), ("bob", "man"), ("cid", "man"))
        suite_data["subjects"] = [{"id": who, "noun": noun} for who, noun in reversed(people)]
        return write_suite(suite_data)

    return write


def placed(folder: Path, records) -> dict[str, tuple[str, str]]:
    """File name -> subject set and prompt that it was taken for."""
    return {
        record["made_elsewhere"]: ("+".join(record["subjects"]), record["template"])
        for record in records(folder / "samples.jsonl")
    }


def named(folder: Path, portrait, *numbers: tuple[int, int, int]) -> Path:
    """A folder with a picture under each of the authors' names."""
    folder.mkdir()
    for place, (subject, prompt, index) in enumerate(numbers):
        name = f"subject_{subject:04d}_prompt_{prompt:04d}_instance_{index:04d}.jpg"
        portrait((250 - place, 20, 20)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("suite_name", "expected"),
    [
        (
            "fastcomposer-single",
            {
                (0, 0): ("ann", "a {subject} wearing a red hat"),
                (0, 20): ("ann", "a {subject} riding a horse"),
                (1, 29): ("bob", "a {subject} baking cookies"),
                (2, 30): ("cid", "a {subject} in the jungle"),
            },
        ),
        (
            "fastcomposer-multi",
            {
                (0, 0): ("bob+ann", "a painting of {subjects} together in the style of Banksy"),
                (1, 7): ("cid+ann", "a photo of {subjects} gardening in the backyard together"),
                (2, 20): ("cid+bob", "a photo of {subjects} together with a blue house in the background"),
            },
        ),
    ],
)
def test_names_count_in_the_authors_order_whatever_the_suite_s_own_is(
    suite_name, expected, authors, score, portrait, records, tmp_path
):
    images = named(tmp_path / "theirs", portrait, *((*number, 0) for number in expected))
    score(images, "--layout", "fastcomposer", suite=authors(suite_name))
    files = {f"subject_{who:04d}_prompt_{what:04d}_instance_0000.jpg": to for (who, what), to in expected.items()}
    assert placed(tmp_path / "scored", records) == files


def test_names_count_in_the_suite_s_order_where_one_of_its_prompts_is_not_the_authors(
    authors, score, portrait, records, tmp_path
):
    import yaml

    suite = authors("fastcomposer-single")
    data = yaml.safe_load(suite.read_text())
    data["single"]["prompts"]["own"] = ["a {subject} at the dentist"]
    suite.write_text(yaml.safe_dump(data, sort_keys=False))
    score(named(tmp_path / "theirs", portrait, (0, 0, 0)), "--layout", "fastcomposer", suite=suite)
    first = data["single"]["prompts"]["context"][0]
    assert list(placed(tmp_path / "scored", records).values()) == [("cid", first)]


def test_folder_with_more_sets_and_images_than_asked_for_is_scored_for_those(
    made, score, fc_bench, records, portrait, tmp_path, suite_data, write_suite
):
    export(made, tmp_path / "theirs", records)
    portrait((20, 250, 20)).save(tmp_path / "theirs" / "subject_0000_prompt_0000_instance_0001.png")
    done = score(tmp_path / "theirs", "--layout", "fastcomposer", "--limit-subjects", 2, "--images-per-prompt", 1)
    assert done.code == 0, done.err
    # ann, bob and their pair, which is set 3 of the whole suite
    assert "7 of 7 images found" in done.out
    assert "left out: 4 images of other subject sets, 1 images beyond the requested number" in done.out
    own = by_slot(made, records)
    scored = by_slot(tmp_path / "scored", records)
    assert scored == {slot: values for slot, values in own.items() if "cid" not in slot[0]}


def rows_of(made: Path, records) -> list[dict[str, Any]]:
    """A manifest of a run's images."""
    return [
        {"image": record["image"], "subjects": "+".join(record["subjects"]), "prompt": record["template"]}
        for record in records(made / "samples.jsonl")
    ]


@pytest.fixture
def smaller(suite_data, suite):
    """The same suite without its last subject, beside it."""
    import yaml

    data = {**suite_data, "subjects": suite_data["subjects"][:2]}
    data["multi"] = {**data["multi"], "subjects": [["ann", "bob"]]}
    file = suite.with_name("smaller.yaml")
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    return file


@pytest.mark.parametrize("how", ["limit", "smaller suite"])
@pytest.mark.parametrize("source", ["manifest", "run"])
def test_images_of_more_subjects_than_asked_for_are_left_out(how, source, made, score, smaller, records, tmp_path):
    named_by = ("--manifest", write_manifest(tmp_path / "list.csv", rows_of(made, records)))
    limit = {"suite": smaller} if how == "smaller suite" else {}
    more = ("--limit-subjects", 2) if how == "limit" else ()
    done = score(made, *(named_by if source == "manifest" else ()), *more, **limit)
    assert done.code == 0, done.err
    assert "left out: 4 images of other subject sets" in done.out
    own = by_slot(made, records)
    assert by_slot(tmp_path / "scored", records) == {key: own[key] for key in own if "cid" not in key[0]}


def test_fewer_subjects_scored_into_the_folder_of_all_leave_the_others_records(made, score, records, tmp_path):
    export(made, tmp_path / "theirs", records)
    score(tmp_path / "theirs", "--layout", "fastcomposer")
    before = records(tmp_path / "scored" / "samples.jsonl")
    assert score(tmp_path / "theirs", "--layout", "fastcomposer", "--limit-subjects", 1).code == 0
    assert records(tmp_path / "scored" / "samples.jsonl") == before
    assert len(records(tmp_path / "scored" / "plan.jsonl")) == 3
    assert score(tmp_path / "theirs", "--layout", "fastcomposer").code == 0
    assert len(records(tmp_path / "scored" / "plan.jsonl")) == len(before)


def test_run_of_several_methods_keeps_its_rows(fc_bench, plugin, suite, tiny_backbone, score, tmp_path):
    folder = tmp_path / "both"
    methods = ("-m", "paste", "-m", "collage")
    assert fc_bench("run", suite, *methods, "--backbone", tiny_backbone, "--out", folder).code == 0
    done = score(folder)
    assert (done.code, "holds the rows paste, collage" in done.err) == (2, True)
    command = ("score", folder, "--suite", suite, "--backbone", tiny_backbone, "--out", tmp_path / "scored")
    assert fc_bench(*command).code == 0
    methods = json.loads((tmp_path / "scored" / "run.json").read_text())["methods"]
    assert list(methods) == ["paste", "collage"]
