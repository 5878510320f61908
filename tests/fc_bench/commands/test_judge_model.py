"""A local vision-language model as a judge: tiny, random, made here; and stand-ins for what a good one answers."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from fc_bench.metrics.judged import PROTOCOLS
from fc_bench.run_folder.records import ANSWERS, RunFolder
from fc_bench.scoring.vision_language import VisionLanguageModel

TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)


@pytest.fixture(scope="session")
def judging_model(tmp_path_factory):
    """A LLaVA of random weights that reads bytes and sees four patches of an image."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("judges") / "tiny-judge"
    tokens = ["<pad>", "<bos>", "<eos>", "<image>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytewise = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytewise,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=["<image>"],
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=tokenizer,
        patch_size=16,
        num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
    )
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**shape, image_size=32, patch_size=16),
        text_config=LlamaConfig(
            **shape,
            vocab_size=len(tokens),
            max_position_embeddings=4096,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
        image_token_id=3,
    )
    model = LlavaForConditionalGeneration(config)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.5)  # with smaller ones every image would get the same answer
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run, made once; `run` copies it."""
    return tmp_path_factory.mktemp("judged") / "made"


@pytest.fixture
def run(made, fc_bench, suite, tiny_backbone, plugin, tmp_path):
    """A run folder of the pasting method and the text-only one, whose images several subjects share."""
    if not made.exists():
        methods = ("-m", "paste", "-m", "text-only")
        assert fc_bench("run", suite, "--backbone", tiny_backbone, "--out", made, *methods).code == 0
    return RunFolder(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture
def ask(fc_bench, run, judging_model):
    """`fc-bench judge` of the run with the tiny model."""

    def invoke(protocol="omnicontext", *arguments, model=judging_model):
        start = ("judge", run.path, "--as", protocol, "--model", model, "--device", "cpu")
        return fc_bench(*start, "--longest-answer", 4, *arguments)

    return invoke


@pytest.fixture
def answering(monkeypatch):
    """Lets every model answer by a function of images and question; the list of what was asked."""

    def answer(function):
        asked = []

        def stand_in(self, images, question):
            asked.append((len(images), question))
            return function(images, question)

        monkeypatch.setattr(VisionLanguageModel, "answer", stand_in)
        return asked

    return answer


def content(folder):
    return {
        file.relative_to(folder): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name not in (".lock",)
    }


def test_random_answers_cannot_be_read_and_are_counted_as_missing(ask, run, records):
    done = ask()
    assert (done.code, done.err) == (0, "")
    count = 2 * len(run.samples())
    assert f"{count} of {count} answers could not be read" in done.out
    assert all(
        score["values"]["omnicontext_overall@tiny-judge"] is None
        for (_, metric), score in run.scores().items()
        if metric == "omnicontext@tiny-judge"
    )
    made = run.settings()["judged"]["omnicontext@tiny-judge"]["made_by"]
    assert made["model"]["kind"] == "LlavaForConditionalGeneration"
    assert made["model"]["dtype"] == "float32"
    assert made["model"]["generation"] == {"greedy": True, "longest_answer": 4}
    assert made["prompts"]["whose"] == "fc-bench's wording, not the benchmark's"
    assert made["prompts"]["wordings"] == {one.name: one.wording for one in PROTOCOLS["omnicontext"].questions}
    (command,) = run.settings()["judged"]["omnicontext@tiny-judge"]["commands"]
    assert command["versions"]["transformers"]
    assert command["seconds"] > 0


def test_answers_depend_on_the_images_and_on_nothing_else(judging_model):
    generator = np.random.default_rng(0)
    pictures = [Image.fromarray(generator.integers(0, 256, (64, 96, 3), dtype=np.uint8)) for _ in range(6)]
    models = [VisionLanguageModel.load(judging_model, "cpu", 16) for _ in range(2)]
    first, second = ([model.answer([one], "How good is it?") for one in pictures] for model in models)
    assert first == second
    assert len(set(first)) > 1


def test_the_report_s_page_names_the_model_and_whose_wording_it_was_asked(fc_bench, ask, run, answering):
    answering(lambda images, question: "7")
    ask()
    done = fc_bench("report", run.path, "--no-figures")
    assert done.code == 0, done.err
    page = (run.path / "report" / "index.html").read_text()
    assert "LlavaForConditionalGeneration in float32" in page
    assert "wording, not the benchmark" in page


@pytest.mark.parametrize(
    ("protocol", "answer", "column", "value"),
    [
        ("omnicontext", '{"score": 8, "reasoning": "fine"}', "omnicontext_overall", 8),
        ("dreambench-plus", "It is good.\nScore: 2", "dreambench_plus_product", 0.25),
        ("psrbench", "[Thought]: fine [Score]: 9", "psrbench_complex", 9),
        ("multihuman-action", " 7\n", "multihuman_action", 8),
    ],
)
def test_a_model_that_answers_in_form_gives_every_image_a_score(ask, run, answering, protocol, answer, column, value):
    answering(lambda images, question: answer)
    done = ask(protocol)
    assert done.code == 0, done.err
    scores = [score for (_, metric), score in run.scores().items() if metric == f"{protocol}@tiny-judge"]
    assert len(scores) == len(run.samples())
    assert {score["values"][f"{column}@tiny-judge"] for score in scores} == {value}


def test_a_digit_more_than_was_asked_for_is_not_read_as_two_answers(ask, answering):
    answering(lambda images, question: "10")
    done = ask("multihuman-action")
    assert " answers could not be read and are missing" in done.out
    assert " 0 of " not in done.out


def test_references_are_shown_where_the_question_is_about_them(ask, run, answering):
    asked = answering(lambda images, question: "Score: 3")
    ask("dreambench-plus")
    shown = {count for count, question in asked if "photographs of its subjects" in question}
    assert shown == {2, 3}
    assert {count for count, question in asked if "photographs of its subjects" not in question} == {1}
    assert all("{prompt}" not in question for _, question in asked)


def test_what_was_answered_is_not_asked_again(ask, run, answering, records):
    asked = answering(lambda images, question: "Score: 3")
    ask("dreambench-plus")
    stored = records(run.path / ANSWERS)
    repeated = [one for one in stored if one.get("same_answer_as")]
    assert len(asked) == len(stored) - len(repeated)
    assert {one["question"] for one in repeated} == {"PF"}  # text-only images that several subjects share
    before = content(run.path)
    asked.clear()
    assert "0 are new" in ask("dreambench-plus").out
    assert asked == []
    assert content(run.path) == before


def test_an_interrupted_command_continues(ask, run, answering, records):
    def break_down(images, question):
        if len(asked) == 5:
            raise KeyboardInterrupt
        return "7"

    asked = answering(break_down)
    assert ask().code == 130
    assert len(records(run.path / ANSWERS)) == 4
    answering(lambda images, question: "7")
    done = ask()
    assert done.code == 0, done.err
    assert f"{2 * len(run.samples()) - 4} are new" in done.out
    stored = records(run.path / ANSWERS)
    assert len({(one["sample"], one["question"]) for one in stored}) == len(stored) == 2 * len(run.samples())


def test_another_model_or_wording_under_the_same_name_is_refused(
    fc_bench, ask, run, answering, judging_model, tmp_path
):
    answering(lambda images, question: "7")
    assert ask().code == 0
    before = content(run.path)
    prompts = tmp_path / "own.yaml"
    prompts.write_text("PF: 'Does it show {prompt}? {\"score\": 0 to 10}'\nSC: 'Same people in {prompt}?'\n")
    refused(ask("omnicontext", "--prompts", prompts), "tiny-judge", "another wording", "--judge")
    refused(ask("omnicontext", "--longest-answer", 8), "other weights or settings")
    other = shutil.copytree(judging_model, tmp_path / "tiny-judge")
    (other / "chat_template.jinja").write_text(TEMPLATE + "Answer:")
    refused(ask(model=other), "other weights or settings")
    file = tmp_path / "tiny-judge.jsonl"
    file.write_text(json.dumps({"image": next(iter(run.samples())), "question": "PF", "answer": "7"}) + "\n")
    refused(fc_bench("judge", run.path, "--as", "omnicontext", "--answers", file), "that a model gave")
    assert content(run.path) == before
    asked = answering(lambda images, question: "3")
    assert ask("omnicontext", "--prompts", prompts, "--judge", "own-words").code == 0
    assert any(question.startswith("Does it show a photo of a woman in the snow? {") for _, question in asked)
    judged = run.settings()["judged"]
    assert list(judged) == ["omnicontext@tiny-judge", "omnicontext@own-words"]
    assert judged["omnicontext@own-words"]["made_by"]["prompts"]["whose"] == "the wording of own.yaml"


def test_columns_of_other_weights_do_not_compare(fc_bench, ask, run, answering, judging_model, tmp_path):
    answering(lambda images, question: "7")
    other = shutil.copytree(run.path, tmp_path / "other")
    assert ask().code == 0
    changed = shutil.copytree(judging_model, tmp_path / "changed" / "tiny-judge")
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps({**config, "note": "other weights"}))
    assert fc_bench("judge", other, "--as", "omnicontext", "--model", changed, "--longest-answer", 4).code == 0
    done = fc_bench("compare", run.path, other)
    assert "different definition of the column" in done.out


def test_bad_prompts_are_refused(ask, run, tmp_path):
    before = content(run.path)
    prompts = tmp_path / "own.yaml"
    for text, parts in (
        ("PF: one\n", ["own.yaml", "SC"]),
        ("PF: one\nSC: two\nXX: three\n", ["own.yaml:3", "XX"]),
        ("PF: [1]\nSC: two\n", ["own.yaml:1", "PF"]),
        ("PF: 'one {prompt}'\nSC: two <instruction>\n", ["own.yaml:2", "SC has no {prompt}"]),
    ):
        prompts.write_text(text)
        refused(ask("omnicontext", "--prompts", prompts), *parts)
    refused(ask("omnicontext", "--prompts", tmp_path / "no.yaml"), "no.yaml", "cannot be read")
    assert content(run.path) == before


def test_folders_that_are_no_judge_are_refused(ask, run, judging_model, tiny_backbone, tmp_path):
    before = content(run.path)
    refused(ask(model=tmp_path / "nowhere"), "nowhere", "no config.json")
    refused(ask(model=tiny_backbone.parent / "clip"), '"clip"', "vision-language model")
    mute = shutil.copytree(judging_model, tmp_path / "mute")
    (mute / "chat_template.jinja").unlink()
    refused(ask(model=mute), "no chat template")
    broken = shutil.copytree(judging_model, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    refused(ask(model=broken), "broken cannot be loaded")
    refused(ask("omnicontext", "--device", "cuda:99"), "cuda:99")
    assert content(run.path) == before


def test_a_template_without_a_place_for_images_is_refused_before_anything_is_stored(ask, run, judging_model, tmp_path):
    before = content(run.path)
    blind = shutil.copytree(judging_model, tmp_path / "blind")
    (blind / "chat_template.jinja").write_text("{{ messages[0]['content'][-1]['text'] }}")
    refused(ask(model=blind), "failed", "the same command continues")
    assert content(run.path) == before


def test_a_lost_image_is_named_before_the_model_is_loaded(ask, run):
    image = run.path / next(iter(run.samples().values()))["image"]
    image.unlink()
    refused(ask(model=run.path), image.name, "not in the run folder")


def refused(finished, *parts):
    """One line on standard error with all the parts, exit code 2."""
    assert finished.code == 2, finished
    assert finished.err.count("\n") == 1, finished.err
    for part in parts:
        assert part in finished.err, f"{part!r} is not in {finished.err!r}"
