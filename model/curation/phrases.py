"""Noun phrases of captions, as characters [start, end): spaCy's noun chunks, or phrases that end with listed nouns."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fc_bench.model.curation.config import PhrasesConfig
from fc_bench.model.errors import ModelInputError
from fc_bench.model.fastcomposer.prompts import ends_with_word

BETWEEN = ("of", "in", "on", "with", "and", "or", "to", "at", "by", "for", "from", "near", "beside")
"""Words that no noun phrase has between its determiner and its noun."""
DETERMINERS = ("a", "an", "the", "one", "two", "his", "her", "their", "another", "some")


@dataclass(frozen=True)
class Phrase:
    """Where a noun phrase stands in its caption.

    `until` is where what the caption says of it right after ends (`a man` | ` with red hair`); None: with the phrase.
    """

    start: int
    end: int
    until: int | None = None

    def text(self, caption: str) -> str:
        """The phrase itself."""
        return caption[self.start : self.end]

    def description(self, caption: str) -> str:
        """The phrase with what is said of it."""
        return caption[self.start : self.until or self.end]


FindPhrases = Callable[[str], list[Phrase]]


def phrase_finder(config: PhrasesConfig) -> FindPhrases:
    """What finds the phrases of a caption; raises ModelInputError when spaCy or its model is not installed."""
    if config.spacy is None:
        return lambda caption: phrases_of_nouns(caption, config.nouns)
    try:
        import spacy

        language = spacy.load(config.spacy)
    except (ImportError, OSError):
        raise ModelInputError(
            f'Noun phrases need spaCy and its model {config.spacy}: pip install -e ".[curate]" && python -m spacy '
            f"download {config.spacy}; or list the class nouns (`phrases: {{spacy: null, nouns: [man, woman]}}`)."
        ) from None

    def chunks(caption: str) -> list[Phrase]:
        found = [Phrase(chunk.start_char, chunk.end_char, _described(chunk)) for chunk in language(caption).noun_chunks]
        return [phrase for phrase in found if ends_with_word(phrase.text(caption))]

    return chunks


def phrases_of_nouns(caption: str, nouns: tuple[str, ...]) -> list[Phrase]:
    """Every listed noun (as a whole word) with the nearest determiner up to three words before it, and what is between.

    Without such a determiner the phrase is the noun alone. What is said of it goes on to the next phrase, or to
    the end of the sentence.
    """
    found = []
    listed, determiners = {noun.lower() for noun in nouns}, set(DETERMINERS)
    words = list(re.finditer(r"[^\W_][\w'-]*", caption))
    for place, word in enumerate(words):
        if word[0].lower() not in listed:
            continue
        before = words[max(0, place - 4) : place]
        lead = next((other for other in reversed(before) if other[0].lower() in determiners), word)
        between = caption[lead.start() : word.start()]
        broken = re.search(rf"[,.;:]|\b(?:{'|'.join(BETWEEN)})\b", between, re.IGNORECASE)
        start = word.start() if broken else lead.start()
        found.append(Phrase(start, word.end()))
    ends = [*(phrase.start for phrase in found), len(caption)][1:]
    return [replace(phrase, until=_until(caption, phrase.end, end)) for phrase, end in zip(found, ends, strict=False)]


def _until(caption: str, start: int, end: int) -> int:
    """Where what is said from `start` on ends: with the sentence, or before the words that lead to the next phrase."""
    said = re.split(r"[.;]", caption[start:end], maxsplit=1)[0]
    return start + len(re.sub(r"(?:[\s,]|\b(?:and|or|next to|beside|with)\b)+$", "", said, flags=re.IGNORECASE))


def _described(chunk: Any) -> int:
    """Where the subtree of a noun chunk's noun ends, without what is coordinated with it."""
    own = [child for child in chunk.root.rights if child.dep_ not in ("cc", "conj", "punct")]
    last = max([chunk[-1], *(child.right_edge for child in own)], key=lambda token: token.i)
    return last.idx + len(last)
