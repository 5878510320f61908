"""A folder in a layout that does not fit the suite is refused in one sentence; what is missing counts as missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fc_bench.errors import UserError
from fc_bench.layouts.catalog import LAYOUTS
from fc_bench.layouts.reading import read_layout
from fc_bench.layouts.requested import RequestedImages
from fc_bench.suites.suite import read_suite

SIZE = (64, 64)
GRID = (128, 128)


@pytest.fixture
def read(suite, tmp_path):
    """Writes files (name -> size of an image, or content) and reads them in a layout, with four images a prompt."""

    def invoke(layout: str, files: dict[str, tuple[int, int] | str | bytes]):
        folder = tmp_path / "images"
        for name, content in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, tuple):
                Image.new("RGB", content).save(file)
            else:
                file.write_bytes(content.encode() if isinstance(content, str) else content)
        read_by = read_suite(suite)
        sets = read_by.subject_sets()
        return read_layout(LAYOUTS[layout], folder, read_by, RequestedImages(sets, sets, 4), "theirs")

    return invoke


SNOW = "a photo of a woman in the snow"
REFUSED = {
    "number beyond the suite": ("multihuman", {"0.png": SIZE, "11.png": SIZE}, "11.png is none of the 11 prompts"),
    "other names": ("multihuman", {"mine.png": SIZE}, "has a name like 0.png"),
    "image beyond": ("uno", {"0_4.png": SIZE}, "image 4 of its prompt, but 4 are requested"),
    "one image in two formats": ("multihuman", {"0.png": SIZE, "0.jpg": SIZE}, "are both image 0"),
    "grid of another prompt": ("xverse", {"0_a_sketch_of_a_man.png": GRID}, 'is of the prompt "a sketch of a man"'),
    "grid with an odd side": ("umo", {"0.png": (129, 128)}, "129 x 128 pixels, which is no 2 x 2 grid"),
    "grid too small": ("umo", {"0.png": (62, 62)}, "which is no 2 x 2 grid"),
    "grids of two sizes": ("umo", {"0.png": GRID, "1.png": (256, 256)}, "give all grids the same size"),
    "another text": (
        "dreambench-plus",
        {"tgt_image/ann/0_0.png": SIZE, "text/ann/0_0.txt": "a photo of a cat"},
        'is of the prompt "a photo of a cat"',
    ),
    "text that is none": (
        "dreambench-plus",
        {"tgt_image/ann/0_0.png": SIZE, "text/ann/0_0.txt": b"\xff\xff"},
        "0_0.txt cannot be read",
    ),
    "another item": ("multiid", {"0/out.jpg": SIZE, "0/meta.json": '{"prompt": "two cats"}'}, '"two cats"'),
    "damaged metadata": ("multiid", {"0/out.jpg": SIZE, "0/meta.json": "{"}, "meta.json is not valid JSON"),
    "another concept's text": (
        "customconcept101",
        {"ann/samples/0000_0.png": SIZE, "ann/prompts.json": '{"0000_0": "a <new1> cat"}'},
        'is of the prompt "a  cat"',
    ),
    "texts that are no mapping": (
        "customconcept101",
        {"ann/samples/0000_0.png": SIZE, "ann/prompts.json": "[]"},
        "does not map names",
    ),
    "other subjects alone": ("dreambench-plus", {"tgt_image/cat/0_0.png": SIZE}, "the folder has no other image"),
    "other tasks alone": ("omnicontext", {"fullset/single_object/0.png": SIZE}, "the folder has no other image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_folder_that_does_not_fit_is_refused_in_one_sentence(case, read):
    layout, files, expected = REFUSED[case]
    with pytest.raises(UserError) as refused:
        read(layout, files)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_the_scripts_read_beside_the_images_is_no_stranger(read):
    files = {"tgt_image/ann/0_0.png": SIZE, "src_image/ann/0_0.png": SIZE, "text/ann/0_0.txt": SNOW}
    found, left_out = read("dreambench-plus", files)
    assert [slot[1:] for slot in found] == [("ann", "a photo of a {subject} in the snow", 0)]
    assert left_out.summary() == ""
    _, left_out = read("dreambench-plus", {"tgt_image/ann/1_0.png": SIZE})
    assert left_out.summary() == "; the benchmark's own scripts refuse 2 images with 1 references and 1 texts"


def test_targets_and_references_of_an_item_are_no_strangers(read):
    found, left_out = read("multiid", {f"0/{name}.jpg": SIZE for name in ("out", "ori", "ref_1", "ref_2")})
    assert len(found) == 1
    assert left_out.summary() == ""


def test_names_that_authors_write_are_read(read):
    names = {
        "xverse": f"0_{SNOW[:40].replace(' ', '_')}.png",
        "umo": "1.png",
        "omnicontext": "context/0.png",
        "psrbench": "outputs/context/1.png",
    }
    for layout, name in names.items():
        found, _ = read(layout, {name: GRID})
        assert {slot[1] for slot in found} == {"ann"}, layout
        (Path(next(iter(found.values())).path)).unlink()


def test_texts_with_a_rare_token_are_those_of_the_suite(read):
    texts = json.dumps({"0000_0": "a photo of a <new1> woman in the snow"})
    found, _ = read("customconcept101", {"ann/samples/0000_0.png": SIZE, "ann/prompts.json": texts})
    assert len(found) == 1


def test_images_of_other_items_are_left_out_and_counted(read):
    found, left_out = read("dreambench-plus", {"tgt_image/ann/0_0.png": SIZE, "tgt_image/cat/0_0.png": SIZE})
    assert len(found) == 1
    assert left_out.summary().startswith(
        "; left out: 1 images of other subject sets; the benchmark's own scripts refuse"
    )


def test_cells_are_read_row_by_row(read, tmp_path):
    grid = Image.new("RGB", GRID)
    for cell, color in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]):
        grid.paste(color, (cell % 2 * 64, cell // 2 * 64, cell % 2 * 64 + 64, cell // 2 * 64 + 64))
    (tmp_path / "images").mkdir()
    grid.save(tmp_path / "images" / "0.png")
    found, _ = read("umo", {})
    colors = [file.read().getpixel((32, 32)) for _, file in sorted(found.items(), key=lambda pair: pair[0][3])]
    assert colors == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


def test_numbers_follow_the_file_also_where_a_set_is_listed_twice(suite_data, write_suite):
    del suite_data["single"], suite_data["multi"]
    texts = {"one": ("ann", "a {1} in the snow"), "two": ("bob", "a {1} in the snow"), "three": ("ann", "a red {1}")}
    suite_data |= {
        "format": 2,
        "sets": [{"subjects": [who], "prompts": {"context": [text]}} for who, text in texts.values()],
    }
    items = LAYOUTS["multihuman"].named(read_suite(write_suite(suite_data)))
    assert [(name, item.subject_set.key, item.prompt.template) for name, item in items.items()] == [
        (str(number), *pair) for number, pair in enumerate(texts.values())
    ]


def test_every_layout_and_benchmark_is_documented():
    from fc_bench.layouts import BenchmarkName, LayoutName

    page = (Path(__file__).parents[3] / "docs" / "scoring.md").read_text()
    assert [name for name in (*LayoutName, *BenchmarkName) if f"`{name.value}`" not in page] == []
