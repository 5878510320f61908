"""Timers of a measuring process: for whole calls, sampler steps and training steps.

They need no help of the method: sampler steps are observed at the `step` of diffusers' schedulers and training steps at
that of torch's optimizers, so plug-ins are measured like built-in methods.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar

Result = TypeVar("Result")


def synchronize(device: str) -> None:
    """Wait until an accelerator has finished its work."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def timed(work: Callable[[], Result], device: str) -> tuple[Result, float]:
    """The result of `work` and its seconds; the device is idle before and after."""
    synchronize(device)
    begun = time.perf_counter()
    result = work()
    synchronize(device)
    return result, time.perf_counter() - begun


class StepEnds:
    """Times at which steps ended, in seconds of `perf_counter`."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.ends: list[float] = []
        self.irregular = 0
        """Steps up to the last irregular one (with float16: one with overflowed gradients)."""

    def end(self, regular: bool = True) -> None:
        """Record the end of a step."""
        synchronize(self._device)
        self.ends.append(time.perf_counter())
        if not regular:
            self.irregular = len(self.ends)

    def seconds(self) -> list[float]:
        """Seconds of each step after the last irregular one, without the first."""
        ends = self.ends[max(self.irregular - 1, 0) :]
        return [after - before for before, after in pairwise(ends)]


@contextmanager
def sampler_steps(device: str) -> Iterator[StepEnds]:
    """Records the end of each `step` of any loaded diffusers scheduler class; other samplers are not recorded."""
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

    found = StepEnds(device)
    inside = 0

    def watched(step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)
        def noted(*arguments: Any, **named: Any) -> Any:
            nonlocal inside
            inside += 1
            try:
                return step(*arguments, **named)
            finally:
                inside -= 1
                if not inside:  # a step that calls its parent's, or another scheduler's, is one step
                    found.end()

        return noted

    originals = [(kind, kind.__dict__["step"]) for kind in _below(SchedulerMixin) if "step" in kind.__dict__]
    for kind, step in originals:
        kind.step = watched(step)
    try:
        yield found
    finally:
        for kind, step in originals:
            kind.step = step


@contextmanager
def training_steps(device: str) -> Iterator[StepEnds]:
    """Records the end of each update of any torch optimizer, and of each update that a gradient scaler skips.

    A method that updates several optimizers per step records more ends than steps.
    """
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    found = StepEnds(device)
    updated = False

    def after_update(*_: Any) -> None:
        nonlocal updated
        updated = True
        found.end()

    scalers: Any = torch.amp.GradScaler
    scaler_update = scalers.update

    @functools.wraps(scaler_update)
    def after_scaling(scaler: Any, *arguments: Any, **named: Any) -> None:
        nonlocal updated
        scaler_update(scaler, *arguments, **named)
        if not updated:
            found.end(regular=False)
        updated = False

    hook = register_optimizer_step_post_hook(after_update)
    scalers.update = after_scaling
    try:
        yield found
    finally:
        scalers.update = scaler_update
        hook.remove()


def _below(kind: type) -> Iterator[Any]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)
