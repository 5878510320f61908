"""What the tests read out of the documents: their fenced blocks and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "DESIGN.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
_FENCE = re.compile(r'^```(\w+)(?: title="([^"\n]*)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
_EXPANSION = re.compile(r"\$\(\(.*?\)\)|\$\{?\w+\}?")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, first line, language, title (empty: none) and content."""

    page: Path
    line: int
    language: str
    title: str
    content: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """The words of each command, without comments; what a shell would fill in is 1."""
        for line in self.content.replace("\\\n", " ").splitlines():
            words: list[str] = []
            for word in shlex.split(_EXPANSION.sub("1", line), comments=True):
                if word in ("&&", "&"):
                    yield words
                    words = []
                else:
                    words.append(word)
            if words:
                yield words


def blocks(page: Path, language: str) -> list[Block]:
    """The fenced blocks of a page in a language."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text[: fence.start()].count("\n") + 2, fence[1], fence[2] or "", fence[3])
        for fence in _FENCE.finditer(text)
        if fence[1] == language
    ]


def commands(program: str) -> list[tuple[Block, list[str]]]:
    """Every command of a program in the bash blocks of all pages, without the program's name."""
    return [
        (block, words[1:])
        for page in PAGES
        for block in blocks(page, "bash")
        for words in block.commands()
        if words and words[0] == program
    ]
