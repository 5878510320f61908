"""From records to figures: the cost of each phase of a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fc_bench.cost.extrapolation import extrapolated, seconds_per_step
from fc_bench.cost.figures import Figure, median
from fc_bench.cost.records import (
    KIND,
    NOT_MEASURED,
    OK,
    OUT_OF_MEMORY,
    PHASES,
    Record,
    all_measurements,
    measurements,
)
from fc_bench.cost.surroundings import contention, others_share
from fc_bench.run_folder.records import RunFolder

GIB, MIB = 2**30, 2**20


@dataclass(frozen=True)
class MethodCost:
    """The cost of a method: seconds, bytes, joules. None: not measured, or not applicable.

    `customize` includes neither shared costs of a class (`class_images`, generated and encoded once) nor `load`.
    `steps` and `steps_taken` are the requested training steps and the most that one customization took. `notes` explain
    missing figures and other remarks, `contended` names disturbances by phase, and `others_share` is the share of the
    processors' time that other processes used.
    """

    method: str
    name: str
    personalizes: bool
    load: Figure | None = None
    restore: Figure | None = None
    customize: Figure | None = None
    steps: int | None = None
    steps_taken: int | None = None
    training_step: Figure | None = None
    class_images: Figure | None = None
    first_image: Figure | None = None
    image: Figure | None = None
    step: Figure | None = None
    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    artefact_bytes: int | None = None
    artefact_dtypes: tuple[str, ...] = ()
    shared_weights_bytes: int | None = None
    image_joules: float | None = None
    options_changed: Mapping[str, Any] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    contended: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    others_share: Mapping[str, float] = field(default_factory=dict)

    @property
    def peak(self) -> int | None:
        """The largest peak of all phases."""
        return max(self.peak_bytes.values(), default=None)


def method_costs(folder: RunFolder) -> list[MethodCost]:
    """Every method of a cost run, in the order of its settings."""
    settings, records, attempts = folder.settings(KIND), measurements(folder), all_measurements(folder)
    costs = []
    for label, row in settings["methods"].items():
        own = {phase: records[label, phase] for phase in PHASES if (label, phase) in records}
        earlier = [record for record in attempts if record["method"] == label]
        costs.append(_cost(label, row, own, earlier, settings["sampler"]["steps"]))
    return [_with_class_images(cost, records, costs) for cost in costs]


def _cost(
    label: str,
    row: Mapping[str, Any],
    records: Mapping[str, Record],
    attempts: Sequence[Record],
    sampler_steps: int,
) -> MethodCost:
    good = {phase: record for phase, record in records.items() if record["status"] == OK}
    customize, tuning = _customized(good.get("customize"))
    requested = good["customize"]["steps_asked"] if "customize" in good else None
    taken = [call["steps"] for call in good["customize"]["calls"] if call["steps"]] if "customize" in good else []
    steps = good.get("step")
    step = seconds_per_step([call["step_seconds"] for call in steps["calls"]]) if steps else None
    artefact = good["customize"]["artefact"] if "customize" in good else None
    return MethodCost(
        method=label,
        name=str(row["name"]),
        personalizes=bool(row["personalizes"]),
        load=_median([record["load"]["seconds"] for record in good.values()]),
        restore=_median([record["restore"]["seconds"] for record in good.values() if record["restore"]]),
        customize=customize,
        steps=requested,
        steps_taken=max(taken, default=None),
        training_step=tuning,
        first_image=_drawn(good.get("first_image"), sampler_steps, step),
        image=_image(good.get("image"), steps, sampler_steps, step),
        step=step,
        peak_bytes={phase: _peak(record) for phase, record in good.items()},
        artefact_bytes=artefact["bytes"] if artefact else (None if row["personalizes"] else 0),
        artefact_dtypes=tuple(artefact["dtypes"]) if artefact else (),
        shared_weights_bytes=row["shared_weights_bytes"],
        image_joules=_joules(good.get("image")),
        options_changed=records["customize"].get("options_changed", {}) if "customize" in records else {},
        failures={
            phase: _why(record) for phase, record in records.items() if record["status"] not in (OK, NOT_MEASURED)
        },
        notes=tuple(_notes(attempts, records)),
        contended={
            phase: tuple(found) for phase, record in good.items() if (found := contention(record["surroundings"]))
        },
        others_share={phase: others_share(record["surroundings"]) for phase, record in good.items()},
    )


def _customized(record: Record | None) -> tuple[Figure | None, Figure | None]:
    """Seconds of customization and of a training step (None for a method without steps)."""
    if record is None:
        return None, None
    calls, requested = record["calls"], record["steps_asked"]
    if requested is None:
        return median([call["seconds"] for call in calls]), None
    longest = max(call["steps"] for call in calls)
    whole = [call for call in calls if call["steps"] == longest]
    step = seconds_per_step([call["step_seconds"] for call in whole], record["step_period"])
    if step is None and whole[-1]["seconds_per_step"] is not None:
        step = Figure(whole[-1]["seconds_per_step"])
    seconds = median([call["seconds"] for call in whole])
    found = extrapolated(seconds.value, longest, requested, step)
    return (seconds if longest == requested and seconds.low is not None else found), step


def _drawn(record: Record | None, requested: int, step: Figure | None) -> Figure | None:
    """Seconds of an image as one process generated it; a median of several, or from the steps if there are too few."""
    if record is None:
        return None
    seconds, taken = median([call["seconds"] for call in record["calls"]]), record["calls"][0]["steps"]
    if taken == requested:
        return seconds
    return extrapolated(seconds.value, taken, requested, step)


def _image(images: Record | None, steps: Record | None, requested: int, step: Figure | None) -> Figure | None:
    """The median of images, with the interval of their steps if they are too few for their own.

    Without images: extrapolated from the short images whose steps were timed.
    """
    found = _drawn(images, requested, step)
    if found is None:
        return _drawn(steps, requested, step) if steps is not None else None
    if found.low is not None or step is None or step.low is None:
        return found
    spread = extrapolated(found.value, requested, requested, step)
    assert spread is not None
    return Figure(found.value, spread.low, spread.high, found.n, found.extrapolated, found.percentiles)


def _with_class_images(
    cost: MethodCost, records: Mapping[tuple[str, str], Record], costs: Sequence[MethodCost]
) -> MethodCost:
    """The figures with the cost of generating and encoding all class images once per class.

    An image counts as one of the base model, generated alone: that of the text-only method, else the method's own.
    """
    record = records.get((cost.method, "customize"))
    if record is None or record["status"] != OK or not record.get("class_images"):
        return cost
    base = next((other for other in costs if not other.personalizes and other.image), cost)
    if base.image is None:
        return cost
    images = record["class_images"]
    encoded = max(call["shared_seconds"] for call in record["calls"]) / images["used"]
    each = Figure(base.image.value + encoded, _plus(base.image.low, encoded), _plus(base.image.high, encoded))
    whose = base.method if base is not cost else f"{base.method}'s own"
    note = f"{images['asked']} class images at {each.value:.2f} s each (an image of {whose}, and encoding it)"
    found = replace(each.times(images["asked"]), n=base.image.n, extrapolated=True)
    return replace(cost, class_images=found, notes=(*cost.notes, note))


def _plus(end: float | None, more: float) -> float | None:
    return None if end is None else end + more


def _median(values: Sequence[float]) -> Figure | None:
    return median(values) if values else None


def _peak(record: Record) -> int:
    """Bytes of the phase's peak, with loading: of the device's allocator on an accelerator, else resident."""
    peaks = [record["memory"], record["load"]["memory"], (record["restore"] or {}).get("memory", {})]
    return max(int(found.get("allocated_bytes") or found.get("rss_bytes") or 0) for found in peaks)


def _joules(record: Record | None) -> float | None:
    if record is None or record["surroundings"]["energy_joules"] is None:
        return None
    return record["surroundings"]["energy_joules"] / len(record["calls"])


def _why(record: Record) -> str:
    if record["status"] == OUT_OF_MEMORY:
        used = record.get("used_bytes")
        return f"out of memory{f' at {used / GIB:.1f} GiB' if used else ''}"
    return str(record["error"]["message"])


def _notes(attempts: Sequence[Record], records: Mapping[str, Record]) -> list[str]:
    notes = []
    changed = records.get("customize", {}).get("options_changed", {})
    if changed:
        first = next(
            (one for one in attempts if one["status"] == OUT_OF_MEMORY and not one.get("options_changed")), None
        )
        what = ", ".join(f"{key} = {value}" for key, value in changed.items())
        notes.append(f"customized with {what}" + (f", after it ran {_why(first)} without" if first else ""))
    for phase, record in records.items():
        if record["status"] not in (OK, NOT_MEASURED):
            notes.append(f"{phase.replace('_', ' ')}: {_why(record)}")
    return notes


def describe_measurement(record: Record) -> str:
    """One line about a measurement, for the terminal."""
    head = f"{record['method']}, {record['phase'].replace('_', ' ')}: "
    if record["status"] == NOT_MEASURED:
        return f"{head}extrapolated ({record['error']['message']})"
    if record["status"] != OK:
        return f"{head}{_why(record)}"
    calls = record["calls"]
    steps = [call["steps"] for call in calls if call["steps"] is not None]
    took = ", ".join(f"{call['seconds']:.2f}" for call in calls[:4]) + (", ..." if len(calls) > 4 else "")
    requested = f" for {max(steps)} of {record['steps_asked']} steps" if steps else ""
    crowded = "; ".join(contention(record["surroundings"]))
    return (
        f"{head}{took} s{requested}, load {record['load']['seconds']:.2f} s, peak {_peak(record) / GIB:.2f} GiB"
        f"{f' (contended: {crowded})' if crowded else ''}"
    )
