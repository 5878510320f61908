"""The files of an audit: scores, and of each metric a card in every format; one page holds all cards."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from fc_bench.audit.card import Card
from fc_bench.audit.design import Design
from fc_bench.reports.audit.cards import (
    columns_frame,
    effects_frame,
    findings,
    in_short,
    main_columns,
    meanings,
    scene_table,
    summary_table,
    tables,
    title_of,
)
from fc_bench.reports.audit.effects_figure import effects_figure
from fc_bench.reports.escaping import file_name, markdown, plain, visible_data
from fc_bench.reports.figures.style import Drawing, render
from fc_bench.reports.page.figures import for_both_schemes, page_figure
from fc_bench.reports.page.page import rendered
from fc_bench.reports.page.parts import template_table
from fc_bench.reports.page.tables import page_table
from fc_bench.reports.tables.comma_separated import csv_frame, csv_tables
from fc_bench.reports.tables.latex import latex_tables
from fc_bench.reports.tables.markdown import markdown_table
from fc_bench.reports.tables.terminal import print_table
from fc_bench.run_folder.records import write_atomically

SCORES, PAGE, COLUMNS = "scores.csv.gz", "index.html", "columns.csv"
SUMMARY, SCENES, IN_SHORT = "summary.md", "scenes.md", "in-short.md"
"""What the documentation includes."""


@dataclass(frozen=True)
class Audit:
    """The result of an examination: its design, the backbone's name, the scores and the cards made of them."""

    design: Design
    backbone: str
    embedder: str
    scores: pd.DataFrame
    cards: Sequence[Card]

    @property
    def introduction(self) -> list[str]:
        """What was examined."""
        return [
            f"{len(self.cards)} metrics on {len(self.scores)} drawn pictures of {self.design.people} people with "
            f"{self.design.seeds} seeds each, measured with the models of the backbone {self.backbone} (faces: "
            f"{self.embedder}).",
            "Of every picture it is known who stands where, and how it is drawn; each is compared with a picture of "
            "the same people and the same seed that differs in one thing. What holds here holds for these models and "
            "this drawn world.",
        ]

    @cached_property
    def figures(self) -> dict[str, Drawing]:
        """The figure of each metric that has one."""
        made = {card.metric: effects_figure(card) for card in self.cards}
        return {name: drawing for name, drawing in made.items() if drawing is not None}


def write_audit(audit: Audit, folder: Path) -> list[Path]:
    """Write all files; raises OSError. The first one is the page."""
    render(list(audit.figures.values()), (".svg",))
    whole = {SUMMARY: summary_table(audit.cards), SCENES: scene_table(audit.cards)}
    files: dict[str, bytes] = {
        PAGE: _page(audit).encode(),
        **{name: f"{markdown_table(table)}\n\n{markdown(table.caption)}\n".encode() for name, table in whole.items()},
        IN_SHORT: _in_short(audit).encode(),
        COLUMNS: csv_frame(columns_frame(audit.cards)).encode(),
        SCORES: gzip.compress(audit.scores.to_csv(index=False).encode(), mtime=0),
    }
    for card in audit.cards:
        name, made = file_name(card.metric), tables(card)
        files[f"{name}.md"] = _markdown(card, audit).encode()
        files[f"{name}.csv"] = csv_tables(made).encode()
        files[f"{name}.tex"] = latex_tables(made, {}, [title_of(card), card.description]).encode()
        files[f"{name}-effects.csv"] = csv_frame(effects_frame(card)).encode()
        if card.metric in audit.figures:
            files[_figure(card)] = for_both_schemes(audit.figures[card.metric].svg())
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def show(audit: Audit, console: Console) -> None:
    """Print the summary, and of each headline column one sentence."""
    print_table(summary_table(audit.cards), console)
    for card in audit.cards:
        for column in main_columns(card):
            line = plain(f"{column.column.title}: {in_short(column)}.")
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _in_short(audit: Audit) -> str:
    lines = [
        f"- **{markdown(column.column.title)}** ({markdown(card.metric)}): {markdown(in_short(column))}."
        for card in audit.cards
        for column in main_columns(card)
    ]
    return "\n".join(lines) + "\n"


def _markdown(card: Card, audit: Audit) -> str:
    parts = [f"# {markdown(title_of(card))}", markdown(card.description), *map(markdown, audit.introduction)]
    for column in card.columns:
        about = column.column
        found = "\n".join(f"- **{markdown(name)}**: {markdown(sentence)}" for name, sentence in findings(column))
        parts += [f"## {markdown(about.title)}", f"{_direction(about.higher_is_better)}{markdown(about.description)}"]
        parts += [found] if found else []
    if card.without_values:
        names = ", ".join(markdown(column.title) for column in card.without_values)
        parts.append(f"Without a value here: {names}.")
    if card.metric in audit.figures:
        parts.append(f"![{markdown(audit.figures[card.metric].title)}]({_figure(card)})")
    for table in tables(card):
        parts += [f"## {markdown(table.title)}", markdown_table(table), markdown(table.caption)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _page(audit: Audit) -> str:
    columns = meanings(audit.cards)
    content: dict[str, Any] = {
        "introduction": audit.introduction,
        "summaries": [template_table(page_table(made(audit.cards), columns)) for made in (summary_table, scene_table)],
        "cards": [
            {
                "name": card.metric,
                "description": card.description,
                "columns": [
                    {
                        "title": column.column.title,
                        "definition": _direction(column.column.higher_is_better) + column.column.description,
                        "findings": findings(column),
                    }
                    for column in card.columns
                ],
                "figures": [{**page_figure(audit.figures[card.metric]), "address": _figure(card)}]
                if card.metric in audit.figures
                else [],
                "tables": [template_table(page_table(table, columns)) for table in tables(card)],
            }
            for card in audit.cards
        ],
    }
    return rendered("cards.html.j2", visible_data(content))


def _figure(card: Card) -> str:
    """The file of a card's figure."""
    return f"{file_name(card.metric)}.svg"


def _direction(higher_is_better: bool | None) -> str:
    return {True: "Higher is better: ", False: "Lower is better: ", None: "Neither direction is better: "}[
        higher_is_better
    ]
