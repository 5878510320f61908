"""What a backbone says of prompts with words that its models never saw."""

from __future__ import annotations

import shutil

import pytest
import yaml

from fc_bench import registry
from fc_bench.generation.prompt_checks import prompt_readers, unknown_words
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.protocols import fill
from fc_bench.suites.suite import read_suite

STRANGE = "a photo of a Wizard and a woman, cooking in the snow"


def test_words_that_were_never_seen_are_named_once_and_known_ones_are_not():
    told = unknown_words([STRANGE, "a wizard in the snow", STRANGE], read_backbone("pocket"))
    assert 'The models of the backbone "pocket" never saw "wizard", "cooking" in training' in told


def test_many_strange_words_are_counted():
    told = unknown_words(["seven quick brown foxes jumped over lazy dogs"], read_backbone("pocket"))
    assert '"seven", "quick", "foxes", "jumped", "over" and 2 more in training' in told


@pytest.mark.parametrize("name", ["pocket", "pocket-full", "pocket-tuning"])
def test_the_embedded_suites_keep_to_the_pocket_world_s_words(name):
    suite = read_suite(registry.suite_file(name))
    prompts = [
        fill(prompt.template, [subject.noun for subject in subject_set.subjects])
        for subject_set, asked in suite.subject_sets()
        for prompt in asked
    ]
    assert len(set(prompts)) > 5
    assert unknown_words(prompts, read_backbone("pocket")) == ""


def test_an_open_vocabulary_is_told_nothing(tiny_backbone):
    backbone = read_backbone(str(tiny_backbone))
    assert unknown_words(["a photo of abracadabra"], backbone) == ""
    assert prompt_readers(backbone, scored=False)[0].in_pieces(["abracadabra"]) == ["abracadabra"]


def test_run_validate_and_compose_say_so_and_go_on(fc_bench, tmp_path):
    photograph = tmp_path / "ada.png"
    shutil.copy(registry.suite_file("pocket").parent / "subjects" / "p02" / "1.png", photograph)
    content = {
        "name": "strange",
        "version": "1",
        "description": "A word that the pocket world does not know.",
        "seed": 0,
        "license": "MIT",
        "source": "drawn",
        "images_per_prompt": 1,
        "metrics": ["prompt-consistency"],
        "subjects": [{"id": "ada", "noun": "woman", "photographs": ["ada.png"]}],
        "single": {"subjects": "all", "prompts": {"style": ["a photo of a {subject} as a wizard"]}},
    }
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump(content))
    validated = fc_bench("validate", suite, "--backbone", "pocket")
    planned = fc_bench("run", suite, "-m", "text-only", "--dry-run")
    run = fc_bench("run", suite, "-m", "text-only", "--out", tmp_path / "run")
    made = fc_bench(
        "compose", "a {ada} as a wizard", "-s", f"ada={photograph}:woman", "--steps", 1, "--out", tmp_path / "c"
    )
    for done in (validated, planned, run, made):
        assert done.code == 0, done.err
        assert 'never saw "as", "wizard" in training' in " ".join((done.out + done.err).split())
