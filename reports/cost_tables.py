"""Tables of a cost run: what each phase costs, and what that amounts to over images and subjects."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from fc_bench.cost.amortisation import (
    IMAGES,
    SUBJECTS,
    BreakEven,
    break_even,
    seconds_per_image,
    speed_up,
    stored_bytes,
)
from fc_bench.cost.figures import Figure
from fc_bench.cost.records import KIND
from fc_bench.cost.results import GIB, MIB, MethodCost
from fc_bench.records import RunFolder, write_atomically
from fc_bench.reports.tables.markdown import markdown_table
from fc_bench.reports.tables.model import NOTHING, Cell, Table, text_table
from fc_bench.reports.tables.terminal import print_table

PUBLISHED = Path(__file__).parent / "published"
FIGURES = ("load", "restore", "customize", "training_step", "class_images", "first_image", "image", "step")
SHOWN_IMAGES = (1, 10, 100, 1_000, 10_000)
ROUGHLY, CROWDED = "≈ ", " †"
REFERENCE = "fastcomposer"
"""The method that others are held against."""


def phases(costs: Sequence[MethodCost], dtype: str) -> Table:
    """One row a method: every phase, memory, storage, and the columns of quality, which a cost run leaves empty."""
    header = (
        "method",
        "dtype",
        "load s",
        "customize s",
        "steps taken / asked",
        "s per training step",
        "first image s",
        "image s",
        "s per sampler step",
        "peak GiB",
        "MiB kept",
        "identity",
        "prompt consistency",
    )
    rows = []
    for cost in costs:
        peak = NOTHING if cost.peak is None else f"{cost.peak / GIB:.2f}"
        if any("out of memory" in why for why in cost.failures.values()):
            peak = "out of memory"
        rows.append(
            (
                cost.method + (CROWDED if cost.contended else ""),
                dtype,
                _figure(cost.load),
                _figure(cost.customize) if cost.personalizes else "0",
                NOTHING if cost.steps is None else f"{cost.steps_taken} / {cost.steps}",
                _figure(cost.training_step),
                _figure(cost.first_image),
                _figure(cost.image),
                _figure(cost.step),
                peak,
                NOTHING if cost.artefact_bytes is None else _number(cost.artefact_bytes / MIB),
                NOTHING,
                NOTHING,
            )
        )
    return _table("Cost", header, tuple(rows))


def amortised(costs: Sequence[MethodCost], images: Sequence[int] = SHOWN_IMAGES, shared: bool = False) -> Table:
    """Seconds per image over the images of one subject: load, customization and images, divided by their number."""
    what = ", class images included" if shared else ""
    rows = []
    for cost in costs:
        if not shared or cost.class_images is not None:
            rows.append((cost.method, *(_figure(seconds_per_image(cost, number, shared)) for number in images)))
    header = ("method", *(f"{n:,}" for n in images))
    return _table(f"Seconds per image by images per subject{what}", header, tuple(rows))


def break_evens(costs: Sequence[MethodCost], against: str | None = None) -> Table:
    """Each pair of methods that personalize: from how many images of a subject on the dearer customization pays.

    With `against` only pairs with the method of that name.
    """
    own = [cost for cost in costs if cost.personalizes]
    rows = []
    for number, one in enumerate(own):
        for other in own[number + 1 :]:
            if against not in (None, one.name, other.name):
                continue
            found = [break_even(one, other, shared) for shared in (False, True)]
            if found[0] is None:
                continue
            priced = any(cost.class_images is not None for cost in (one, other))
            texts = [_crossing(found[0]), _crossing(found[1]) if priced else NOTHING]
            rows.append((found[0].sooner, found[0].later, *texts))
    header = ("cheaper to begin with", "cheaper later", "from images per subject on", "class images included")
    return _table("Break-even", header, tuple(rows))


def speed_ups(costs: Sequence[MethodCost]) -> Table:
    """FastComposer's speed-up over each method that tunes, for the first image of a new subject, beside the claim."""
    published = pd.read_csv(PUBLISHED / "speedup.csv").iloc[0]
    claim = f"{published['low']:,.0f}x to {published['high']:,.0f}x"
    fast = next((cost for cost in costs if cost.name == REFERENCE), None)
    rows = []
    for cost in costs:
        if fast is None or cost.training_step is None:
            continue
        alone, shared = speed_up(fast, cost), speed_up(fast, cost, shared=True)
        texts = [_times(alone), _times(shared) if cost.class_images is not None else NOTHING]
        rows.append((cost.method, *texts, _times(speed_up(fast, cost, 10)), claim))
    header = ("method", "one image", "class images included", "ten images", "published")
    return _table(f"Speed-up of {fast.method if fast else REFERENCE}, a new subject", header, tuple(rows))


def storage(costs: Sequence[MethodCost]) -> Table:
    """Bytes kept as subjects grow, on paper, from one measured artefact, and the weights that all subjects share."""
    rows = []
    for cost in costs:
        if cost.personalizes and cost.artefact_bytes is not None and cost.shared_weights_bytes is not None:
            kept = [_bytes(stored_bytes(cost, subjects) or 0) for subjects in SUBJECTS]
            formats = ", ".join(cost.artefact_dtypes) or NOTHING
            rows.append((cost.method, formats, _bytes(cost.shared_weights_bytes), *kept))
    counts = ("1 subject", *(f"{subjects:,}" for subjects in SUBJECTS[1:]))
    return _table("Storage", ("method", "format", "shared weights", *counts), tuple(rows))


def published_seconds() -> Table:
    """Published total seconds of customizing and drawing, and how many times FastComposer's they are."""
    rows = pd.read_csv(PUBLISHED / "cost.csv")
    fast = float(rows.loc[rows["method"] == "FastComposer", "total_time_s"].iloc[0])
    shown = [
        (
            str(row["method"]),
            f"{row['total_time_s']:,.0f}",
            f"{row['total_time_s'] / fast:,.0f}x",
            *map(str, row.iloc[3:]),
        )
        for _, row in rows.iterrows()
    ]
    header = ("method", "s", "of FastComposer's", "hardware", "source", "status")
    return _table("Published seconds in total", header, tuple(shown))


def cost_notes(folder: RunFolder, costs: Sequence[MethodCost]) -> list[str]:
    """What a reader has to know beside the numbers."""
    settings = folder.settings(KIND)
    sampler = settings["sampler"]
    lines = [
        f"One subject, one image at a time, {sampler['resolution']} x {sampler['resolution']} pixels, "
        f"{sampler['scheduler']} with {sampler['steps']} steps, guidance "
        f"{sampler['guidance_scale']}, {machine(settings)}.",
        _on_quality(settings),
        f"{ROUGHLY.strip()} marks what was extrapolated: T(asked) = T(taken) + (asked - taken) x seconds per step. "
        "Brackets are 95 % intervals: of a median by its order statistics from six values on, of what is extrapolated "
        "or known from fewer by the variation of its steps (bootstrap of their mean); they hold nothing of other days "
        "or other machines.",
        "Customizing is reading the photographs, encoding, training, writing the artefact and loading it back; class "
        "images are shared by all subjects of a class and stand beside. Peak memory is "
        + (
            "what torch's allocator held on the device"
            if settings["device"].startswith("cuda")
            else "the process's resident set, libraries and mapped weight files included"
        )
        + ", the largest of all phases.",
    ]
    for cost in costs:
        lines += [f"{cost.method}: {note}." for note in cost.notes]
    if speed_ups(costs).rows:
        claim = pd.read_csv(PUBLISHED / "speedup.csv").iloc[0]
        lines.append(
            f"Published: {claim['source']}, of {claim['of']}. Speed-up here: seconds to customize and to draw for a "
            "new subject, over FastComposer's."
        )
    return [*lines, *_on_contention(costs)]


def _on_contention(costs: Sequence[MethodCost]) -> list[str]:
    """What else went on while the marked rows were measured, most of it as one line."""
    crowded = [cost for cost in costs if cost.contended]
    if not crowded:
        return []
    shares = []
    for cost in crowded:
        found = [cost.others_share[phase] for phase in cost.contended]
        shares.append(f"{cost.method} {min(found):.0%} to {max(found):.0%}")
    lines = [
        f"{CROWDED.strip()} measured while something else went on. Share of the processors' time that other processes "
        f"used meanwhile, from phase to phase: {', '.join(shares)}. Measure again on a quiet machine before quoting."
    ]
    others = {
        f"{cost.method}, {phase.replace('_', ' ')}: {reason}."
        for cost in crowded
        for phase, found in cost.contended.items()
        for reason in found
        if not reason.startswith("other processes used")
    }
    return [*lines, *sorted(others)]


def machine(settings: Mapping[str, Any]) -> str:
    """Number format, device and machine in words."""
    hardware, libraries = settings["machine"], settings["libraries"]
    accelerators = ", ".join(hardware["accelerators"]) or "no accelerator"
    virtual = ", virtual" if settings["provider"]["virtual_machine"] else ""
    return (
        f"{settings['dtype']} on {settings['device']} ({hardware['processor']}, {hardware['cores']} cores{virtual}, "
        f"{accelerators}), torch {libraries['torch']} with {hardware['torch_threads']} threads"
    )


def _on_quality(settings: Mapping[str, Any]) -> str:
    if settings["random_weights"]:
        return (
            "The weights are random and the images mean nothing, so the quality columns are empty: time, memory and "
            "storage depend on the architecture alone. The tokenizer is a stand-in of the true vocabulary's size."
        )
    return (
        "The quality columns are empty: no metric runs where costs are measured; `fc-bench run` measures quality on "
        "the same weights."
    )


def tables(
    folder: RunFolder,
    costs: Sequence[MethodCost],
    images: Sequence[int] = SHOWN_IMAGES,
    against: str | None = REFERENCE,
) -> list[Table]:
    """All tables; those without rows are left out. `against`: see `break_evens`."""
    dtype = folder.settings(KIND)["dtype"]
    blocks = [
        phases(costs, dtype),
        amortised(costs, images),
        amortised(costs, images, shared=True),
        break_evens(costs, against),
        speed_ups(costs),
        storage(costs),
    ]
    return [block for block in blocks if block.rows]


def title(folder: RunFolder) -> str:
    """What was measured, in a line."""
    settings = folder.settings(KIND)
    return f"Cost on {settings['backbone']}{' with random weights' if settings['random_weights'] else ''}"


def cost_markdown(folder: RunFolder, costs: Sequence[MethodCost]) -> str:
    """The whole report as Markdown."""
    settings = folder.settings(KIND)
    parts = [f"# {title(folder)}"]
    for block in [*tables(folder, costs, IMAGES, None), percentiles(costs), published_seconds()]:
        parts += [f"## {block.title}", markdown_table(block)] if block.rows else []
    parts += ["## Reading the tables", "\n".join(f"- {line}" for line in cost_notes(folder, costs))]
    for label, row in settings["methods"].items():
        chosen = ", ".join(f"{key} = {value}" for key, value in row["options"].items())
        parts += [f"Options of {label}: {chosen}."] if chosen else []
    commands = []
    for command in settings["commands"]:
        code, fc_bench = command["code"], command["versions"]["fc-bench"]
        revision = (
            f"commit {code['commit'][:12]}{' with changes' if code['dirty'] else ''}" if code["commit"] else "a release"
        )
        commands.append(f"- `{command['command']}`, started {command['started']}, fc-bench {fc_bench} from {revision}")
    parts += [
        "## Provenance",
        "\n".join(commands),
        f"{machine(settings)}; {settings['provider']}; {settings['numerics']}.",
    ]
    return "\n\n".join(parts) + "\n"


def cost_headline(folder: RunFolder, costs: Sequence[MethodCost]) -> str:
    """Phases, amortised seconds, break-even, speed-up and storage as Markdown without a title of its own."""
    dtype = folder.settings(KIND)["dtype"]
    blocks = [phases(costs, dtype), amortised(costs), break_evens(costs, REFERENCE), speed_ups(costs), storage(costs)]
    shown = [f"**{block.title}**\n\n{markdown_table(block)}" for block in blocks if block.rows]
    return "\n\n".join([*shown, *cost_notes(folder, costs)]) + "\n"


def percentiles(costs: Sequence[MethodCost]) -> Table:
    """90th, 95th and 99th percentiles of what was measured often enough."""
    rows = []
    for cost in costs:
        for name in FIGURES:
            figure = getattr(cost, name)
            if figure is not None and figure.percentiles:
                found = dict(figure.percentiles)
                ends = [_number(found[share]) if share in found else NOTHING for share in (0.9, 0.95, 0.99)]
                rows.append((cost.method, name.replace("_", " "), str(figure.n), _number(figure.value), *ends))
    return _table("Percentiles", ("method", "what", "n", "seconds", "p90", "p95", "p99"), tuple(rows))


def write_cost_report(folder: RunFolder, costs: Sequence[MethodCost]) -> list[Path]:
    """Write `report/cost.md`, `figures.csv` (long), `amortised.csv` and `storage.csv`; returns their paths."""
    report = folder.path / "report"
    contents = {
        "cost.md": cost_markdown(folder, costs),
        "figures.csv": pd.DataFrame(_figure_rows(folder, costs)).to_csv(index=False),
        "amortised.csv": pd.DataFrame(_amortised_rows(costs)).to_csv(index=False),
        "storage.csv": pd.DataFrame(_storage_rows(costs)).to_csv(index=False),
    }
    for name, text in contents.items():
        write_atomically(report / name, text.encode())
    return [report / name for name in contents]


def print_cost_report(folder: RunFolder, costs: Sequence[MethodCost], console: Console) -> None:
    """Show the tables on the console; columns of quality, which are empty, only as a sentence."""
    first, *others = tables(folder, costs)
    kept = [place for place, name in enumerate(first.header) if name.text not in ("identity", "prompt consistency")]
    narrow = replace(
        first,
        title=title(folder),
        header=tuple(first.header[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in first.rows),
    )
    for table in [narrow, *others]:
        print_table(table, console)
    for line in cost_notes(folder, costs):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(title: str, header: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> Table:
    """A table of what is text already; an interval behind a value becomes the cell's."""
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    plain = text_table(name, title, header, list(rows))
    return replace(plain, rows=tuple(tuple(map(_with_interval, row)) for row in plain.rows))


def _with_interval(cell: Cell) -> Cell:
    found = re.fullmatch(r"(.+) \[(\S+), (\S+)\](.*)", cell.text)
    return Cell(found[1] + found[4], interval=(found[2], found[3])) if found else cell


def _figure_rows(folder: RunFolder, costs: Sequence[MethodCost]) -> list[dict[str, Any]]:
    dtype = folder.settings(KIND)["dtype"]
    rows = []
    for cost in costs:
        for name in FIGURES:
            figure = getattr(cost, name)
            if figure is not None:
                shares = {f"p{100 * share:.0f}": value for share, value in figure.percentiles}
                rows.append(
                    {
                        "method": cost.method,
                        "dtype": dtype,
                        "figure": name,
                        "seconds": figure.value,
                        "low": figure.low,
                        "high": figure.high,
                        "n": figure.n,
                        "extrapolated": figure.extrapolated,
                        **{key: shares.get(key) for key in ("p90", "p95", "p99")},
                        "peak_bytes": cost.peak_bytes.get(name),
                        "contended": "; ".join(cost.contended.get(name, ())),
                    }
                )
    return rows


def _amortised_rows(costs: Sequence[MethodCost]) -> list[dict[str, Any]]:
    rows = []
    for cost in costs:
        for shared in (False, True) if cost.class_images is not None else (False,):
            for images in IMAGES:
                figure = seconds_per_image(cost, images, shared)
                if figure is not None:
                    rows.append(
                        {
                            "method": cost.method,
                            "class_images_included": shared,
                            "images_per_subject": images,
                            "seconds_per_image": figure.value,
                            "low": figure.low,
                            "high": figure.high,
                            "extrapolated": figure.extrapolated,
                        }
                    )
    return rows


def _storage_rows(costs: Sequence[MethodCost]) -> list[dict[str, Any]]:
    return [
        {
            "method": cost.method,
            "subjects": subjects,
            "bytes": stored_bytes(cost, subjects),
            "shared_weights_bytes": cost.shared_weights_bytes,
        }
        for cost in costs
        if cost.personalizes and cost.artefact_bytes is not None
        for subjects in SUBJECTS
    ]


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return NOTHING
    text = (ROUGHLY if figure.extrapolated else "") + _number(figure.value)
    if figure.low is None or figure.high is None:
        return text
    return f"{text} [{_number(figure.low, like=figure.value)}, {_number(figure.high, like=figure.value)}]"


def _times(figure: Figure | None) -> str:
    if figure is None:
        return NOTHING
    mark = ROUGHLY if figure.extrapolated else ""
    if figure.low is None or figure.high is None:
        return f"{mark}{_number(figure.value)}x"
    low, high = _number(figure.low, like=figure.value), _number(figure.high, like=figure.value)
    return f"{mark}{_number(figure.value)}x [{low}x, {high}x]"


def _crossing(found: BreakEven | None) -> str:
    if found is None:
        return NOTHING
    if found.images is None and found.low is None:
        return "never"
    if found.high is None and found.low is not None:
        return (
            f"{_count(found.images)} [{_count(found.low)}, never]"
            if found.images
            else f"never [{_count(found.low)}, never]"
        )
    interval = "" if found.low is None or found.high is None else f" [{_count(found.low)}, {_count(found.high)}]"
    return f"{_count(found.images)}{interval}"


def _count(images: float | None) -> str:
    return "never" if images is None else f"{images:,.0f}" if images >= 10 else f"{images:.1f}"


def _number(value: float, like: float | None = None) -> str:
    """Three significant digits, or the decimals of another number; the whole part in full, in groups."""
    size = abs(value if like is None else like)
    decimals = 2
    if size:
        decimals = max(2 - math.floor(math.log10(size)), 0)
    return f"{value:,.{decimals}f}"


def _bytes(size: int) -> str:
    """In a unit that suits it; powers of 2."""
    for unit, name in ((2**50, "PiB"), (2**40, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{_number(size / unit)} {name}"
    return f"{size} B" if size else "0"
