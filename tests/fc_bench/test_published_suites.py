"""The published protocol: its subjects and prompts, photographs from a folder of the user's, published values."""

from __future__ import annotations

import hashlib
import json

import pandas as pd
import pytest

from fc_bench.errors import UserError
from fc_bench.registry import suite_file
from fc_bench.reports.literature import RESULTS, published_tables
from fc_bench.suite import read_suite


@pytest.fixture
def photographs(tmp_path, portrait):
    from fc_bench.model.yaml_file import read_yaml
    from fc_bench.suite import SuiteFile

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


def test_prompts_are_those_of_the_authors_to_the_letter(photographs):
    texts = {}
    for name in ("fastcomposer-single", "fastcomposer-multi"):
        file = read_suite(suite_file(name), photographs).file
        part = file.single or file.multi
        assert part is not None
        asked = [part.prompts, [(subject.id, subject.noun) for subject in file.subjects]]
        texts[name] = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    assert texts == {
        "fastcomposer-single": "ccac283cc6b0a543052e0b39a3e6050c60733f5500cbb929ec6aea8c2e9ac68e",
        "fastcomposer-multi": "ebf5caa8e827c2af07c926f0310f852c874c7849b93cb234c673b6c433565bc4",
    }


def test_suite_without_photographs_says_what_it_needs(fc_bench, suite, tmp_path):
    done = fc_bench("validate", "fastcomposer-single")
    assert done.code == 2
    assert "name the folder that holds 000001.jpg and the others with --photographs" in done.err
    with pytest.raises(UserError, match="has photographs of its own"):
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
