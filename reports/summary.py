"""Summary of runs in sentences computed from their numbers; none claims more than an interval shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fc_bench.analysis.aggregate import OVERALL, REFERENCES, Row
from fc_bench.analysis.differences import SAMPLE_KEY, paired_estimate
from fc_bench.analysis.statistics import Estimate
from fc_bench.protocols import Column
from fc_bench.reports import frame
from fc_bench.reports.frame import Run
from fc_bench.reports.quality.contents import number

FOCUS = "fastcomposer"
"""The method whose rank is reported if it was run."""
NAMED = 3
"""Largest number of methods that are named; more are counted."""


class PairedDifferences:
    """The paired differences between the methods of comparable runs, each computed at first use."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._columns = {column.name: column for column in frame.columns(runs)}
        self._samples = frame.paired_samples(runs)
        self._rows = self._samples.groupby(["method", "subjects"], sort=False).indices
        self._known: dict[tuple[str, str, int, str], Estimate | None] = {}

    def _of(self, label: str, subjects: int, column: str) -> pd.DataFrame:
        """The samples of one method and number of subjects that pairing needs."""
        return self._samples[[*SAMPLE_KEY, "image", column]].take(
            self._rows.get((label, subjects), np.empty(0, dtype=int))
        )

    def sign(self, label: str, against: str, subjects: int, column: str) -> int | None:
        """1 or -1 if the whole interval of `label` minus `against` is above or below 0, 0 if it contains 0.

        None without an interval: too few subject sets, or no pair of values.
        """
        key = (label, against, subjects, column)
        if key not in self._known:
            base, other = (self._of(name, subjects, column) for name in (against, label))
            self._known[key] = paired_estimate(base, other, self._columns[column])
        found = self._known[key]
        if found is None or found.low is None or found.high is None:
            return None
        return 1 if found.low > 0 else -1 if found.high < 0 else 0


def summary(runs: Sequence[Run], differences: PairedDifferences, costs: bool = True) -> list[str]:
    """The summary of comparable runs: the best method by number of subjects, FastComposer's rank, missing samples.

    With `costs`, also the seconds that the runs recorded.
    """
    results, columns, names = frame.rows(runs), frame.columns(runs), frame.labels(runs)
    focus = {
        names[run.name, label] for run in runs for label, row in run.settings["methods"].items() if row["name"] == FOCUS
    }
    sentences: list[str] = []
    named_methods: list[str] = []
    sizes = sorted({row["subjects"] for row in results})
    for subjects in sizes:
        part = [row for row in results if row["subjects"] == subjects and row["category"] == OVERALL]
        column = _first_measured(part, columns)
        if column is not None and len(set(frame.requested_samples(runs)[subjects].values())) > 1:
            sentences.append(f"{_with(subjects)}, the methods have different samples, so none is ranked.")
        elif column is not None:
            sentence, named = _ranking(part, column, subjects, focus, differences)
            sentences += [sentence] if sentence else []
            named_methods += named
    if costs and named_methods and not {"customize_seconds", "image_seconds"} & set(frame.incomparable_costs(runs)):
        sentences += _costs(results, sizes[0], list(dict.fromkeys(named_methods)))
    return [*sentences, _completeness(runs)]


def _ranking(
    part: Sequence[Row], column: Column, subjects: int, focus: set[str], differences: PairedDifferences
) -> tuple[str, list[str]]:
    """The best mean, the methods it differs from significantly, and FastComposer's rank; also the named methods.

    As in the tables, only methods that see the subject and have all values are ranked.
    """
    blind = {row["label"] for row in part if row["column"] == REFERENCES.name and row["mean"] == 0}
    measured = [row for row in part if row["column"] == column.name and row["mean"] is not None]
    methods = {row["label"]: row for row in measured if row["kind"] == "method" and row["label"] not in blind}
    rows = {label: row for label, row in methods.items() if row["n_ok"] == row["n_total"]}
    if not rows:
        return "", []
    better = 1 if column.higher_is_better else -1
    order = sorted(rows, key=lambda name: -better * rows[name]["mean"])
    who = _with(subjects)
    best, others = order[0], order[1:]
    shown = _estimate(rows[best], column)
    if not others:
        anchors = {row["method"]: row for row in measured if row["kind"] == "anchor"}
        beside = [f"{words} {_estimate(anchors[name], column)}" for name, words in _WORDS.items() if name in anchors]
        around = f" ({', '.join(beside)})" if beside else ""
        return f"{who}, {best} has {column.title} {shown}{around}.{_unranked(methods, rows)}", [best]
    text = f"{who}, {best} has the {'highest' if better > 0 else 'lowest'} {column.title}, {shown}"
    signs = {name: differences.sign(name, best, subjects, column.name) for name in others}
    equal = [name for name in others if signs[name] != -better]
    if all(sign is None for sign in signs.values()):
        text += "; there are too few subject sets to distinguish the methods"
    elif not equal:
        everyone = _listed(others) if len(others) <= NAMED else f"all {len(others)} others"
        text += f", significantly different from {everyone} by the paired differences"
    else:
        text += f"; by the paired differences it is not significantly different from {_listed(equal)}"
    text, named = text + ".", [best]
    followed = next((name for name in others if name in focus), None)
    if followed is not None and best not in focus:
        text += f" {_place(followed, order, rows, column, subjects, differences)}"
        named.append(followed)
    return text + _unranked(methods, rows), named


def _unranked(methods: Mapping[str, Row], ranked: Mapping[str, Row]) -> str:
    partial = [label for label in methods if label not in ranked]
    return f" Not ranked, because values are missing: {_listed(partial)}." if partial else ""


def _place(
    label: str,
    order: Sequence[str],
    rows: Mapping[str, Row],
    column: Column,
    subjects: int,
    differences: PairedDifferences,
) -> str:
    """The rank of a method by its mean, and the ranks that the paired differences allow."""
    better = 1 if column.higher_is_better else -1
    place = order.index(label) + 1
    signs = [differences.sign(name, label, subjects, column.name) for name in order if name != label]
    first, last = 1 + signs.count(better), len(order) - signs.count(-better)
    text = f"{label} is {_ordinal(place)} of {len(order)} with {_estimate(rows[label], column)}"
    allowed = "" if (first, last) == (place, place) else f"; the paired differences allow ranks {first} to {last}"
    return f"{text}{allowed}."


def _costs(results: Sequence[Row], subjects: int, methods: Sequence[str]) -> list[str]:
    """Seconds to customize and to generate, if they were measured."""
    parts = []
    for method in methods:
        own = {row["column"]: row["mean"] for row in results if row["label"] == method and row["subjects"] == subjects}
        customize, image = own.get("customize_seconds"), own.get("image_seconds")
        if customize is not None and image is not None:
            parts.append(f"{method} takes {customize:.2f} s to customize and {image:.2f} s an image")
    return [f"For {frame.who(subjects)}, {'; '.join(parts)}."] if parts else []


def _completeness(runs: Sequence[Run]) -> str:
    """Number of samples, and of those without an image or a value."""
    names = [column.name for column in frame.columns(runs)]
    counts = [_counted(run, names) for run in runs]
    planned, finished, failed, unscored = (sum(own) for own in zip(*counts, strict=True))
    missing = planned - finished - failed
    broken = sum(run.measured.failed_scores for run in runs)
    if finished == planned:
        parts = [f"All {planned} samples are there"]
    else:
        reasons = [f"{failed} failed"] * bool(failed) + [f"{missing} were not reached"] * bool(missing)
        parts = [f"{finished} of {planned} samples are there, {' and '.join(reasons)}: the means do not include them"]
    parts += [f"{unscored} have no value of any measure"] * bool(unscored)
    parts += [f"{broken} scores failed"] * bool(broken)
    return "; ".join(parts) + "."


def _counted(run: Run, columns: Sequence[str]) -> tuple[int, int, int, int]:
    """Samples planned, finished, failed, and finished without any value."""
    samples = run.samples
    finished = samples["status"] == "ok"
    valued = samples.loc[:, [name for name in columns if name in samples]].notna().any(axis=1)
    return len(samples), int(finished.sum()), int((samples["status"] == "error").sum()), int((finished & ~valued).sum())


_WORDS: Mapping[str, str] = {"ceiling": "own photographs:", "floor": "other person:"}


def _first_measured(part: Sequence[Row], columns: Sequence[Column]) -> Column | None:
    """The first headline column with a direction and a value of any method."""
    filled = {row["column"] for row in part if row["mean"] is not None and row["kind"] == "method"}
    wanted = [column for column in columns if column.headline and column.higher_is_better is not None]
    return next((column for column in wanted if column.name in filled), None)


def _estimate(row: Row, column: Column) -> str:
    value = number(row["mean"], column)
    if row["low"] is None:
        return value
    return f"{value} [{number(row['low'], column)}, {number(row['high'], column)}]"


def _with(subjects: int) -> str:
    return "With one subject" if subjects == 1 else f"With {subjects} subjects together"


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:NAMED]) if len(names) > NAMED + 1 else list(names)
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _ordinal(place: int) -> str:
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"
