"""The published protocol: its subjects and prompts, photographs from a folder of the user's, published values."""

from __future__ import annotations

import re
from itertools import combinations

import pandas as pd
import pytest
from PIL import Image

from fc_bench.errors import UserError
from fc_bench.registry import suite_file
from fc_bench.reports.literature import RESULTS, published_tables
from fc_bench.suites.suite import read_suite

PEOPLE = {
    "000001": "man",
    "000181": "man",
    "000268": "man",
    "000612": "woman",
    "000667": "woman",
    "001603": "woman",
    "001854": "man",
    "002088": "woman",
    "002464": "woman",
    "002782": "man",
    "002880": "woman",
    "002929": "woman",
    "002937": "woman",
    "003785": "man",
    "004153": "woman",
}
"""Id -> noun: `IMAGE_TO_GENDER_EVAL` of mit-han-lab/fastcomposer, evaluation/single_object/data.py."""
PROMPTS = {
    # accessory, style, action, context: the order of `get_combinations` in evaluation/single_object/data.py (b9304a2)
    "fastcomposer-single": [
        # accessory
        "a {subject} wearing a red hat",
        "a {subject} wearing a santa hat",
        "a {subject} wearing a rainbow scarf",
        "a {subject} wearing a black top hat and a monocle",
        "a {subject} in a chef outfit",
        "a {subject} in a firefighter outfit",
        "a {subject} in a police outfit",
        "a {subject} wearing pink glasses",
        "a {subject} wearing a yellow shirt",
        "a {subject} in a purple wizard outfit",
        # style
        "a painting of a {subject} in the style of Banksy",
        "a painting of a {subject} in the style of Vincent Van Gogh",
        "a colorful graffiti painting of a {subject}",
        "a watercolor painting of a {subject}",
        "a Greek marble sculpture of a {subject}",
        "a street art mural of a {subject}",
        "a black and white photograph of a {subject}",
        "a pointillism painting of a {subject}",
        "a Japanese woodblock print of a {subject}",
        "a street art stencil of a {subject}",
        # action
        "a {subject} riding a horse",
        "a {subject} holding a glass of wine",
        "a {subject} holding a piece of cake",
        "a {subject} giving a lecture",
        "a {subject} reading a book",
        "a {subject} gardening in the backyard",
        "a {subject} cooking a meal",
        "a {subject} working out at the gym",
        "a {subject} walking the dog",
        "a {subject} baking cookies",
        # context
        "a {subject} in the jungle",
        "a {subject} in the snow",
        "a {subject} on the beach",
        "a {subject} on a cobblestone street",
        "a {subject} on top of pink fabric",
        "a {subject} on top of a wooden floor",
        "a {subject} with a city in the background",
        "a {subject} with a mountain in the background",
        "a {subject} with a blue house in the background",
        "a {subject} on top of a purple rug in a forest",
    ],
    # style, action, context: evaluation/multi_object/data.py (5282a7e)
    "fastcomposer-multi": [
        # style
        "a painting of {subjects} together in the style of Banksy",
        "a painting of {subjects} together in the style of Vincent Van Gogh",
        "a watercolor painting of {subjects} together",
        "a street art mural of {subjects} together",
        "a black and white photograph of {subjects} together",
        "a pointillism painting of {subjects} together",
        "a Japanese woodblock print of {subjects} together",
        # action
        "a photo of {subjects} gardening in the backyard together",
        "a photo of {subjects} cooking a meal together",
        "a photo of {subjects} sitting in a park together",
        "a photo of {subjects} working out at the gym together",
        "a photo of {subjects} baking cookies together",
        "a photo of {subjects} posing for a selfie together",
        "a photo of {subjects} making funny faces for a photo booth together",
        "a photo of {subjects} playing a musical duet together",
        # context
        "a photo of {subjects} together in the jungle",
        "a photo of {subjects} together in the snow",
        "a photo of {subjects} together on the beach",
        "a photo of {subjects} together with a city in the background",
        "a photo of {subjects} together with a mountain in the background",
        "a photo of {subjects} together with a blue house in the background",
    ],
}
"""The authors' own lists, in the order in which their evaluation runs and numbers them."""


@pytest.fixture
def photographs(tmp_path, portrait):
    from fc_bench.model.yaml_file import read_yaml
    from fc_bench.suites.suite_file import SuiteFile

    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, subject in enumerate(read_yaml(suite_file("fastcomposer-single"), SuiteFile).subjects):
        portrait((250 - 80 * (number % 3), 125 * (number // 3 % 3), 120 * (number // 9))).save(
            folder / f"{subject.id}.jpg"
        )
    return folder


def test_single_subject_suite_has_the_authors_subjects_and_forty_prompts(photographs):
    suite = read_suite(suite_file("fastcomposer-single"), photographs)
    sets = suite.subject_sets()
    assert [len(sets), {len(prompts) for _, prompts in sets}, suite.file.images_per_prompt] == [15, {40}, 4]
    assert suite.file.options == {"fastcomposer": {"alpha": 0.5}}
    assert suite.file.sampler.model_dump() == {
        "scheduler": "pndm",
        "steps": 50,
        "guidance_scale": 5.0,
        "resolution": 512,
    }


def test_multi_subject_suite_asks_for_8820_images_of_all_pairs(photographs):
    sets = read_suite(suite_file("fastcomposer-multi"), photographs).subject_sets()
    assert len(sets) == 105
    assert sum(len(prompts) for _, prompts in sets) * 4 == 8820
    assert sets[0][0].key == "000001+000181"


def test_prompts_are_those_of_the_authors_to_the_letter_and_in_their_order(photographs):
    asked = {}
    for name in PROMPTS:
        suite = read_suite(suite_file(name), photographs)
        assert {subject.id: subject.noun for subject in suite.subjects} == PEOPLE
        asked[name] = [prompt.template for prompt in suite.subject_sets()[0][1]]
    assert asked == PROMPTS


def test_subjects_are_asked_in_the_order_in_which_the_authors_count_them(photographs):
    single, multi = (read_suite(suite_file(name), photographs).subject_sets() for name in PROMPTS)
    assert [subject_set.key for subject_set, _ in single] == sorted(PEOPLE)
    assert [subject_set.key for subject_set, _ in multi] == ["+".join(pair) for pair in combinations(PEOPLE, 2)]


def test_suite_without_photographs_says_what_it_needs(fc_bench, suite, tmp_path):
    done = fc_bench("validate", "fastcomposer-single")
    assert done.code == 2
    assert "name the folder that holds 000001.jpg and the others with --photographs" in done.err
    with pytest.raises(UserError, match="has its own photographs"):
        read_suite(suite, tmp_path)
    with pytest.raises(UserError, match="does not exist; correct --photographs"):
        read_suite(suite_file("fastcomposer-single"), tmp_path / "nowhere")


def test_validate_reads_every_photograph_of_the_folder(fc_bench, photographs):
    done = fc_bench("validate", "fastcomposer-multi", "--photographs", photographs)
    assert (done.code, "105 subject sets, 8820 images per method" in done.out) == (0, True)
    (photographs / "004153.jpg").write_bytes(b"no photograph")
    done = fc_bench("validate", "fastcomposer-multi", "--photographs", photographs)
    assert (done.code, "004153.jpg" in done.err) == (2, True)
    (photographs / "004153.jpg").unlink()
    assert "does not exist" in fc_bench("validate", "fastcomposer-multi", "--photographs", photographs).err


def test_options_of_the_suite_go_before_the_method_s_and_the_command_line_s_before_them(
    fc_bench, tiny_backbone, plugin, suite_data, write_suite, tmp_path
):
    suite_data["options"] = {"paste": {"fail_prompt": "sketch"}}
    command = ("run", write_suite(suite_data), "--backbone", tiny_backbone, "-m", "paste", "--out")
    assert fc_bench(*command, tmp_path / "protocol").code == 4
    done = fc_bench(*command, tmp_path / "own", "-o", "paste.fail_prompt=nothing")
    assert done.code == 0
    assert "paste[fail_prompt=nothing]" in done.out


def test_published_rows_are_those_of_the_file_and_of_their_suite_alone():
    values = pd.read_csv(RESULTS, dtype=str)
    for suite in ("fastcomposer-single", "fastcomposer-multi"):
        quality, cost = published_tables(suite)
        own = values[values["suite"] == suite]
        assert [row[:5] for row in quality.texts()] == list(
            own[["method", "references", "identity", "prompt_consistency", "source"]].itertuples(index=False, name=None)
        )
        assert [row[5] for row in quality.texts()] == list(own["status"])
        assert ("DreamBooth", "4", "1,284", "160x", "one V100") in [row[:5] for row in cost.texts()]
    assert published_tables("pocket") == []


def test_dreambooth_s_suite_is_the_authors_data_set_with_a_credit_for_every_photograph():
    """Thirty subjects, 25 prompts each, four images each (arXiv 2208.12242, section 4.1)."""
    from fc_bench.builtin import DREAMBOOTH_SUITE

    suite = read_suite(DREAMBOOTH_SUITE)
    sets = suite.subject_sets()
    assert len(sets) == 30
    assert {len(prompts) for _, prompts in sets} == {25}
    assert suite.file.images_per_prompt == 4
    assert not any(prompt.names_nobody for _, prompts in sets for prompt in prompts)
    credits = (DREAMBOOTH_SUITE.parent / "references_and_licenses.txt").read_text(encoding="utf-8")
    for subject in suite.subjects:
        listed = re.search(rf"^{subject.id}\b ?(?::|-)?(.*?)(?:\n\n(?=\S)|\Z)", credits, re.MULTILINE | re.DOTALL)
        assert listed is not None, subject.id
        assert re.search(r"photos (taken )?by|art by|unsplash\.com", listed[1], re.IGNORECASE), subject.id
        for photograph in subject.photographs:
            with Image.open(photograph) as image:
                assert max(image.size) <= 512
                assert not image.getexif()
