"""Notes below the cost tables: conditions, definitions, disturbances, and provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fc_bench.analysis.states import FC_BENCH, code_of, doubts, libraries_of, version_of
from fc_bench.cost.results import MethodCost
from fc_bench.reports.cost.cells import ROUGHLY
from fc_bench.reports.cost.run import CostRun
from fc_bench.reports.cost.tables import CROWDED, speed_ups
from fc_bench.reports.literature import published_speed_up


def cost_notes(run: CostRun, options: bool = True) -> list[str]:
    """One or two sentences each; without `options`, the options of the methods are left out."""
    settings, costs = run.settings, run.costs
    sampler = settings["sampler"]
    lines = [
        f"One subject, one image at a time, {sampler['resolution']} x {sampler['resolution']} pixels, "
        f"{sampler['scheduler']} with {sampler['steps']} steps, guidance scale "
        f"{sampler['guidance_scale']}, {machine(settings)}.",
        on_quality(settings),
        *doubts({run.name: settings}),
        f"{ROUGHLY.strip()} marks extrapolated values: T(requested) = T(taken) + (requested - taken) x seconds per "
        "step. Brackets are 95 % intervals: of a median by its order statistics from six values on, of extrapolated "
        "values and fewer ones by the variation of the steps (bootstrap of their mean). They do not cover other days "
        "or other machines.",
        "Bold: the lowest seconds of the methods that see the subject, and those whose interval meets the lowest's.",
        "Customizing is reading the photographs, encoding, training, writing the artefact and loading it back; class "
        "images are shared by all subjects of a class and are reported separately. Peak memory is "
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
        claim = published_speed_up()
        lines.append(
            f"Published: {claim.source}, of {claim.of} with Stable Diffusion v1.5. Speed-up here: seconds to customize "
            "and to draw for a new subject, over FastComposer's."
        )
    lines += [f"{mark} {text}" for mark, text in footnotes(costs).items()]
    lines += _on_contention(costs)
    if options:
        for label, row in settings["methods"].items():
            chosen = ", ".join(f"{key} = {value}" for key, value in row["options"].items())
            lines += [f"Options of {label}: {chosen}."] if chosen else []
    return lines


def footnotes(costs: Sequence[MethodCost]) -> dict[str, str]:
    """Sign -> text of the marks of rows."""
    shares = []
    for cost in costs:
        if cost.contended:
            found = [cost.others_share[phase] for phase in cost.contended]
            shares.append(f"{cost.method} {min(found):.0%} to {max(found):.0%}")
    if not shares:
        return {}
    return {
        CROWDED: "measured while other processes ran. Share of the processors' time that other processes used "
        f"meanwhile, from phase to phase: {', '.join(shares)}. Measure again on a quiet machine before quoting."
    }


def _on_contention(costs: Sequence[MethodCost]) -> list[str]:
    """Disturbances of a phase other than other processes."""
    others = {
        f"{cost.method}, {phase.replace('_', ' ')}: {reason}."
        for cost in costs
        for phase, found in cost.contended.items()
        for reason in found
        if not reason.startswith("other processes used")
    }
    return sorted(others)


def machine(settings: Mapping[str, Any]) -> str:
    """Number format, device and machine in words."""
    hardware, libraries = settings["machine"], settings["libraries"]
    accelerators = ", ".join(hardware["accelerators"]) or "no accelerator"
    virtual = ", virtual" if settings["provider"]["virtual_machine"] else ""
    return (
        f"{settings['dtype']} on {settings['device']} ({hardware['processor']}, {hardware['cores']} cores{virtual}, "
        f"{accelerators}), torch {libraries['torch']} with {hardware['torch_threads']} threads"
    )


def on_quality(settings: Mapping[str, Any]) -> str:
    """The reason why the quality columns are empty."""
    if settings["random_weights"]:
        return (
            "The weights are random and the images mean nothing, so the quality columns are empty: time, memory and "
            "storage depend on the architecture alone. The tokenizer is a stand-in of the true vocabulary's size."
        )
    return (
        "The quality columns are empty: no metric runs where costs are measured; fc-bench run measures quality on "
        "the same weights."
    )


def cost_provenance(run: CostRun) -> list[str]:
    """The commands that measured, and the machine."""
    settings, lines = run.settings, []
    for command in settings["commands"]:
        fc_bench = version_of(command.get("versions") or {}, FC_BENCH)
        lines.append(
            f"{command['command']}, started {command['started']}, fc-bench {fc_bench} from {code_of(command)}; "
            f"{libraries_of(command)}."
        )
    return [*lines, f"{machine(settings)}; {settings['provider']}; {settings['numerics']}."]
