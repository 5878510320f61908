"""The text-only first sampling steps, stored as a state from which sampling can branch.

With delayed subject conditioning (FastComposer, arXiv 2305.10431, section 4.3), these steps depend only on the plain
prompt, the seed and the sampler. Sampling can continue from the same latents for any subjects.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fc_bench.model.families.condition import Condition
from fc_bench.model.families.family import Family


@dataclass(frozen=True)
class Prefix:
    """The state of a batch after its first `iterations`, in main memory; any number of samplings can continue from it.

    `latents` are [batch, channels, height, width], `scheduler` is the scheduler's state, and `steps` is the number of
    steps that the scheduler was set to.
    """

    iterations: int
    steps: int
    latents: Tensor
    scheduler: Mapping[str, Any]

    @property
    def nbytes(self) -> int:
        """Total size of its tensors in bytes."""
        return self.latents.nbytes + sum(tensor.nbytes for tensor in _tensors(self.scheduler))


def sees_subjects(iteration: int, alpha: float, steps: int) -> bool:
    """Whether an iteration (from 0) is conditioned on the subjects, by the authors' expression; the first never is.

    PNDM has one more iteration than steps.
    """
    return iteration > (1 - alpha) * steps


def text_only_iterations(alpha: float, steps: int, iterations: int) -> int:
    """Number of a sampler's `iterations` for `steps` steps that are conditioned on the text alone."""
    return sum(not sees_subjects(iteration, alpha, steps) for iteration in range(iterations))


class ResumableSampling:
    """Sampling with a family's pipeline that can stop after any iteration and continue from a `Prefix`.

    Each iteration equals that of the stock pipeline's loop with a deterministic sampler. Creating the object sets the
    pipeline's scheduler to `steps`.
    """

    def __init__(self, family: Family, pipeline: Any, steps: int, guidance_scale: float) -> None:
        self._family = family
        self._pipeline, self._scheduler, self._steps = pipeline, pipeline.scheduler, steps
        pipeline._guidance_scale = guidance_scale
        pipeline._guidance_rescale = 0.0
        self._scheduler.set_timesteps(steps, device=pipeline._execution_device)
        self._fresh = dict(vars(self._scheduler))
        self._latents: Tensor | None = None
        self._next = 0

    @property
    def iterations(self) -> int:
        """Number of iterations of the complete sampling."""
        return len(self._scheduler.timesteps)

    def begin(self, latents: Tensor) -> None:
        """Start from initial latents, which are already scaled to the scheduler's first noise level."""
        self._latents, self._next = latents, 0

    def resume(self, prefix: Prefix) -> None:
        """Continue from a prefix with the same number of steps."""
        device = self._pipeline._execution_device
        self._latents, self._next = prefix.latents.to(device), prefix.iterations
        vars(self._scheduler).update(_copied(prefix.scheduler, device))

    def advance(self, until: int, condition: Callable[[int], Condition]) -> Tensor:
        """The latents after all iterations before `until`.

        `condition` returns the condition of an iteration; with guidance, the negative rows come first.
        """
        pipeline, latents = self._pipeline, self._latents
        assert latents is not None
        guided = pipeline.do_classifier_free_guidance
        for iteration in range(self._next, until):
            timestep = self._scheduler.timesteps[iteration]
            noisy = torch.cat([latents] * 2) if guided else latents
            noisy = self._scheduler.scale_model_input(noisy, timestep)
            noise = self._family.denoise(pipeline.unet, noisy, timestep, condition(iteration))
            if guided:
                unconditional, conditional = noise.chunk(2)
                noise = unconditional + pipeline.guidance_scale * (conditional - unconditional)
            latents = self._scheduler.step(noise, timestep, latents, return_dict=False)[0]
        self._latents, self._next = latents, max(until, self._next)
        return latents

    def prefix(self) -> Prefix:
        """The current state of the sampling."""
        assert self._latents is not None
        state = {
            name: value
            for name, value in vars(self._scheduler).items()
            if isinstance(value, list) or value is not self._fresh.get(name)
        }
        return Prefix(self._next, self._steps, _copied(self._latents, "cpu"), _copied(state, "cpu"))


def _copied(value: Any, device: torch.device | str) -> Any:
    """A copy with its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device, copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item, device) for item in value)
    return value


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
