"""Metric cards in words and tables; every sentence follows from the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import pandas as pd

from fc_bench.analysis.discrimination import Statistic
from fc_bench.audit.card import NOTABLE, Card, ColumnCard, LevelEffect
from fc_bench.audit.design import BLEND, DISTANCES, OTHER_PEOPLE, TRAIT_DISTANCE, Key
from fc_bench.protocols import Column
from fc_bench.reports.tables.model import NOTHING, Cell, Heading, Table

MOST_NAMED = 8
"""Levels that a sentence names; the table has all."""
REQUESTED = ("style", "accessory", "action", "background")
"""Factors that a prompt may request."""
CHANCE = 0.5
_WORDS = {1: "one", 2: "two", 3: "three"}


def title_of(card: Card) -> str:
    """The card's title."""
    return f"Metric card: {card.metric}"


def tables(card: Card) -> list[Table]:
    """The scale of each column, what every level costs in each, and same and other people by level."""
    return [table for table in (_scales(card), _effects(card), *map(_separations, main_columns(card))) if table.rows]


def main_columns(card: Card) -> list[ColumnCard]:
    """The headline columns, or the first one with a scale."""
    scaled = [column for column in card.columns if column.scales]
    return [column for column in scaled if column.column.headline] or scaled[:1]


def findings(column: ColumnCard) -> list[tuple[str, str]]:
    """What an examination found about a column: pairs of a heading and a sentence."""
    found = [("left out", _unseen(column))] if column.unseen else []
    found += [("scale", _scale_words(column))] if column.scales else []
    judged = column.column.higher_is_better is not None
    found += _named("sees" if judged else "falls with", column.sees)
    found += _named("rewards" if judged else "rises with", column.rewards, -1)
    if column.barely:
        found.append((f"moved by less than {NOTABLE:g} of the scale", _names(column.barely)))
    if column.blind_to:
        found.append(("blind to", _names(column.blind_to)))
    if column.leaves_out:
        found.append(("leaves out", _names(column.leaves_out, lambda one: f"{100 * one.missing:.0f} %")))
    if column.biases:
        found.append(("moved by what ought not to matter", _names(_largest(column.biases), _cost)))
    if still := _unmoved(column):
        found.append(("not moved by", ", ".join(still)))
    return [*found, *_resolution(column)]


def in_short(column: ColumnCard) -> str:
    """One sentence: how many faults a column sees, what it is blind to and what moves it most."""
    judged = column.column.higher_is_better is not None
    parts = [f"{'sees' if judged else 'falls with'} {len(column.sees)} of {len(column.faults)} faults"]
    if column.unseen:
        parts.append(_unseen(column))
    if column.rewards:
        parts.append(f"{'rewards' if judged else 'rises with'} {_names(column.rewards[:3])}")
    if column.leaves_out:
        parts.append(f"leaves out {_names(column.leaves_out[:3])}")
    composition = [one for one in column.blind_to if one.level.factor in ("composition", OTHER_PEOPLE[0])]
    if composition:
        parts.append(f"blind to {_names(composition[:4])}")
    if column.biases:
        parts.append(f"moved by {_names(_largest(column.biases)[:3], _cost)}")
    return "; ".join(parts)


def columns_frame(cards: Sequence[Card]) -> pd.DataFrame:
    """A row for each column: metric, title, and the sentences of `in_short` and `requests`."""
    rows = [
        (column.column.name, card.metric, column.column.title, in_short(column), requests(column))
        for card in cards
        for column in card.columns
    ]
    return pd.DataFrame(rows, columns=["column", "metric", "title", "in_short", "requests"])


def requests(column: ColumnCard) -> str:
    """What a request leaves of the scale, by factor; empty for a column that does not separate people."""
    by_factor: dict[str, list[float]] = {}
    for (factor, _), part in _left(column).items():
        if factor in REQUESTED:
            by_factor.setdefault(factor, []).append(part)
    parts = []
    for factor, own in by_factor.items():
        low, high = f"{min(own):.2f}", f"{max(own):.2f}"
        parts.append(f"{factor} {low}" + (f" to {high}" if high != low else ""))
    return ", ".join(parts)


def effects_frame(card: Card) -> pd.DataFrame:
    """Every effect of a card with all digits."""
    rows = [
        {
            "column": column.column.name,
            "factor": one.level.factor,
            "level": one.level.name,
            "role": one.role,
            "base": ": ".join(one.level.base),
            "subjects": one.subjects,
            "shown": "other people" if one.others else "the right people",
            "pictures": one.pictures,
            "mean": one.mean,
            "effect": one.effect.mean,
            "low": one.effect.low,
            "high": one.effect.high,
            "people": one.effect.people,
            "standardized": one.effect.standardized,
            "cost": one.cost,
            "cost_low": one.low,
            "cost_high": one.high,
            "missing": one.missing,
        }
        for column in card.columns
        for one in column.effects
    ]
    return pd.DataFrame(rows)


def summary_table(cards: Sequence[Card]) -> Table:
    """The headline columns of all metrics."""
    rows = [
        (Cell(column.column.title), Cell(card.metric), *_scale_cells(column))
        for card in cards
        for column in main_columns(card)
    ]
    heads = (Heading("measure", number=False), Heading("metric", number=False), *_SCALE_HEADS)
    return Table("audit", "What the columns are worth", heads, tuple(rows), caption=_SCALE_CAPTION)


def scene_table(cards: Sequence[Card]) -> Table:
    """What is left between the person and a stranger where the prompt requests a style, an accessory or an action."""
    columns = [(column, found) for card in cards for column in main_columns(card) if (found := _left(column))]
    places = dict.fromkeys(key for _, found in columns for key in found if key[0] in REQUESTED)
    rows = [
        (Cell(": ".join(key)), *(Cell(f"{found[key]:.2f}" if key in found else NOTHING) for _, found in columns))
        for key in places
    ]
    heads = (Heading("the prompt requests", number=False), *(Heading(column.column.title) for column, _ in columns))
    caption = (
        "Difference of the right person and a stranger, both as the prompt requests, as part of the difference in a "
        "photo without anything requested. Below 1, a method that follows the prompt has less to gain."
    )
    return Table(
        "audit-scenes", "What a requested style or accessory leaves of the scale", heads, tuple(rows), 0, caption
    )


def _left(column: ColumnCard) -> dict[Key, float]:
    """What each level leaves between the right person and a stranger, as part of what is usual; none by chance."""
    if not column.separations or (column.separations[0].auc.low or 0) <= CHANCE:
        return {}
    usual = column.separations[0].same - column.separations[0].other
    return {one.level: (one.same - one.other) / usual for one in column.separations}


_SCALE_HEADS = (
    Heading("full marks"),
    Heading("floor"),
    Heading("floor is", number=False),
    Heading("AUC"),
    Heading("equal error rate"),
    Heading("rank correlation, trait distance"),
    Heading("rank correlation, share of a stranger"),
    Heading("seen from distance"),
    Heading("falls until distance"),
    Heading("at the ceiling, %"),
    Heading("at the floor, %"),
    Heading("over seeds"),
)
_SCALE_CAPTION = (
    "Full marks are the mean of pictures as requested, the floor that of the fault named beside it; one subject where "
    "possible, two otherwise. AUC and equal error rate: one subject against strangers in the same scene. At the "
    "ceiling and at the floor: pictures as requested at the column's best value, and strangers at its worst. Over "
    "seeds: standard deviation of pictures of the same people, as part of the scale. Brackets: 95 % intervals over "
    "people."
)


def _scales(card: Card) -> Table:
    rows = tuple((Cell(column.column.title), *_scale_cells(column)) for column in card.columns)
    heads = (Heading("column", number=False), *_SCALE_HEADS)
    return Table(f"scale-{card.metric}", f"{card.metric}: scale", heads, rows, caption=_SCALE_CAPTION)


def _scale_cells(column: ColumnCard) -> Iterator[Cell]:
    digits = column.column.digits
    scale = column.scales[min(column.scales)] if column.scales else None
    yield Cell(f"{scale.ceiling:.{digits}f}" if scale else NOTHING)
    yield Cell(f"{scale.floor:.{digits}f}" if scale else NOTHING)
    yield Cell(_key(scale.of) + ("" if scale.subjects == 1 else f" ({scale.subjects} subjects)") if scale else NOTHING)
    yield _statistic(column.separations[0].auc if column.separations else None)
    yield _statistic(column.equal_error)
    yield _statistic(column.correlations.get(TRAIT_DISTANCE), 2)
    yield _statistic(column.correlations.get(BLEND), 2)
    for amount in (column.seen_from, column.falls_until):
        yield Cell(NOTHING if amount is None else f"{amount:g}")
    for share in (column.at_ceiling, column.at_floor):
        yield Cell(NOTHING if share is None else f"{100 * share:.0f}")
    yield Cell(NOTHING if column.repeatability is None else f"{column.repeatability:.2f}")


def _effects(card: Card) -> Table:
    """A row for each level with the right people, a column for each column of the metric that has a scale."""
    columns = [column for column in card.columns if column.scales]
    by_row: dict[tuple[int, Key], dict[str, LevelEffect]] = {}
    for column in columns:
        for one in column.effects:
            if not one.others:
                by_row.setdefault((one.subjects, one.level.key), {})[column.column.name] = one
    rows = []
    for (subjects, (factor, name)), found in sorted(by_row.items(), key=lambda item: item[0][0]):
        role = next(iter(found.values())).role
        cells = [_cost_cell(found.get(column.column.name)) for column in columns]
        rows.append((Cell(f"{factor}: {name}"), Cell(role), Cell(str(subjects)), *cells))
    heads = (
        Heading("factor: level", number=False),
        Heading("role", number=False),
        Heading("subjects"),
        *(Heading(column.column.title) for column in columns),
    )
    caption = (
        "Cost of each level as part of the scale (full marks minus floor), against the same people and seeds; negative "
        "where the value is better, bold where a fault is not counted against an image. Brackets: 95 % intervals over "
        "people."
    )
    return Table(f"effects-{card.metric}", f"{card.metric}: what costs how much", heads, tuple(rows), caption=caption)


def _separations(column: ColumnCard) -> Table:
    """Full marks and floor at each level that strangers are shown at, too."""
    digits, scale = column.column.digits, column.scales.get(1)
    rows = []
    for one in column.separations if scale else ():
        left = (one.same - one.other) / scale.length if scale else 0.0
        rows.append(
            (
                Cell(_key(one.level)),
                Cell(f"{one.same:.{digits}f}"),
                Cell(f"{one.other:.{digits}f}"),
                Cell(f"{left:.2f}"),
                _statistic(one.auc),
            )
        )
    heads = (
        Heading("factor: level", number=False),
        Heading("the person"),
        Heading("a stranger"),
        Heading("difference, of the usual one"),
        Heading("AUC"),
    )
    name = column.column.title
    return Table(f"same-other-{column.column.name}", f"{name}: same and other by level", heads, tuple(rows))


def _cost_cell(one: LevelEffect | None) -> Cell:
    if one is None:
        return Cell(NOTHING)
    if one.cost is None:
        return Cell("left out" if one.missing == 1 else NOTHING)
    interval = None if one.low is None or one.high is None else (_signed(one.low), _signed(one.high))
    return Cell(_signed(one.cost), interval, best=one.role == "fault" and not one.toward_floor)


def _signed(cost: float) -> str:
    text = f"{cost:.2f}"
    return "0.00" if text == "-0.00" else text


def _statistic(found: Statistic | None, digits: int = 3) -> Cell:
    if found is None or found.value is None:
        return Cell(NOTHING)
    ends = None if found.low is None or found.high is None else (f"{found.low:.{digits}f}", f"{found.high:.{digits}f}")
    return Cell(f"{found.value:.{digits}f}", ends)


def _unseen(column: ColumnCard) -> str:
    return f"no face is found in the reference photographs of {column.unseen} of {column.people} people"


def _scale_words(column: ColumnCard) -> str:
    digits = column.column.digits
    return "; ".join(
        f"{_WORDS[size]} subject{'s' * (size > 1)}: {scale.ceiling:.{digits}f} as requested, {scale.floor:.{digits}f} "
        f"for {_key(scale.of)}"
        for size, scale in column.scales.items()
        if size in _WORDS
    )


def _resolution(column: ColumnCard) -> Iterator[tuple[str, str]]:
    """How fine and how far a column sees likeness."""
    found = column.correlations.get(TRAIT_DISTANCE)
    if found is None or found.value is None or column.seen_from is None:
        return
    words = f"a person at a trait distance of {column.seen_from:g} scores lower than the right one"
    if column.falls_until is not None and column.falls_until < max(DISTANCES):
        words += f"; beyond {column.falls_until:g} the value falls no further"
    yield "resolution", f"{words}; rank correlation {_statistic(found, 2).whole}"


def _unmoved(column: ColumnCard) -> list[str]:
    """Factors of which no level moves the value, for any number of subjects."""
    still = {id(one) for one in column.invariant_to}
    by_factor: dict[str, list[bool]] = {}
    for one in column.nuisances:
        factor = "places and order of the people" if one.level.factor == "composition" else one.level.factor
        by_factor.setdefault(factor, []).append(id(one) in still)
    return [factor for factor, own in by_factor.items() if all(own)]


def _named(heading: str, effects: Sequence[LevelEffect], sign: int = 1) -> list[tuple[str, str]]:
    return [(heading, _names(effects, lambda one: _signed(sign * (one.cost or 0))))] if effects else []


def _names(effects: Iterable[LevelEffect], number: Callable[[LevelEffect], str] | None = None) -> str:
    """The levels in words, each with its number for each number of subjects if there is one to say."""
    by_level: dict[Key, list[LevelEffect]] = {}
    for one in effects:
        by_level.setdefault(one.level.key, []).append(one)
    words = []
    for key, own in list(by_level.items())[:MOST_NAMED]:
        sizes = [one.subjects for one in own]
        said = [number(one) if number else "" for one in own]
        if sizes != [1]:
            said = [f"{text} with {_WORDS.get(size, size)}".strip() for text, size in zip(said, sizes, strict=True)]
        words.append(_key(key) + (f" ({', '.join(said)})" if any(said) else ""))
    more = len(by_level) - MOST_NAMED
    return ", ".join(words) + (f" and {more} more" if more > 0 else "")


def _cost(one: LevelEffect) -> str:
    return _signed(one.cost or 0)


def _largest(effects: Sequence[LevelEffect]) -> list[LevelEffect]:
    """Of each factor the level with the largest effect; the effects are sorted."""
    found: dict[str, LevelEffect] = {}
    for one in effects:
        found.setdefault(one.level.factor, one)
    return list(found.values())


def _key(key: Key) -> str:
    factor, name = key
    named = ("people", "composition", "prompt", "copying", "attention", "siblings")
    return name if factor in named else f"{factor} {name}"


def meanings(cards: Sequence[Card]) -> list[Column]:
    """The columns of all cards."""
    return [column.column for card in cards for column in card.columns]
