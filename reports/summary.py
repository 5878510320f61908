"""What a run came to, in sentences computed from its numbers; none says more than an interval does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fc_bench.aggregate import OVERALL, Row
from fc_bench.differences import method_differences
from fc_bench.protocols import Column
from fc_bench.reports import frame
from fc_bench.reports.frame import Run
from fc_bench.reports.tables import number

FOCUS = "fastcomposer"
"""The method whose place is told where it was run."""
NAMED = 3
"""So many methods are named in a row; more are counted."""


class PairedDifferences:
    """The paired differences between all methods of runs that are alike, computed when they are first asked for."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._known: dict[str, dict[tuple[str, int, str], Row]] = {}

    def told_apart(self, label: str, against: str, subjects: int, column: str) -> int | None:
        """1 or -1 where the whole interval of `label` minus `against` is above or below 0, 0 where it holds 0.

        None where there is no interval: too few subject sets, or no pair.
        """
        if against not in self._known:
            rows = method_differences(self._runs[0].folder, against) if len(self._runs) == 1 else []
            self._known[against] = {(row["method"], row["subjects"], row["column"]): row for row in rows}
        row = self._known[against].get((label, subjects, column))
        if row is None or row["low"] is None:
            return None
        return 1 if row["low"] > 0 else -1 if row["high"] < 0 else 0


def summary(runs: Sequence[Run], differences: PairedDifferences) -> list[str]:
    """Of runs that are alike: the best method by number of subjects, FastComposer's place, costs, what is missing."""
    results, columns = frame.rows(runs), frame.columns(runs)
    names = frame.labels(runs)
    focus = {
        names[run.name, label] for run in runs for label, row in run.settings["methods"].items() if row["name"] == FOCUS
    }
    sentences = []
    told: list[str] = []
    sizes = sorted({row["subjects"] for row in results})
    for subjects in sizes:
        part = [row for row in results if row["subjects"] == subjects and row["category"] == OVERALL]
        column = _first_measured(part, columns)
        if column is None:
            continue
        sentence, named = _ranking(part, column, subjects, focus, differences)
        sentences.append(sentence)
        told += named
    if told:
        sentences += _costs(results, sizes[0], list(dict.fromkeys(told)))
    return [*sentences, _completeness(runs)]


def _ranking(
    part: Sequence[Row], column: Column, subjects: int, focus: set[str], differences: PairedDifferences
) -> tuple[str, list[str]]:
    """Who has the best mean, from whom it is told apart, and where FastComposer is; the methods named."""
    measured = [row for row in part if row["column"] == column.name and row["mean"] is not None]
    rows = {row["label"]: row for row in measured if row["kind"] == "method"}
    anchors = {row["method"]: row for row in measured if row["kind"] == "anchor"}
    better = 1 if column.higher_is_better else -1
    order = sorted(rows, key=lambda name: -better * rows[name]["mean"])
    who = "With one subject" if subjects == 1 else f"With {subjects} subjects together"
    best, others = order[0], order[1:]
    shown = _estimate(rows[best], column)
    if not others:
        beside = [f"{word} {_estimate(anchors[name], column)}" for name, word in _WORDS.items() if name in anchors]
        return f"{who}, {best} has {column.title} {shown}{_in_brackets(beside)}.", [best]
    text = f"{who}, {best} has the {'highest' if better > 0 else 'lowest'} {column.title}, {shown}"
    apart = {name: differences.told_apart(name, best, subjects, column.name) for name in others}
    equal = [name for name in others if apart[name] != -better]
    if all(verdict is None for verdict in apart.values()):
        text += "; there are too few subject sets to tell the methods apart"
    elif not equal:
        text += ", and the paired differences tell it apart from every other method"
    else:
        text += f"; the paired differences do not tell it apart from {_listed(equal)}"
    followed = next((name for name in others if name in focus), None)
    if followed is None or best in focus:
        return text + ".", [best]
    place = order.index(followed) + 1
    verdicts = [differences.told_apart(name, followed, subjects, column.name) for name in order if name != followed]
    first, last = 1 + verdicts.count(better), len(order) - verdicts.count(-better)
    text += f". {followed} is {_ordinal(place)} of {len(order)} with {_estimate(rows[followed], column)}"
    if (first, last) != (place, place):
        text += f"; the paired differences allow places {first} to {last}"
    return text + ".", [best, followed]


def _costs(results: Sequence[Row], subjects: int, methods: Sequence[str]) -> list[str]:
    """Seconds to customize and to generate, where they were measured."""
    parts = []
    for method in methods:
        own = {row["column"]: row["mean"] for row in results if row["label"] == method and row["subjects"] == subjects}
        customize, image = own.get("customize_seconds"), own.get("image_seconds")
        if customize is not None and image is not None:
            parts.append(f"{method} takes {customize:.2f} s to customize and {image:.2f} s an image")
    who = "one subject" if subjects == 1 else f"{subjects} subjects"
    return [f"For {who}, {'; '.join(parts)}."] if parts else []


def _completeness(runs: Sequence[Run]) -> str:
    """How many samples are there, and which have no image or no value."""
    rows = frame.samples(runs)
    names = [column.name for column in frame.columns(runs)]
    finished = [row for row in rows if row["status"] == "ok"]
    failed = sum(1 for row in rows if row["status"] == "error")
    missing = len(rows) - len(finished) - failed
    unscored = sum(1 for row in finished if all(row.get(name) is None for name in names))
    broken = sum(1 for run in runs for record in run.folder.scores().values() if record["status"] == "error")
    if len(finished) == len(rows):
        parts = [f"All {len(rows)} samples are there"]
    else:
        reasons = [f"{failed} failed"] * bool(failed) + [f"{missing} were not reached"] * bool(missing)
        parts = [f"{len(finished)} of {len(rows)} samples are there, {' and '.join(reasons)}: no mean holds them"]
    parts += [f"{unscored} have no value of any measure"] * bool(unscored)
    parts += [f"{broken} scores failed"] * bool(broken)
    return "; ".join(parts) + "."


_WORDS: Mapping[str, str] = {"ceiling": "own photographs:", "floor": "somebody else's:"}


def _first_measured(part: Sequence[Row], columns: Sequence[Column]) -> Column | None:
    """The first headline column with a direction that a method has a value of."""
    filled = {row["column"] for row in part if row["mean"] is not None and row["kind"] == "method"}
    wanted = [column for column in columns if column.headline and column.higher_is_better is not None]
    return next((column for column in wanted if column.name in filled), None)


def _estimate(row: Row, column: Column) -> str:
    value = number(row["mean"], column)
    if row["low"] is None:
        return value
    return f"{value} [{number(row['low'], column)}, {number(row['high'], column)}]"


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:NAMED]) if len(names) > NAMED + 1 else list(names)
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _in_brackets(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def _ordinal(place: int) -> str:
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"
