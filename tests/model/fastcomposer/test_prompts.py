"""Prompts become what the text encoder reads, or one clear sentence."""

import pytest

from fc_bench.model.errors import ModelInputError
from fc_bench.model.fastcomposer.pipeline import FastComposerPipeline
from fc_bench.model.fastcomposer.prompts import PLACEHOLDER, insert_placeholders, parse_prompt, plain_text

PROMPTS = [
    ("a man <|image|> in the snow", "a man in the snow"),
    ("a man <|image|>, and a woman <|image|>.", "a man, and a woman."),
    ("a man<|image|>in the snow", "a man in the snow"),
    ("the woman <|image|>'s hat", "the woman's hat"),
    ("a man in the snow", "a man in the snow"),
    ("a tall man <|image|>", "a tall man"),
]


@pytest.mark.parametrize(("prompt", "text"), PROMPTS)
def test_token_ids_are_those_of_the_plain_text(prompt: str, text: str, pipeline: FastComposerPipeline) -> None:
    assert plain_text(prompt) == text
    expected = pipeline.tokenizer(text, padding="max_length").input_ids
    assert parse_prompt(prompt, pipeline.tokenizer).input_ids.tolist() == expected


@pytest.mark.parametrize(("prompt", "text"), PROMPTS)
def test_image_tokens_end_the_noun_phrases(prompt: str, text: str, pipeline: FastComposerPipeline) -> None:
    parsed = parse_prompt(prompt, pipeline.tokenizer)
    decoded = [pipeline.tokenizer.decode([parsed.input_ids[position]]).strip() for position in parsed.image_tokens]
    nouns = [piece.split()[-1] for piece in prompt.split(PLACEHOLDER)[:-1]]
    assert len(decoded) == len(nouns)
    for token, noun in zip(decoded, nouns, strict=True):
        assert noun.endswith(token)
    assert parsed.image_token_mask.nonzero()[:, 0].tolist() == list(parsed.image_tokens)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (f"{PLACEHOLDER} a man", "comes first"),
        (f"a man {PLACEHOLDER} {PLACEHOLDER}", "follows another placeholder"),
        (f"a man, {PLACEHOLDER} and", "number 1 follows ',', which is not a word"),
        (f"a man {PLACEHOLDER} (left) {PLACEHOLDER}", r"number 2 follows '\)', which is not a word"),
        (f"a man {PLACEHOLDER}, {PLACEHOLDER}", "number 2 follows ',', which is not a word"),
        (f"a man {PLACEHOLDER} and" * 9, "at most 8"),
        ("a man " * 20, "reads at most 24"),
    ],
)
def test_unusable_prompt_is_one_sentence(prompt: str, reason: str, pipeline: FastComposerPipeline) -> None:
    with pytest.raises(ModelInputError, match=reason) as error:
        parse_prompt(prompt, pipeline.tokenizer)
    assert "\n" not in str(error.value)


def test_truncation_drops_the_subjects_beyond(pipeline: FastComposerPipeline) -> None:
    parsed = parse_prompt(
        f"a man {PLACEHOLDER} " + "hat " * 30 + f"woman {PLACEHOLDER}", pipeline.tokenizer, truncate=True
    )
    assert len(parsed.input_ids) == pipeline.tokenizer.model_max_length
    assert len(parsed.image_tokens) == 1


def test_placeholders_follow_the_phrases_of_a_caption() -> None:
    assert insert_placeholders("a man and a woman.", [5, 17]) == f"a man {PLACEHOLDER} and a woman {PLACEHOLDER}."
