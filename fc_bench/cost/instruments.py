"""Clocks of a measuring process: of whole calls, of sampler steps and of training steps.

None of them needs the method's help: sampler steps are seen at the `step` of diffusers' schedulers and training steps
at that of torch's optimizers, so plug-ins are measured as the built-in methods are.
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
    """Wait for what an accelerator has been given to do."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def timed(work: Callable[[], Result], device: str) -> tuple[Result, float]:
    """The result of `work` and its seconds, from idle to idle."""
    synchronize(device)
    begun = time.perf_counter()
    result = work()
    synchronize(device)
    return result, time.perf_counter() - begun


class StepEnds:
    """When steps ended, in seconds of `perf_counter`."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.ends: list[float] = []
        self.irregular = 0
        """Steps up to the last one that did not do what a step does (with float16: gradients that overflowed)."""

    def end(self, regular: bool = True) -> None:
        """A step has ended."""
        synchronize(self._device)
        self.ends.append(time.perf_counter())
        if not regular:
            self.irregular = len(self.ends)

    def seconds(self) -> list[float]:
        """Of each step but the first, behind the last irregular one."""
        ends = self.ends[max(self.irregular - 1, 0) :]
        return [after - before for before, after in pairwise(ends)]


@contextmanager
def sampler_steps(device: str) -> Iterator[StepEnds]:
    """Notes the end of each `step` of any diffusers scheduler class loaded by now; none for other samplers."""
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
    """Notes the end of each update of any torch optimizer, and of each one that a gradient scaler leaves out.

    A method that updates several optimizers in a step shows more ends than it takes steps.
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
