"""The phases of a method in its measuring process: which calls are made how often, and what is recorded.

Each phase begins in a fresh process with loading the method. The amount of work is decided while measuring; the
smallest measurement is always made, whatever the budget.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fc_bench.cost.instruments import sampler_steps, timed, training_steps
from fc_bench.cost.memory_guard import Peaks, free_memory
from fc_bench.cost.surroundings import Surroundings
from fc_bench.protocols import (
    Customization,
    Method,
    Periodic,
    Request,
    Restorable,
    Setting,
    Subject,
    UsesClassImages,
    fill,
)
from fc_bench.suites.photographs import read_photograph

WARM_UPS = 3
"""Warm-up calls; on a CPU only one if three would take a large part of the allowance."""
CALLS_ON_ACCELERATOR, SECONDS_ON_ACCELERATOR = 20, 30.0
"""Smallest number of calls and seconds of a measurement on an accelerator, whatever the budget."""
SECONDS_FOR_NOTHING = 2.0
"""Seconds over which quick calls are repeated on a CPU, whatever the allowance, to have more than one value."""
MOST_CALLS = 60
"""Number of calls for a reliable median; they allow a 95th percentile."""
MOST_CUSTOMIZATIONS = 3
"""Largest share of the allowance for steps; the rest goes to images."""
FIRST_PERIODS = 3
"""Periods of equal steps in the first customization after its cold step: as many as an interval needs."""
FIRST_ON_ACCELERATOR = 20
"""Smallest number of its steps; with float16 some of the first overflow."""
STAND_INS = 4
"""Number of photographs that stand in for class images; the cost of a class image is measured on them."""


@dataclass(frozen=True)
class Assignment:
    """The task of one process: a phase of a method in a setting, until `deadline` (seconds since the epoch).

    `artefact` is the existing folder that customization writes and the other phases read.
    """

    kind: type[Method]
    options: BaseModel
    setting: Setting
    phase: str
    subject: Subject
    template: str
    seed: int
    artefact: Path
    deadline: float

    @property
    def accelerated(self) -> bool:
        """Whether an accelerator is measured."""
        return self.setting.device.startswith("cuda")

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.time()

    def built(self, **changes: Any) -> Method:
        """The method, with some options changed."""
        return self.kind(self.setting, self.options.model_copy(update=changes))


def measured(task: Assignment) -> dict[str, Any]:
    """Load the method and run the phase; returns the fields of its record that the measurement determines."""
    if task.phase == "customize":
        return _customize(task)
    device = task.setting.device
    with Peaks(device) as peaks:
        method, seconds = timed(task.built, device)
    found: dict[str, Any] = {"load": {"seconds": seconds, "memory": peaks.record}, "restore": None}
    restorable = isinstance(method, Restorable) and any(task.artefact.iterdir())
    with Peaks(device) as peaks:
        (method, customized), seconds = timed(lambda: _customized(task, method), device)
    if restorable:
        found["restore"] = {"seconds": seconds, "memory": peaks.record}
    draw = _drawing(task, method, customized)
    return found | {"step": _step, "first_image": _first_image, "image": _image}[task.phase](task, draw)


def _first_steps(task: Assignment, period: int = 1) -> dict[str, Any]:
    """The option `steps` of the first customization, if the method has one."""
    requested = getattr(task.options, "steps", None)
    if not isinstance(requested, int):
        return {}
    least = FIRST_ON_ACCELERATOR if task.accelerated else 0
    return {"steps": min(requested, max(1 + FIRST_PERIODS * period, least))}


def _customize(task: Assignment) -> dict[str, Any]:
    """Customize with few steps, then with as many as fit into the allowance, all of them if possible.

    A method without an option for its steps is customized completely, repeatedly within the allowance.
    """
    changes, device = _first_steps(task), task.setting.device
    with Peaks(device) as loading:
        method, seconds = timed(lambda: task.built(**changes), device)
    requested = getattr(task.options, "steps", None) if changes else None
    period = method.step_period if isinstance(method, Periodic) else 1
    if changes != (first := _first_steps(task, period)):
        changes = first
        del method
        method = task.built(**changes)
    images = _spare_drawing(task, method)
    calls: list[dict[str, Any]] = []
    with Surroundings(device) as surroundings, Peaks(device) as peaks:
        calls.append(_tuned(task, method, changes.get("steps")))
        while (steps := _next_steps(task, calls, requested, period)) is not None:
            if requested is not None and steps != changes["steps"]:
                changes = {"steps": steps}
                del method  # two at once would take the memory of two
                free_memory()
                method = task.built(**changes)
                _spare_drawing(task, method)
            calls.append(_tuned(task, method, changes.get("steps")))
    return {
        "load": {"seconds": seconds, "memory": loading.record},
        "restore": None,
        "calls": calls,
        "warm_ups": 0,
        "steps_asked": requested,
        "step_period": period,
        "class_images": images,
        "artefact": about_artefact(task.artefact),
        "memory": peaks.record,
        "surroundings": surroundings.record,
    }


def _next_steps(task: Assignment, calls: Sequence[dict[str, Any]], requested: int | None, period: int) -> int | None:
    """Steps of a further customization that fits into the allowance and adds information; None for none."""
    last = calls[-1]
    whole = last["seconds"] + last["shared_seconds"]
    if requested is None:
        quick = len(calls) < CALLS_ON_ACCELERATOR and sum(call["seconds"] for call in calls) < SECONDS_FOR_NOTHING
        return 0 if len(calls) < MOST_CALLS and (quick or whole < task.left()) else None
    if last["steps"] == requested:
        done = sum(1 for call in calls if call["steps"] == requested)
        return requested if done < MOST_CUSTOMIZATIONS and whole < task.left() else None
    steps = last["step_seconds"][-(len(last["step_seconds"]) // period * period) :]
    each = sum(steps) / len(steps) if steps else last["seconds_per_step"]
    if each is None:
        return requested
    room = last["steps"] + int((task.left() - whole) / each) // period * period if each > 0 else requested
    if room >= requested:
        return requested
    return room if len(calls) == 1 and room >= 2 * last["steps"] else None


def _tuned(task: Assignment, method: Method, steps: int | None) -> dict[str, Any]:
    """One customization into an empty artefact folder; the device is idle before and after."""
    shutil.rmtree(task.artefact, ignore_errors=True)
    task.artefact.mkdir(parents=True)
    with training_steps(task.setting.device) as ends:
        customized, seconds = timed(
            lambda: method.customize([task.subject], task.seed, task.artefact, None), task.setting.device
        )
    if not isinstance(customized, Customization):
        raise TypeError(f"the method gave a {type(customized).__name__} instead of a Customization")
    seen = len(ends.ends) == customized.steps
    return {
        "seconds": seconds - customized.shared_seconds,
        "shared_seconds": customized.shared_seconds,
        "steps": steps if steps is None else customized.steps,
        "step_seconds": ends.seconds() if seen else [],
        "seconds_per_step": customized.seconds_per_step,
    }


def _spare_drawing(task: Assignment, method: Method) -> dict[str, int] | None:
    """Replace class images by photographs; returns how many are used and requested, None for a method without them."""
    if not isinstance(method, UsesClassImages) or not method.class_image_count:
        return None
    own = [read_photograph(path) for path in task.subject.photographs]
    used = min(STAND_INS, method.class_image_count)
    method.use_class_images([own[number % len(own)] for number in range(used)])
    return {"used": used, "asked": method.class_image_count}


def _customized(task: Assignment, method: Method) -> tuple[Method, Customization]:
    """The subject, restored from its artefact or customized with the fewest steps, and the method that generates it."""
    if isinstance(method, Restorable) and any(task.artefact.iterdir()):
        return method, method.restore([task.subject], [task.artefact])
    if _first_steps(task):
        method = task.built(steps=1)
        _spare_drawing(task, method)
    return method, method.customize([task.subject], task.seed, task.artefact, None)


def _drawing(task: Assignment, method: Method, customized: Customization) -> Callable[[], float]:
    """A call that generates one image, from its prompt to the picture in main memory, and returns its seconds."""
    mention = method.mention(task.subject, 0)
    request = Request(fill(task.template, [mention]), fill(task.template, [task.subject.noun]), task.seed)

    def draw() -> float:
        images, seconds = timed(lambda: list(method.generate(customized, [request])), task.setting.device)
        if len(images) != 1:
            raise RuntimeError(f"the method gave {len(images)} images for one request")
        return seconds

    return draw


def _first_image(task: Assignment, draw: Callable[[], float]) -> dict[str, Any]:
    """The first image of the process."""
    return _called(task, draw, warm_ups=0, most=1, steps_seen=False)


def _image(task: Assignment, draw: Callable[[], float]) -> dict[str, Any]:
    """Images of a process that has generated some before."""
    return _called(task, draw, warm_ups=WARM_UPS, most=MOST_CALLS, steps_seen=False)


def _step(task: Assignment, draw: Callable[[], float]) -> dict[str, Any]:
    """Images of few sampler steps, with a check of the time after every step."""
    return _called(task, draw, warm_ups=WARM_UPS, most=MOST_CALLS, steps_seen=True)


def _called(task: Assignment, draw: Callable[[], float], warm_ups: int, most: int, steps_seen: bool) -> dict[str, Any]:
    device, calls = task.setting.device, []
    warmed = _warmed_up(task, draw, warm_ups)
    with Surroundings(device) as surroundings, Peaks(device) as peaks:
        begun = time.perf_counter()
        while True:
            with sampler_steps(device) if steps_seen else nullcontext() as ends:
                seconds = draw()
            calls.append(
                {
                    "seconds": seconds,
                    "steps": task.setting.sampler.steps,
                    "step_seconds": ends.seconds() if ends is not None else [],
                }
            )
            spent = time.perf_counter() - begun
            if task.accelerated:
                due = len(calls) < CALLS_ON_ACCELERATOR or spent < SECONDS_ON_ACCELERATOR
            else:
                due = len(calls) < CALLS_ON_ACCELERATOR and spent < SECONDS_FOR_NOTHING
            if most == 1 or (not due and (len(calls) >= most or task.left() < seconds)):
                break
    return {
        "calls": calls,
        "warm_ups": warmed,
        "memory": peaks.record,
        "surroundings": surroundings.record,
    }


def _warmed_up(task: Assignment, draw: Callable[[], float], most: int) -> int:
    """Warm up; on a CPU once, and again only if that takes a small part of the remaining time."""
    for number in range(most):
        seconds = draw()
        if not task.accelerated and task.left() < 10 * seconds:
            return number + 1
    return most


def about_artefact(folder: Path) -> dict[str, Any]:
    """Bytes, number of files and number formats of the artefact."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    dtypes = {dtype for file in files if file.suffix == ".safetensors" for dtype in _formats(file)}
    return {"bytes": sum(file.stat().st_size for file in files), "files": len(files), "dtypes": sorted(dtypes)}


def _formats(file: Path) -> set[str]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as tensors:
        names = list(tensors.keys())
        return {tensors.get_slice(name).get_dtype() for name in names if 0 not in tensors.get_slice(name).get_shape()}
