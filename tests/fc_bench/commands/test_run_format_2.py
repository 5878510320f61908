"""A run of a suite of format 2 on the tiny world: what prompts ask beside their texts reaches images and records."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def second(suite_data):
    """Format 2: a pair with two prompts, the second one wide and with a negative prompt."""
    del suite_data["single"], suite_data["multi"]
    wide = {"text": "a photo of a {1} and a {2} in the snow", "size": [96, 64], "negative_prompt": "blurry"}
    suite_data |= {
        "format": 2,
        "images_per_prompt": 2,
        "metrics": ["identity"],
        "sets": [{"subjects": ["ann", "bob"], "prompts": {"context": ["a photo of a {1} beside a {2}", wide]}}],
    }
    return suite_data


@pytest.fixture
def run(fc_bench, tiny_backbone, plugin, write_suite, tmp_path):
    """`fc-bench run` of suite data with some methods into a folder."""

    def invoke(data, *methods, folder="run", arguments=()):
        chosen = [part for name in methods for part in ("-m", name)]
        suite = write_suite(data)
        return fc_bench("run", suite, "--backbone", tiny_backbone, "--out", tmp_path / folder, *chosen, *arguments)

    return invoke


@pytest.fixture
def images(records, tmp_path):
    """(method, template, index) -> pixels of the finished samples of a run folder."""

    def read(folder="run"):
        found = {}
        for record in records(tmp_path / folder / "samples.jsonl"):
            image = Image.open(tmp_path / folder / record["image"])
            found[record["method"], record["template"], record["index"]] = np.asarray(image)
        return found

    return read


def test_images_have_the_size_that_their_prompt_asks_and_records_say_so(second, run, images, records, tmp_path):
    done = run(second, "text-only", "fastcomposer")
    assert done.code == 0, done.err
    shapes = {template: image.shape for (_, template, _), image in images().items()}
    assert shapes == {
        "a photo of a {1} beside a {2}": (64, 64, 3),
        "a photo of a {1} and a {2} in the snow": (64, 96, 3),
    }
    for name in ("plan", "samples"):
        asked = {record["template"]: record.get("conditions") for record in records(tmp_path / "run" / f"{name}.jsonl")}
        assert asked == {
            "a photo of a {1} beside a {2}": None,
            "a photo of a {1} and a {2} in the snow": {"negative_prompt": "blurry", "size": [96, 64]},
        }
    before = (tmp_path / "run" / "samples.jsonl").read_bytes()
    assert run(second, "text-only", "fastcomposer").code == 0
    assert (tmp_path / "run" / "samples.jsonl").read_bytes() == before


@pytest.mark.parametrize("method", ["text-only", "fastcomposer"])
def test_the_negative_prompt_and_nothing_else_changes_the_image_and_the_id(
    method, second, run, images, records, tmp_path
):
    assert run(second, method).code == 0
    second["sets"][0]["prompts"]["context"][1]["negative_prompt"] = "in the snow"
    assert run(second, method, folder="other").code == 0
    one, other = images(), images("other")
    changed = {template for (_, template, _), image in one.items() if (image != other[method, template, _]).any()}
    assert changed == {"a photo of a {1} and a {2} in the snow"}
    ids = [{record["id"] for record in records(tmp_path / name / "samples.jsonl")} for name in ("run", "other")]
    assert len(ids[0] & ids[1]) == 2


@pytest.mark.parametrize("method", ["text-only", "fastcomposer"])
def test_images_of_several_sizes_are_the_same_in_any_batches(method, second, run, images):
    assert run(second, method, arguments=("--batch-size", 3)).code == 0
    assert run(second, method, folder="alone", arguments=("--batch-size", 1)).code == 0
    together, alone = images(), images("alone")
    for key, image in together.items():
        assert np.abs(image.astype(int) - alone[key]).max() <= 1


def test_a_prompt_that_names_nobody_is_refused_by_methods_that_mention_their_subjects(second, run):
    second["sets"][0]["prompts"]["context"] = ["two people in the snow"]
    refused = run(second, "text-only", "fastcomposer")
    assert refused.code == 2
    assert '"two people in the snow" names nobody; write {1}' in " ".join(refused.err.split())
    assert "-m text-only" in refused.err
    assert run(second, "text-only").code == 0


def test_a_method_of_one_size_is_refused_and_unused_conditions_are_a_footnote(second, run):
    refused = run(second, "paste")
    assert refused.code == 2
    assert "a prompt asks for 96 x 64 pixels" in " ".join(refused.err.split())
    asked = second["sets"][0]["prompts"]["context"][1]
    del asked["size"]
    asked["boxes"] = [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]
    done = run(second, "paste", "text-only")
    assert done.code == 0, done.err
    assert "does not use the boxes of the prompts; does not use the negative prompts" in " ".join(done.out.split())


def test_a_negative_prompt_that_the_text_encoder_would_truncate_is_refused_before_anything_is_generated(
    second, run, tmp_path
):
    second["sets"][0]["prompts"]["context"][1]["negative_prompt"] = "blurry and " * 60
    refused = run(second, "text-only")
    assert refused.code == 2
    assert "Negative prompt: The prompt" in refused.err
    assert not (tmp_path / "run").exists()


def test_methods_get_the_reference_that_the_suite_names_and_identity_is_measured_against_it(second, run, tmp_path):
    second["sets"] = [{"subjects": ["ann"], "prompts": {"context": ["a photo of a {1}"]}}]
    second["subjects"][0]["references"] = [2]
    assert run(second, "paste").code == 0
    (row,) = results(tmp_path, "identity", "paste", "all")
    assert float(row["mean"]) == pytest.approx(1, abs=1e-4)
    suite = tmp_path / "suite" / "people"
    reference = np.asarray(Image.open(tmp_path / "run" / "references" / "ann.png").convert("RGB"))
    assert (reference == np.asarray(Image.open(suite / "ann-2.png").convert("RGB"))).all()


def results(tmp_path, column, method, category):
    with (tmp_path / "run" / "report" / "results.csv").open() as file:
        return [
            row
            for row in csv.DictReader(file)
            if (row["column"], row["method"], row["category"]) == (column, method, category)
        ]


def test_results_are_broken_down_by_attributes_of_the_subjects(second, run, tmp_path):
    del second["sets"]
    second["single"] = {"prompts": {"context": ["a photo of a {subject}"]}}
    second["multi"] = {"subjects": [["ann", "bob"]], "prompts": {"context": ["a photo of {subjects}"]}}
    for subject, age in zip(second["subjects"], ("young", "old", "old"), strict=True):
        subject["attributes"] = {"age": age}
    assert run(second, "paste").code == 0
    old, young, all_ = (results(tmp_path, "identity", "paste", name)[0] for name in ("age=old", "age=young", "all"))
    assert [row["n_total"] for row in (old, young, all_)] == ["4", "2", "6"]
    (both,) = results(tmp_path, "identity", "paste", "age=old+young")
    assert both["subjects"] == "2"
    table = (tmp_path / "run" / "report" / "table.md").read_text()
    assert "identity preservation by age, one subject" in table
    assert "age=" not in table


def test_a_target_gives_copying_a_direction_and_another_target_is_another_run(second, run, tmp_path):
    del second["sets"][0]["prompts"]["context"][1]
    second["metrics"] = ["identity", "copy-paste"]
    # The paste method repeats the references; a target that repeats them too gives no direction, another one gives 1.
    second["sets"][0]["prompts"]["context"][0] = {"text": "a photo of a {1} beside a {2}", "target": "people/cid-1.png"}
    assert run(second, "paste").code == 0
    (row,) = results(tmp_path, "target_copy_paste", "paste", "all")
    assert (row["n_ok"], row["n_total"]) == ("0", "2"), "the target shows one person, the image two"
    (likeness,) = results(tmp_path, "target_similarity", "paste", "all")
    assert likeness["n_ok"] == "2"
    second["sets"][0]["prompts"]["context"][0]["target"] = "people/cid-2.png"
    refused = run(second, "paste")
    assert refused.code == 2
    assert "another suite or other photographs" in refused.err
