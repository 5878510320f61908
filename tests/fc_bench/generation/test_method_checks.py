"""What a method will refuse of a suite is said in one line before anything is generated, with what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fc_bench.generation.method_checks import refusal
from fc_bench.generation.plan import options_of
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.model.word_tokenizer import word_tokenizer
from fc_bench.protocols import AskedSet, Sampler, Setting, Subject, fill

FITTING = {
    "textual-inversion": {"initializer": "x"},
    "dreambooth": {"rare_tokens": ["x", "y"]},
    "dreambooth-lora": {"rare_tokens": ["x", "y"]},
    "custom-diffusion": {"initializers": ["x", "y"]},
}
"""Options with which the tiny backbone's tokenizer, one token a letter, takes the words of each method."""
FEW = {"photographs": 2, "steps": 1, "class_images": 1}


def arguments(method: str, **changes: object) -> list[str]:
    """A method on the command line, with options that fit but for the changes."""
    options = {**FITTING[method], **FEW, **changes}
    if method == "textual-inversion":
        options.pop("class_images")
    return ["-m", method, *(word for key, value in options.items() for word in ("-o", f"{method}.{key}={value}"))]


@pytest.fixture
def run(fc_bench, tiny_backbone, suite, tmp_path, monkeypatch):
    """`fc-bench run` with text-only and other methods into `run/`."""
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "cache"))

    def invoke(*words: str, suite=suite, verb: str = "run"):
        return fc_bench(verb, suite, "--backbone", tiny_backbone, "--out", tmp_path / "run", "-m", "text-only", *words)

    return invoke


def refused(done, tmp_path, *parts: str) -> None:
    assert (done.code, done.err.count("\n")) == (2, 1), done
    for part in parts:
        assert part in done.err
    assert not (tmp_path / "run").exists()


WORDS = {
    "textual-inversion": ({"initializer": "old"}, 'The option initializer: "old" has to be one token'),
    "dreambooth": ({"rare_tokens": ["x", "sks"]}, 'The option rare_tokens: "sks" has to be one token'),
    "dreambooth-lora": ({"rare_tokens": ["sks", "x"]}, 'The option rare_tokens: "sks" has to be one token'),
    "custom-diffusion": ({"initializers": ["x", "sks"]}, 'The option initializers: "sks" has to be one token'),
}


@pytest.mark.parametrize("method", WORDS)
def test_word_that_is_not_one_token_is_refused_with_the_option_and_the_methods_that_could_run(method, run, tmp_path):
    changes, told = WORDS[method]
    label = f"{method}["
    refused(run(*arguments(method, **changes)), tmp_path, label, told, "Or run the others alone: -m text-only.")


def test_noun_that_is_not_one_token_is_refused_where_textual_inversion_starts_from_it(run, tmp_path):
    done = run("-m", "textual-inversion", "-o", "textual-inversion.photographs=2")
    refused(done, tmp_path, "The class noun of ann as initializer", "set the option initializer to a word that is one")


@pytest.mark.parametrize("method", FITTING)
def test_too_few_photographs_are_refused_with_the_subject_and_the_option(method, run, tmp_path):
    done = run(*arguments(method, photographs=3))
    refused(done, tmp_path, "The subject ann has 2 photographs, but tuning needs 3", "set the option photographs to 2")


@pytest.mark.parametrize("method", ["dreambooth", "dreambooth-lora", "custom-diffusion"])
def test_prompt_that_is_too_long_with_the_method_s_words_alone_is_refused(
    method, run, tmp_path, suite_data, write_suite
):
    # 77 tokens with the noun alone: begin, 75 letters, end
    text = "a {subject} " + "x" * 69
    suite_data["subjects"] = [{"id": "ann", "noun": "woman"}]
    suite_data["single"]["prompts"] = {"context": [text]}
    del suite_data["multi"]
    own = write_suite(suite_data)
    assert run(suite=own).code == 0
    shutil.rmtree(tmp_path / "run")
    refused(
        run(*arguments(method), suite=own),
        tmp_path,
        "has 78 tokens, but the text encoder reads at most 77; shorten it.",
    )


def test_prompt_of_the_class_images_that_is_too_long_is_refused(tiny_backbone, monkeypatch):
    from fc_bench.model.families.family import Family

    load = Family.load_tokenizers

    def short(self, folder):
        (tokenizer,) = load(self, folder)
        tokenizer.model_max_length = 14
        return (tokenizer,)

    monkeypatch.setattr(Family, "load_tokenizers", short)
    setting = Setting(read_backbone(str(tiny_backbone)), Sampler("ddim", 2, 2.0, 64), "cpu", "float32")
    method, options = options_of("dreambooth", {**FITTING["dreambooth"], **FEW, "photographs": 1}, setting)
    asked = AskedSet((Subject("ann", "woman", (Path("ann.png"),)),), lambda mentions: mentions)
    told = refusal(method, setting, options, [asked])
    assert told == 'The prompt "a photo of a woman" has 16 tokens, but the text encoder reads at most 14; shorten it.'
    assert refusal(method, setting, options.model_copy(update={"class_images": 0}), [asked]) == ""


def test_ids_that_differ_in_capitals_alone_are_refused_where_they_become_one_token(tiny_backbone):
    setting = Setting(read_backbone(str(tiny_backbone)), Sampler("ddim", 2, 2.0, 64), "cpu", "float32")
    subjects = tuple(Subject(name, "man", ()) for name in ("Ann", "ann"))
    asked = AskedSet(subjects, lambda mentions: [fill("{subjects}", mentions)])
    for name in ("textual-inversion", "custom-diffusion"):
        method, options = options_of(name, {**FITTING[name]}, setting)
        told = refusal(method, setting, options.model_copy(update={"photographs": 0}), [asked])
        assert "would have the same token <ann>, because their ids differ only in capitals" in told


def test_all_methods_that_refuse_are_named_in_one_line_each_reason_once(run, tmp_path):
    names = ("textual-inversion", "dreambooth")
    done = run(*(word for name in names for word in arguments(name, photographs=9)))
    refused(done, tmp_path, "-m text-only.")
    assert done.err.count("The subject ann has 2 photographs") == 1
    assert all(f"{name}[" in done.err for name in names)


@pytest.mark.parametrize("words", [("--dry-run",), ()])
def test_dry_run_refuses_what_a_run_refuses(words, run, tmp_path):
    refused(run(*arguments("dreambooth", photographs=3), *words), tmp_path, "but tuning needs 3")


def test_sweep_refuses_a_value_that_the_suite_cannot_serve_before_the_others_run(
    fc_bench, tiny_backbone, suite, tmp_path
):
    words = arguments("dreambooth")[2:]
    kept = [word for pair in zip(words[::2], words[1::2], strict=True) if "photographs" not in pair[1] for word in pair]
    command = ("sweep", "dreambooth.photographs", "1,2,3", "--suite", suite, "--backbone", tiny_backbone)
    refused(fc_bench(*command, "--out", tmp_path / "run", *kept), tmp_path, "dreambooth[", "but tuning needs 3")


def test_more_subjects_than_a_method_takes_are_said_before_the_first_image(
    fc_bench, plugin, tiny_backbone, suite_data, write_suite, tmp_path
):
    suite_data["multi"]["subjects"] = [["ann", "bob", "cid"]]
    done = fc_bench(
        "run", write_suite(suite_data), "-m", "paste", "--backbone", tiny_backbone, "--out", tmp_path / "run"
    )
    assert done.code == 0, done.err
    told = "paste: 1 subject sets are left out, because it takes at most 2 subject(s)."
    assert done.out.index(told) < done.out.index("One subject")


@pytest.mark.parametrize(
    ("option", "told"),
    [("refuses=bob", "bob cannot be pasted"), ("refuses=nonsense", "ZeroDivisionError: by subjects")],
)
def test_plug_in_is_asked_before_it_is_loaded(option, told, run, plugin, tmp_path):
    done = run("-m", "paste", "-o", f"paste.{option}", "-o", "paste.fail_load=true")
    refused(done, tmp_path, "paste[", told, "-m text-only.")


def test_compose_refuses_before_it_makes_a_folder(fc_bench, tiny_backbone, portrait, tmp_path):
    portrait((250, 20, 20)).save(tmp_path / "ada.png")
    done = fc_bench(
        "compose", "a {ada}", "-s", f"ada={tmp_path / 'ada.png'}:old woman", *arguments("textual-inversion"),
        "-o", "textual-inversion.photographs=2", "--backbone", tiny_backbone, "--out", tmp_path / "run",
    )  # fmt: skip
    refused(done, tmp_path, "The subject ada has 1 photograph, but tuning needs 2")


def test_cost_refuses_before_anything_is_measured(fc_bench, tiny_backbone, tmp_path):
    done = fc_bench(
        "cost", *arguments("dreambooth", photographs=9), "--backbone", tiny_backbone, "--out", tmp_path / "run"
    )
    refused(done, tmp_path, "dreambooth[", "The subject p01 has 5 photographs, but tuning needs 9")


def test_validate_says_which_built_in_methods_would_refuse_the_suite(fc_bench, tiny_backbone, suite):
    done = fc_bench("validate", suite, "--backbone", tiny_backbone)
    assert done.code == 0, done.err
    assert (
        "textual-inversion, dreambooth, dreambooth-lora, custom-diffusion would refuse it: The subject ann has 2"
        in done.out
    )


def test_pocket_suites_are_refused_by_no_built_in_method(fc_bench):
    for name in ("pocket", "pocket-full"):
        done = fc_bench("validate", name, "--backbone", "pocket")
        assert (done.code, "would refuse" in done.out) == (0, False)


@pytest.fixture(params=["tokenizer", "tokenizer_2"])
def odd_one(request, tiny_sdxl_backbone, tmp_path):
    """The tiny SDXL backbone, whose other tokenizer knows "sks", and the folder of the one that does not."""
    folder = tmp_path / "backbone"
    shutil.copytree(tiny_sdxl_backbone.parent, folder)
    other = {"tokenizer": "tokenizer_2", "tokenizer_2": "tokenizer"}[request.param]
    shutil.rmtree(folder / "pipeline" / other)
    word_tokenizer(["sks"], 77).save_pretrained(folder / "pipeline" / other)
    return folder / tiny_sdxl_backbone.name, folder / "pipeline" / request.param


def test_a_word_that_is_not_one_token_of_either_text_encoder_is_refused(fc_bench, odd_one, suite, tmp_path):
    backbone, _ = odd_one
    command = ("run", suite, "--backbone", backbone, "--out", tmp_path / "run", "-m", "text-only")
    for method, option in (("dreambooth-lora", "rare_tokens"), ("custom-diffusion", "initializers")):
        done = fc_bench(*command, *arguments(method, **{option: ["sks", "x"]}))
        refused(done, tmp_path, f'The option {option}: "sks" has to be one token of the text encoder')


def test_a_prompt_that_is_too_long_for_either_text_encoder_is_refused(fc_bench, odd_one, suite, tmp_path):
    backbone, tokenizer = odd_one
    file = tokenizer / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": 20}))
    command = ("run", suite, "--backbone", backbone, "--out", tmp_path / "run")
    refused(
        fc_bench(*command, "-m", "text-only"), tmp_path, "a photo of a woman in the snow", "at most 20; shorten it."
    )
    validated = fc_bench("validate", suite, "--backbone", backbone)
    assert validated.code == 2
    assert "at most 20" in validated.err + validated.out


def test_a_side_to_train_on_that_no_autoencoder_takes_is_refused_with_the_option(run, tmp_path):
    done = run(*arguments("dreambooth", resolution=52))
    refused(done, tmp_path, "The option resolution is 52 pixels, no multiple of the 8 that the autoencoder takes")
