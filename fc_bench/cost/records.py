"""What a cost run leaves, one line a measurement, appended and synced; a figure is always computed from these lines.

    run.json             settings, machine, libraries, every command; `"kind": "cost"`
    measurements.jsonl   one line for each measurement that ended; the last of a (method, phase) counts
    artefacts/<method>/  what customizing left, until the method's other phases are finished
    log.txt              what the measuring processes said on their standard error
    report/              derived, can be deleted

A line of measurements.jsonl holds

    method, phase        label of the row; customize, step, first_image or image
    status               ok, "out of memory", error, or "not measured" (an image that did not fit into the budget)
    options_changed      options that had to differ from the row's to fit into memory
    calls                the calls measured, in order, each with
        seconds              from idle to idle, writing files that are no artefact excluded
        steps                training steps (customize) or sampler steps taken; None where a method has no such option
        step_seconds         of the steps one by one, the first (cold) one left out; only in customize and step
        shared_seconds       customize: spent on class images, not in `seconds`
        seconds_per_step     customize: as the method tells it, where its steps cannot be seen
    warm_ups             calls before them that do not count
    steps_asked          steps of the row's options (customize) or of the sampler
    step_period          customize: steps after which the work of a step repeats
    load, restore        seconds and memory of building the method, and of loading the artefact, in this process
    memory               peaks of the measured calls in bytes: rss, allocated, reserved, device
    surroundings         see `surroundings.Surroundings`
    class_images         customize: {used, asked} where the method trains beside class images
    artefact             customize: {bytes, dtypes, files}
    budget_seconds       of the command, allowance_seconds of the measurement
    process_seconds      of the whole process, startup_seconds of its imports
    error                {type, message, traceback} unless ok
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fc_bench.run_folder.json_lines import read_lines
from fc_bench.run_folder.records import RunFolder

KIND = "cost"
MEASUREMENTS, LOG, ARTEFACTS = "measurements.jsonl", "log.txt", "artefacts"

Phase = Literal["customize", "step", "first_image", "image"]
PHASES: tuple[Phase, ...] = ("customize", "step", "first_image", "image")
"""Phases in the order of their measurement: later ones need the artefact, images need the seconds of a step."""

OK, OUT_OF_MEMORY, ERROR, NOT_MEASURED = "ok", "out of memory", "error", "not measured"

Record = Mapping[str, Any]


def measurements(folder: RunFolder) -> dict[tuple[str, str], dict[str, Any]]:
    """The last record of each (method label, phase)."""
    return {(record["method"], record["phase"]): record for record in all_measurements(folder)}


def all_measurements(folder: RunFolder) -> list[dict[str, Any]]:
    """Every record, also of attempts that later ones replaced; raises UserError for a damaged one."""
    from fc_bench.cost.shapes import problem

    return read_lines(folder.path / MEASUREMENTS, problem)


def extrapolates(record: Record) -> bool:
    """Whether a record rests on fewer steps than requested, or was skipped, so that more budget would help."""
    if record["status"] == NOT_MEASURED:
        return True
    steps = [call["steps"] for call in record.get("calls", []) if call["steps"] is not None]
    return record["status"] == OK and record["phase"] != "step" and bool(steps) and max(steps) < record["steps_asked"]
