"""Summary of a cost run in sentences computed from its figures."""

from __future__ import annotations

from collections.abc import Sequence

from fc_bench.cost.amortisation import SUBJECTS, break_even, speed_up, stored_bytes, total_seconds
from fc_bench.cost.figures import Figure
from fc_bench.cost.results import MethodCost
from fc_bench.reports.cost.cells import ROUGHLY, figure_cell, in_bytes, in_images, significant
from fc_bench.reports.cost.notes import on_quality
from fc_bench.reports.cost.run import CostRun
from fc_bench.reports.cost.tables import CROWDED, reference, tuned
from fc_bench.reports.literature import published_speed_up

MINUTE, HOUR, DAY = 60, 3600, 86_400


def cost_summary(run: CostRun) -> list[str]:
    """Time to a new subject's first image, break-even points of tuning, storage, and limits of the figures."""
    costs = run.costs
    sentences = [*_first_image(costs, run.settings["backbone"]), *_break_even(costs), *_storage(costs), *_trust(costs)]
    return [*sentences, on_quality(run.settings)]


def in_time(seconds: float) -> str:
    """Seconds in a suitable unit."""
    for size, unit in ((DAY, "days"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{significant(seconds)} s"


def _first_image(costs: Sequence[MethodCost], backbone: str) -> list[str]:
    fast = reference(costs)
    first = {cost.method: total_seconds(cost, 1, load=False) for cost in costs if cost.personalizes}
    known = {method: figure for method, figure in first.items() if figure is not None}
    if fast is None or fast.method not in known:
        parts = [f"{method} {_time(figure)}" for method, figure in known.items()]
        return [f"A new subject's first image takes, including customization: {', '.join(parts)}."] if parts else []
    ratios = {cost.method: found for cost in tuned(costs) if (found := speed_up(fast, cost)) is not None}
    text = f"{fast.method} gives the first image of a new subject after {_time(known[fast.method])}"
    if not ratios:
        return [f"{text}, including customization."]
    parts = [f"{method} after {_time(known[method])} ({figure_cell(ratios[method], 'x').whole})" for method in ratios]
    claim = published_speed_up()
    published = f" Published: {claim.words}." if claim.is_of(backbone) else ""
    return [f"{text}, {_listed(parts)}, including customization.{published}"]


def _break_even(costs: Sequence[MethodCost]) -> list[str]:
    fast = reference(costs)
    if fast is None:
        return []
    pays, open_, never = [], [], []
    for cost in tuned(costs):
        found = break_even(fast, cost)
        if found is None or found.sooner != fast.method:
            continue
        if found.low is not None and found.high is None:
            open_.append(f"{cost.method} (at the earliest from {in_images(found.low)} images of a subject on)")
        elif found.images is None:
            never.append(cost.method)
        else:
            ends = f" [{in_images(found.low)}, {in_images(found.high)}]" if found.low is not None else ""
            pays.append(f"{cost.method} from {in_images(found.images)}{ends} images of a subject on")
    sentences = []
    if pays:
        sentences.append(f"Counting all seconds, cheaper than {fast.method} gets {_listed(pays)}.")
    if open_:
        sentences.append(
            f"Counting all seconds, these measurements do not show whether {_listed(open_)} ever gets cheaper than "
            f"{fast.method}: images may take equally long."
        )
    if never:
        sentences.append(f"{_listed(never)} never gets cheaper than {fast.method}: images take no less time.")
    return sentences


def _storage(costs: Sequence[MethodCost]) -> list[str]:
    million = SUBJECTS[-1]
    sizes = {cost.method: stored_bytes(cost, million) for cost in costs if cost.personalizes}
    kept = [f"{in_bytes(size)} with {method}" for method, size in sizes.items() if size]
    nothing = [method for method, size in sizes.items() if size == 0]
    if not kept:
        return []
    rest = f"; {_listed(nothing)} keeps nothing but the photographs" if nothing else ""
    return [f"{million:,} subjects would take {_listed(kept)}{rest}."]


def _trust(costs: Sequence[MethodCost]) -> list[str]:
    """What failed, what was extrapolated, and what was disturbed."""
    failed = [f"{cost.method} ({'; '.join(cost.failures.values())})" for cost in costs if cost.failures]
    rough = [cost.method for cost in costs if cost.customize is not None and cost.customize.extrapolated]
    disturbed = [cost.method for cost in costs if cost.contended]
    sentences = [f"Not measured whole: {_listed(failed)}."] if failed else []
    if rough:
        sentences.append(
            f"Customizing is extrapolated ({ROUGHLY.strip()}) from a part of its steps for {_listed(rough)}."
        )
    if disturbed:
        sentences.append(f"{_listed(disturbed)} shared the machine with something else ({CROWDED}).")
    return sentences


def _time(figure: Figure) -> str:
    return f"{ROUGHLY if figure.extrapolated else ''}{in_time(figure.value)}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
