"""Tables of a cost run: the cost of each phase, amortized costs, speed-up and storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fc_bench.cost.amortisation import SUBJECTS, break_even, seconds_per_image, speed_up, stored_bytes
from fc_bench.cost.figures import Figure
from fc_bench.cost.records import OUT_OF_MEMORY
from fc_bench.cost.results import GIB, MIB, MethodCost
from fc_bench.reports.cost.cells import crossing_cell, figure_cell, in_bytes, significant
from fc_bench.reports.literature import published_speed_up
from fc_bench.reports.tables.model import NOTHING, Cell, Heading, Table, text_table

FIGURES = ("load", "restore", "customize", "training_step", "class_images", "first_image", "image", "step")
SHOWN_IMAGES = (1, 10, 100, 1_000, 10_000)
CROWDED = "†"
"""Mark of a method that was measured while other processes ran."""
REFERENCE = "fastcomposer"
"""The method that others are compared with."""
QUALITY = ("identity preservation", "prompt consistency")
"""Columns that a cost run leaves empty."""
STEPS = ("steps taken / requested", "s per training step", "s per sampler step")
"""Columns about steps."""
_METHOD = Heading("method", number=False)


def phases(costs: Sequence[MethodCost], dtype: str) -> Table:
    """One row per method: every phase, memory, storage, and the quality columns, which a cost run leaves empty."""
    lower = ("load s", "customize s", "s per training step", "first image s", "image s", "s per sampler step")
    header = (
        _METHOD,
        Heading("dtype", number=False),
        *(Heading(text, "lower") for text in lower[:2]),
        Heading(STEPS[0]),
        *(Heading(text, "lower") for text in lower[2:]),
        Heading("peak GiB", "lower"),
        Heading("MiB kept", "lower"),
        *(Heading(text, "higher") for text in QUALITY),
    )
    best = {name: _lowest(costs, name) for name in ("customize", "first_image", "image")}
    rows = []
    for cost in costs:
        customize = figure_cell(cost.customize) if cost.personalizes else Cell("0", value=0.0)
        cells = {"customize": customize}
        cells |= {name: figure_cell(getattr(cost, name)) for name in FIGURES if name not in cells}
        cells |= {name: replace(cells[name], best=cost.method in found) for name, found in best.items()}
        rows.append(
            (
                Cell(cost.method, mark=CROWDED if cost.contended else ""),
                Cell(dtype),
                cells["load"],
                cells["customize"],
                Cell(NOTHING if cost.steps is None else f"{cost.steps_taken} / {cost.steps}"),
                cells["training_step"],
                cells["first_image"],
                cells["image"],
                cells["step"],
                _peak(cost),
                _kept(cost),
                *(Cell(NOTHING) for _ in QUALITY),
            )
        )
    return Table("phases", "Cost", header, tuple(rows))


def amortised(costs: Sequence[MethodCost], images: Sequence[int] = SHOWN_IMAGES, shared: bool = False) -> Table:
    """Seconds per image over the images of one subject: load, customization and images, divided by their number."""
    name, what = ("-with-class-images", ", class images included") if shared else ("", "")
    rows = tuple(
        (Cell(cost.method), *(figure_cell(seconds_per_image(cost, number, shared)) for number in images))
        for cost in costs
        if not shared or cost.class_images is not None
    )
    header = (_METHOD, *(Heading(f"{number:,}", "lower") for number in images))
    return Table(f"amortised{name}", f"Seconds per image by images per subject{what}", header, rows)


def break_evens(costs: Sequence[MethodCost], against: str | None = None) -> Table:
    """Pairs of personalized methods: from how many images of a subject the more expensive customization pays.

    With `against` only pairs with that method.
    """
    own = [cost for cost in costs if cost.personalizes]
    rows = []
    for number, one in enumerate(own):
        for other in own[number + 1 :]:
            if against not in (None, one.name, other.name):
                continue
            alone, shared = (break_even(one, other, included) for included in (False, True))
            if alone is None:
                continue
            priced = any(cost.class_images is not None for cost in (one, other))
            names = (Cell(alone.sooner), Cell(alone.later))
            rows.append((*names, crossing_cell(alone), crossing_cell(shared if priced else None)))
    header = (
        Heading("cheaper to begin with", number=False),
        Heading("cheaper later", number=False),
        Heading("from images per subject on"),
        Heading("class images included"),
    )
    return Table("break-even", "Break-even", header, tuple(rows))


def speed_ups(costs: Sequence[MethodCost]) -> Table:
    """FastComposer's speed-up over each tuned method for the first image of a new subject, and the published claim."""
    claim = published_speed_up().words
    fast = reference(costs)
    rows = []
    for cost in tuned(costs) if fast is not None else []:
        assert fast is not None
        shared = speed_up(fast, cost, shared=True) if cost.class_images is not None else None
        found = (speed_up(fast, cost), shared, speed_up(fast, cost, 10))
        rows.append((Cell(cost.method), *(figure_cell(figure, "x") for figure in found), Cell(claim)))
    header = (_METHOD, *map(Heading, ("one image", "class images included", "ten images", "published")))
    title = f"Speed-up of {fast.method if fast else REFERENCE}, a new subject"
    return Table("speed-up", title, header, tuple(rows))


def storage(costs: Sequence[MethodCost]) -> Table:
    """Stored bytes for a growing number of subjects, calculated from one measured artefact, and the shared weights."""
    rows = []
    for cost in costs:
        if cost.personalizes and cost.artefact_bytes is not None and cost.shared_weights_bytes is not None:
            sizes = [cost.shared_weights_bytes, *(stored_bytes(cost, subjects) or 0 for subjects in SUBJECTS)]
            formats = Cell(", ".join(cost.artefact_dtypes) or NOTHING)
            rows.append((Cell(cost.method), formats, *(Cell(in_bytes(size), value=float(size)) for size in sizes)))
    counts = ("1 subject", *(f"{subjects:,}" for subjects in SUBJECTS[1:]))
    header = (
        _METHOD,
        Heading("format", number=False),
        Heading("shared weights", "lower"),
        *(Heading(text, "lower") for text in counts),
    )
    return Table("storage", "Storage", header, tuple(rows))


def between_backbones(backbones: Mapping[str, Sequence[MethodCost]]) -> Table:
    """Methods on several backbones, by name: training steps, FastComposer's speed-up for a new subject, and storage."""
    columns = [
        {cost.name: _beside(cost, reference(costs)) for cost in costs if cost.personalizes}
        for costs in backbones.values()
    ]
    names = dict.fromkeys(name for column in columns for name in column)
    absent = (Cell(NOTHING),) * 3
    rows = [(Cell(name), *(cell for column in columns for cell in column.get(name, absent))) for name in names]
    headings = [
        heading
        for backbone in backbones
        for heading in (
            Heading(f"{backbone}: steps"),
            Heading("speed-up"),
            Heading("kept for a subject", "lower"),
        )
    ]
    return Table("backbones", "Speed-up and storage by backbone", (_METHOD, *headings), tuple(rows))


def percentiles(costs: Sequence[MethodCost]) -> Table:
    """90th, 95th and 99th percentiles of what was measured often enough."""
    rows = []
    for cost in costs:
        for name in FIGURES:
            figure = getattr(cost, name)
            if figure is not None and figure.percentiles:
                found = dict(figure.percentiles)
                ends = [significant(found[share]) if share in found else NOTHING for share in (0.9, 0.95, 0.99)]
                rows.append((cost.method, name.replace("_", " "), str(figure.n), significant(figure.value), *ends))
    header = ("method", "what", "n", "seconds", "p90", "p95", "p99")
    return text_table("percentiles", "Percentiles", header, rows, words=2)


def reference(costs: Sequence[MethodCost]) -> MethodCost | None:
    """The method that others are compared with, None if it was not measured."""
    return next((cost for cost in costs if cost.name == REFERENCE), None)


def tuned(costs: Sequence[MethodCost]) -> list[MethodCost]:
    """The methods whose training steps were timed."""
    return [cost for cost in costs if cost.training_step is not None]


def _beside(cost: MethodCost, fast: MethodCost | None) -> tuple[Cell, Cell, Cell]:
    """Training steps, the speed-up of `fast` if the method was tuned, and what is kept for a subject."""
    steps = Cell(NOTHING if cost.steps is None else f"{cost.steps:,}")
    ratio = speed_up(fast, cost) if fast is not None and tuned([cost]) else None
    size = stored_bytes(cost, 1)
    return (
        steps,
        Cell(OUT_OF_MEMORY) if _ran_out(cost) else figure_cell(ratio, "x"),
        Cell(NOTHING) if size is None else Cell(in_bytes(size), value=float(size)),
    )


def _ran_out(cost: MethodCost) -> bool:
    return any(OUT_OF_MEMORY in why for why in cost.failures.values())


def _peak(cost: MethodCost) -> Cell:
    if _ran_out(cost):
        return Cell(OUT_OF_MEMORY)
    return Cell(NOTHING) if cost.peak is None else Cell(f"{cost.peak / GIB:.2f}", value=cost.peak / GIB)


def _kept(cost: MethodCost) -> Cell:
    if not cost.artefact_bytes:
        return Cell(NOTHING) if cost.artefact_bytes is None else Cell("0", value=0.0)
    return figure_cell(Figure(cost.artefact_bytes / MIB))


def _lowest(costs: Sequence[MethodCost], name: str) -> set[str]:
    """The personalized methods with the lowest value of a figure, and those whose interval overlaps the lowest one's.

    Empty if these are all methods.
    """
    found = {cost.method: figure for cost in costs if cost.personalizes and (figure := getattr(cost, name)) is not None}
    if not found:
        return set()
    least = min(found.values(), key=lambda figure: figure.value)
    reach = least.value + least.above
    level = {method for method, figure in found.items() if figure.value - figure.below <= reach}
    return set() if len(level) == len(found) else level
