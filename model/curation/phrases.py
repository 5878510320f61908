"""Noun phrases in captions, found as spaCy's noun chunks or as phrases that end with listed nouns."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fc_bench.model.curation.config import PhrasesConfig
from fc_bench.model.errors import ModelInputError
from fc_bench.model.fastcomposer.prompts import ends_with_word

BETWEEN = ("of", "in", "on", "with", "and", "or", "to", "at", "by", "for", "from", "near", "beside")
"""Words that do not occur between the determiner and the noun of a noun phrase."""
DETERMINERS = ("a", "an", "the", "one", "two", "his", "her", "their", "another", "some")


@dataclass(frozen=True)
class Phrase:
    """The characters [start, end) of a noun phrase in its caption.

    `until` is the end of the description that follows the phrase (`a man` | ` with red hair`); None without one.
    """

    start: int
    end: int
    until: int | None = None

    def text(self, caption: str) -> str:
        """The text of the phrase."""
        return caption[self.start : self.end]

    def description(self, caption: str) -> str:
        """The text of the phrase with its description."""
        return caption[self.start : self.until or self.end]


FindPhrases = Callable[[str], list[Phrase]]


def phrase_finder(config: PhrasesConfig) -> FindPhrases:
    """A function that finds the phrases in a caption; raises ModelInputError without spaCy or its model."""
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
        found = [
            Phrase(chunk.start_char, chunk.end_char, _end_of_subtree(chunk)) for chunk in language(caption).noun_chunks
        ]
        return [phrase for phrase in found if ends_with_word(phrase.text(caption))]

    return chunks


def phrases_of_nouns(caption: str, nouns: tuple[str, ...]) -> list[Phrase]:
    """The phrases from a determiner to a listed noun with at most three words in between.

    Without such a determiner, the phrase is only the noun. The description of a phrase extends to the next phrase or to
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
    """The end of a description from `start` on: the end of the sentence, or before words that lead to a new phrase."""
    description = re.split(r"[.;]", caption[start:end], maxsplit=1)[0]
    return start + len(re.sub(r"(?:[\s,]|\b(?:and|or|next to|beside|with)\b)+$", "", description, flags=re.IGNORECASE))


def _end_of_subtree(chunk: Any) -> int:
    """The end of the subtree of a noun chunk's noun, without coordinated phrases."""
    own = [child for child in chunk.root.rights if child.dep_ not in ("cc", "conj", "punct")]
    last = max([chunk[-1], *(child.right_edge for child in own)], key=lambda token: token.i)
    return last.idx + len(last)
