"""Image grids and attention maps: which samples they show, that they show those, and what happens without images."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fc_bench.errors import UserError
from fc_bench.reports.figures import Choice, draw
from fc_bench.reports.figures.grid import shown_of
from fc_bench.reports.figures.style import in_lines
from fc_bench.reports.frame import read_runs


@pytest.fixture
def painted_run(copied, painted):
    (run,) = read_runs([painted(copied("run"))])
    return run


def grid(run, choice=None, told=None):
    drawings = draw([run], (told if told is not None else []).append, choice, ["grid"])
    return drawings[0] if drawings else None


def colors(drawing):
    """(column, row) of every image -> its color; a reference of several has several."""
    found: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    for image in drawing.figure.axes[0].images:
        left, right, bottom, top = image.get_extent()
        place = (int((left + right) / 2), int((bottom + top) / 2))
        pixels = np.asarray(image.get_array())
        assert (pixels == pixels[0, 0]).all()
        found.setdefault(place, []).append(tuple(int(value) for value in pixels[0, 0]))
    return found


def test_grid_shows_the_samples_of_its_rule_below_their_references(painted_run, records, color_of):
    drawing = grid(painted_run)
    columns = shown_of(painted_run.samples, Choice())
    assert [column.key for column in columns] == ["p01", "p02", "p03", "p01", "p01+p02", "p03+p04", "p06+p05"]
    lines = records(painted_run.folder.path / "samples.jsonl")
    numbers = {record["image"]: number for number, record in enumerate(lines)}
    found = colors(drawing)
    assert len(found) == 7 * 4
    for place, column in enumerate(columns):
        expected = [color_of(1000 + int(name[1:])) for name in column.subjects]
        assert found[place, 0] == expected
        for line, method in enumerate(("text-only", "fastcomposer", "dreambooth"), start=1):
            (image,) = [
                row["image"]
                for row in painted_run.measured.rows()
                if (row["method"], row["set"], row["template"]) == (method, column.key, column.template)
            ]
            assert found[place, line] == [color_of(numbers[image])]
    assert "Chosen by rule, whatever the images look like: first image of each prompt category" in drawing.caption


def test_photograph_keeps_its_proportions(painted_run):
    image = grid(painted_run).figure.axes[0].images[0]
    left, right, bottom, top = image.get_extent()
    assert (right - left) / (bottom - top) == pytest.approx(16 / 24)


def test_random_choice_is_that_of_its_seed_and_the_caption_says_so(painted_run):
    picked = [shown_of(painted_run.samples, Choice(seed=seed)) for seed in (1, 1, 2, 3)]
    assert picked[0] == picked[1]
    assert len({tuple(own) for own in picked}) > 1
    drawing = grid(painted_run, Choice(seed=1))
    assert "Drawn at random with the seed 1" in drawing.caption


def test_chosen_subjects_are_shown_and_the_caption_says_so(painted_run):
    drawing = grid(painted_run, Choice(sets=("p02", "p06+p05")))
    columns = shown_of(painted_run.samples, Choice(sets=("p02", "p06+p05")))
    assert [column.key for column in columns] == ["p02"] * 4 + ["p06+p05"] * 3
    assert "Chosen: the subjects p02, p06+p05" in drawing.caption
    with pytest.raises(UserError, match='no samples of the subjects "p2", did you mean'):
        grid(painted_run, Choice(sets=("p2",)))


def test_records_alone_leave_the_grid_out_with_a_sentence(pocket):
    told = []
    assert grid(pocket, told=told) is None
    assert len(told) == 1
    assert told[0].startswith("The image grid is left out: the images of ")
    assert told[0].endswith(" are missing, only their records exist.")


def test_image_that_is_gone_broken_or_failed_says_so_in_its_place(copied, painted):
    failed = []

    def sample(record):
        if record["method"] == "dreambooth" and record["subjects"] == ["p01"] and not failed:
            failed.append(record["id"])
            return {**record, "status": "error", "error": {"type": "E", "message": "m", "traceback": ""}}
        return record

    folder = painted(copied("run", sample=sample))
    columns = shown_of(read_runs([folder])[0].samples, Choice())
    for key, content in (("p02", None), ("p03", b"no image")):
        column = next(column for column in columns if column.key == key)
        (run,) = read_runs([folder])
        for row in run.measured.rows():
            if (row["method"], row["set"], row["template"]) == ("fastcomposer", key, column.template):
                path = folder / row["image"]
                path.unlink() if content is None else path.write_bytes(content)
    (folder / "references" / "p03.png").unlink()
    (run,) = read_runs([folder])
    texts = [text.get_text() for text in grid(run).figure.axes[0].texts]
    assert texts.count("image\nis gone") == 1
    assert texts.count("cannot\nbe read") == 1
    assert texts.count("failed") == 1
    assert texts.count("no\nreference") == 2


def test_long_labels_break_before_their_options():
    assert in_lines("fastcomposer[alpha=0.25,checkpoint=x]") == "fastcomposer\n[alpha=0.25,\ncheckpoint=x]"
    assert in_lines("paste[a=1]") == "paste[a=1]"
    assert in_lines("x" * 100).endswith("\n…")


def with_maps(folder, records, maps, method="fastcomposer"):
    """Gives the samples of a method attention maps; `maps` makes them from the number of subjects."""
    lines = []
    for record in records(folder / "samples.jsonl"):
        if record["method"] == method:
            name = f"attention/{method}/{'+'.join(record['subjects'])}/{record['id']}.npz"
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, maps=maps(len(record["subjects"])))
            record["attention"] = name
        lines.append(json.dumps(record) + "\n")
    (folder / "samples.jsonl").write_text("".join(lines))


def corners(subjects):
    """Maps that look at one corner each: [subjects, 4, 4]."""
    maps = np.zeros((subjects, 4, 4))
    for number in range(subjects):
        maps[number, 0, 3 * number] = 0.75
        maps[number, 3, 3] = 0.25
    return maps


def test_attention_lies_over_its_image_a_map_a_subject(copied, painted, records, color_of):
    folder = painted(copied("run"))
    with_maps(folder, records, corners)
    (run,) = read_runs([folder])
    told = []
    (drawing,) = draw([run], told.append, families=["attention"])
    assert told == []
    titles = [axes.get_title() for axes in drawing.figure.axes]
    assert titles[1:3] == ["p01", "p02"]
    assert titles[4:] == ["p01"]
    assert titles[0].startswith("a photo of a man and a\nwoman")
    numbers = {record["id"]: number for number, record in enumerate(records(folder / "samples.jsonl"))}
    first = next(row for row in run.measured.rows() if row["method"] == "fastcomposer" and row["subjects"] == 2)
    pixels = np.asarray(drawing.figure.axes[0].images[0].get_array())[0, 0]
    np.testing.assert_allclose(pixels * 255, color_of(numbers[first["sample"]]))
    for place in (1, 2):
        picture, overlay = drawing.figure.axes[place].images
        np.testing.assert_allclose(overlay.get_array(), corners(2)[place - 1] / 0.75)
        assert list(overlay.get_extent()) == list(picture.get_extent())


def test_without_maps_there_is_no_attention_figure(painted_run):
    told = []
    assert draw([painted_run], told.append, families=["attention"]) == []
    assert told == []


@pytest.mark.parametrize(
    ("maps", "reason"),
    [
        (lambda subjects: np.ones((subjects, 4, 4)), "do not sum to 1"),
        (lambda subjects: -corners(subjects) + 1 / 8, "negative"),
        (lambda subjects: np.full((subjects, 4, 4), np.nan), "negative or do not sum"),
        (lambda subjects: corners(subjects)[:, 0], "shape"),
        (lambda subjects: corners(subjects + 1), "for 1 subjects"),
        (lambda subjects: np.array([{"a": 1}], dtype=object), "cannot be read"),
    ],
)
def test_maps_that_are_none_are_left_out_with_a_sentence(copied, painted, records, maps, reason):
    folder = painted(copied("run", sets=("p01",)))
    with_maps(folder, records, maps)
    (run,) = read_runs([folder])
    told = []
    assert draw([run], told.append, families=["attention"]) == []
    assert told
    assert reason in told[0]
    assert told[0].startswith("The cross-attention of fastcomposer on p01 is left out: ")


def test_lost_maps_are_left_out_with_a_sentence(copied, painted, records):
    folder = painted(copied("run", sets=("p01",)))
    with_maps(folder, records, corners)
    for path in (folder / "attention").rglob("*.npz"):
        path.unlink()
    told = []
    assert draw(read_runs([folder]), told.append, families=["attention"]) == []
    assert "No such file" in told[0]
