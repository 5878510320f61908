"""Measured costs next to quality: which cost run belongs to the rows of quality runs, and why others do not.

A cost run measures one subject, one image at a time, with nothing else in the process. A quality run records its costs
while it generates images in batches. The two never share a column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fc_bench.analysis.aggregate import Row
from fc_bench.analysis.states import doubts
from fc_bench.cost.amortisation import total_seconds
from fc_bench.cost.figures import Figure
from fc_bench.cost.results import GIB, MIB, MethodCost
from fc_bench.protocols import Column
from fc_bench.reports.cost.notes import footnotes, machine
from fc_bench.reports.cost.run import CostRun
from fc_bench.reports.frame import Run, labels

SUBJECTS = 1
"""Of a cost run's customization."""
_SECONDS = "measured in a cost run, 95 % interval in brackets; ≈ extrapolated from fewer steps"
COLUMNS = (
    Column(
        "customize_seconds",
        "s to customize",
        False,
        f"to customize to one subject, {_SECONDS}",
        digits=3,
        significant=True,
    ),
    Column(
        "image_seconds", "s per image", False, f"for one image generated alone, {_SECONDS}", digits=3, significant=True
    ),
    Column("peak_memory_gib", "peak GiB", False, "peak memory of all phases, measured in a cost run", digits=2),
    Column("artefact_mib", "MiB kept", False, "stored for one subject; 1 MiB = 2^20 bytes", significant=True),
)
TOTAL = Column(
    "total_seconds", "total time (s)", False, "to customize and to generate one image", digits=3, significant=True
)


@dataclass(frozen=True)
class Beside:
    """Measured costs of the methods of quality runs: label -> column -> row as in the frame.

    `extrapolated` of a row says how its value was obtained. `notes` name the cost run, and the methods without a
    measurement.
    """

    name: str
    rows: Mapping[str, Mapping[str, Row]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def costs_beside(runs: Sequence[Run], cost_runs: Sequence[CostRun]) -> tuple[Beside | None, list[str]]:
    """The costs that belong to the rows of comparable quality runs, and the reasons why others do not.

    They belong if backbone and sampler are the same, and to each method with the same options. Weights may differ,
    because neither time nor memory depends on their values. If several cost runs belong, none is chosen.
    """
    reasons = {cost.name: _obstacle(runs, cost) for cost in cost_runs}
    fitting = [cost for cost in cost_runs if reasons[cost.name] is None]
    remarks = [
        f"The costs of {name} are not included: {reason}." for name, reason in reasons.items() if reason is not None
    ]
    if len(fitting) > 1:
        names = ", ".join(cost.name for cost in fitting)
        remarks.append(f"The costs of {names} are not included: each of them fits, so none is chosen.")
    if len(fitting) != 1:
        return None, remarks
    (cost_run,) = fitting
    found: dict[str, dict[str, Row]] = {}
    without: list[str] = []
    changed: list[str] = []
    for (name, method), label in labels(runs).items():
        row = next(run for run in runs if run.name == name).settings["methods"].get(method)
        if row is None:
            continue
        cost = _cost_of(cost_run, row)
        if cost is None:
            without.append(label)
        else:
            found[label] = _rows(cost)
            changed += [f"{label}: {note}." for note in cost.notes if cost.options_changed]
    if not found:
        return None, [*remarks, f"The costs of {cost_run.name} are not included: its methods have other options."]
    notes = [
        f"Customization, seconds per image, peak memory and storage of one subject were measured in the cost run "
        f"{cost_run.name} ({machine(cost_run.settings)}); the table Cost has the costs that the quality run recorded."
    ]
    notes += doubts({**{run.name: run.settings for run in runs}, cost_run.name: cost_run.settings})
    if without:
        notes.append(f"{cost_run.name} did not measure these methods with the same options: {', '.join(without)}.")
    notes += changed
    notes += [f"{cost_run.name}: {text}" for text in footnotes(cost_run.costs).values()]
    return Beside(cost_run.name, found, tuple(notes)), remarks


def _obstacle(runs: Sequence[Run], cost: CostRun) -> str | None:
    for run in runs:
        for key, what in (("backbone", "backbone"), ("sampler", "sampler settings")):
            if run.settings[key] != cost.settings[key]:
                return f"{run.name} has another {what}" if key == "backbone" else f"{run.name} has other {what}"
    return None


def _cost_of(cost_run: CostRun, row: Mapping[str, object]) -> MethodCost | None:
    """The costs of the same method with the same options."""
    methods = cost_run.settings["methods"]
    same = (
        cost for cost in cost_run.costs if all(methods[cost.method][key] == row[key] for key in ("name", "options"))
    )
    return next(same, None)


def _rows(cost: MethodCost) -> dict[str, Row]:
    sized = {
        "peak_memory_gib": None if cost.peak is None else Figure(cost.peak / GIB),
        "artefact_mib": None if cost.artefact_bytes is None else Figure(cost.artefact_bytes / MIB),
    }
    customize = cost.customize if cost.personalizes else Figure(0.0)
    timed = {
        "customize_seconds": customize,
        "image_seconds": cost.image,
        TOTAL.name: total_seconds(cost, 1, load=False),
    }
    return {name: _row(name, figure) for name, figure in {**timed, **sized}.items()}


def _row(column: str, figure: Figure | None) -> Row:
    there = {} if figure is None else {"mean": figure.value, "low": figure.low, "high": figure.high}
    return {
        "kind": "method",
        "subjects": SUBJECTS,
        "column": column,
        **{"mean": None, "low": None, "high": None, **there},
        "n_ok": 0 if figure is None else 1,
        "n_total": 1,
        "extrapolated": figure is not None and figure.extrapolated,
    }
