"""spaCy's noun chunks as phrases of captions, by a small pipeline trained here (the published ones are not on PyPI)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import fix_random_seed

from fc_bench.model.curation.config import PhrasesConfig
from fc_bench.model.curation.phrases import phrase_finder

ADJECTIVES = ("tall", "old", "young", "tan", "brown", "long", "red", "parted")
PEOPLE = ("man", "woman", "boy", "girl")
THINGS = ("hair", "hat", "scarf", "coat")
PLACES = ("snow", "kitchen", "garden", "street")
SMALL = {"width": 32, "embed_size": 300, "depth": 2, "window_size": 1, "maxout_pieces": 2, "subword_features": True}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as spaCy saves it: a morphologizer and a dependency parser, trained on captions of a small grammar."""
    fix_random_seed(0)
    language = spacy.blank("en")
    shared = {"@architectures": "spacy.HashEmbedCNN.v2", "pretrained_vectors": None, **SMALL}
    for name in ("morphologizer", "parser"):
        own = {**language.get_factory_meta(name).default_config["model"], "tok2vec": shared}
        language.add_pipe(name, config={"model": own})
    draw = random.Random(0)
    examples = [_example(language, draw) for _ in range(60)]
    language.initialize(lambda: examples)
    for _ in range(12):
        draw.shuffle(examples)
        for start in range(0, len(examples), 10):
            language.update(examples[start : start + 10])
    folder = tmp_path_factory.mktemp("spacy")
    language.to_disk(folder)
    return folder


def test_people_and_their_descriptions_are_found(pipeline):
    caption = "a tall man with red hair and an old woman with a long scarf in the garden"
    phrases = phrase_finder(PhrasesConfig(spacy=str(pipeline)))(caption)
    assert [phrase.text(caption) for phrase in phrases] == [
        "a tall man",
        "red hair",
        "an old woman",
        "a long scarf",
        "the garden",
    ]
    told = {phrase.text(caption): phrase.description(caption) for phrase in phrases}
    assert told["a tall man"] == "a tall man with red hair"
    assert told["an old woman"].startswith("an old woman with a long scarf")
    assert told["the garden"] == "the garden"


def _example(language: Any, draw: random.Random) -> Example:
    """A caption with its true parts of speech, heads and dependencies."""
    words: list[str] = []
    heads: list[int] = []
    pos: list[str] = []
    deps: list[str] = []

    def add(word: str, part: str, head: int, dep: str) -> int:
        place = len(words)
        words.append(word)
        pos.append(part)
        deps.append(dep)
        heads.append(place if head < 0 else head)
        return place

    def phrase(noun: str, head: int, dep: str, determiner: bool = True) -> int:
        adjectives = draw.sample(ADJECTIVES, draw.randint(0, 2))
        place = len(words) + determiner + len(adjectives)
        if determiner:
            add(
                "the" if noun in PLACES else "an" if (adjectives or [noun])[0][0] in "aeiou" else "a",
                "DET",
                place,
                "det",
            )
        for adjective in adjectives:
            add(adjective, "ADJ", place, "amod")
        return add(noun, "NOUN", head, dep)

    first = last = phrase(draw.choice(PEOPLE), -1, "ROOT")
    for number in range(draw.randint(1, 2)):
        if number:
            add("and", "CCONJ", first, "cc")
            last = phrase(draw.choice(PEOPLE), first, "conj")
        if draw.random() < 0.7:
            thing = draw.choice(THINGS)
            phrase(thing, add("with", "ADP", last, "prep"), "pobj", determiner=thing != "hair")
    if draw.random() < 0.6:
        phrase(draw.choice(PLACES), add("in", "ADP", last, "prep"), "pobj")
    return Example(
        language.make_doc(" ".join(words)), Doc(language.vocab, words=words, pos=pos, heads=heads, deps=deps)
    )
