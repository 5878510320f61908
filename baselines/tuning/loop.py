"""The training loop of all tuned methods: AdamW on the diffusion loss, with or without prior preservation.

Every random draw is a function of seed and step, so a resumed customization takes the same steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fc_bench.baselines.tuning.checkpoint import CheckpointFile, Progress
from fc_bench.errors import UserError
from fc_bench.model.families.condition import Condition
from fc_bench.model.families.diffusion import Diffusion
from fc_bench.model.families.family import Family
from fc_bench.protocols import Checkpoints

CHECK_EVERY = 25
"""Number of steps between two checks that the loss is finite; a check synchronizes with the accelerator."""
ORDER, DIFFUSION, PICTURES, AUGMENTATION = range(4)
"""The streams of random draws."""


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the optimization; gradients are not clipped if `max_grad_norm` is None.

    A step adds up the gradients of so many `parts` of its batch.
    """

    steps: int
    max_grad_norm: float | None
    prior_weight: float = 1.0
    parts: int = 1


@dataclass(frozen=True)
class Batch:
    """One training step's input of the denoiser: photographs, then the same number of class images or none.

    `latents` are scaled latents [batch, channels, height, width]. A `mask` [photographs, 1, height, width] restricts
    the photographs' loss to its pixels.
    """

    latents: Tensor
    condition: Condition
    photographs: int
    mask: Tensor | None = None

    def part(self, number: int, parts: int) -> tuple[list[int], list[int]]:
        """Rows of the photographs and of the class images in one of `parts` parts of similar size."""
        rows = range(len(self.latents))
        return list(rows[: self.photographs][number::parts]), list(rows[self.photographs :][number::parts])


class Draws:
    """The random draws of a customization, made on the CPU, as a function of seed, stream and position."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def numpy(self, stream: int, position: int) -> np.random.Generator:
        """A new NumPy generator for a position of a stream."""
        return np.random.default_rng([self._seed, stream, position])

    def torch(self, stream: int, position: int) -> torch.Generator:
        """A new torch generator for a position of a stream."""
        return torch.Generator().manual_seed(int(self.numpy(stream, position).integers(2**63)))

    def items(self, step: int, batch_size: int, count: int) -> list[int]:
        """The step's items out of `count`; each epoch shuffles all of them."""
        chosen = []
        for position in range(step * batch_size, (step + 1) * batch_size):
            epoch, index = divmod(position, count)
            chosen.append(int(self.numpy(ORDER, epoch).permutation(count)[index]))
        return chosen


class Training(Protocol):
    """The parameters and the data of one customization; a method creates it and `tune` runs it."""

    unet: Any
    """The denoiser."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """AdamW's parameter groups with learning rate and weight decay; every call returns the same order."""
        ...

    def batch(self, step: int, draws: Draws) -> Batch:
        """The step's batch; its random numbers come from `draws`, and its condition may carry a gradient."""
        ...


@dataclass(frozen=True)
class TuningResult:
    """Steps, seconds and final loss of one training."""

    steps: int
    """All steps, including those before an interruption."""
    continued_from: int
    """Steps that the checkpoint already had; 0 without one."""
    seconds: float
    """Seconds of this process."""
    earlier_seconds: float
    """Seconds before the interruption."""
    updates: int
    """Optimizer updates; in float16, a step with overflowing gradients makes none."""
    last_loss: float
    """Mean loss of the last steps, at most `CHECK_EVERY` of them."""

    @property
    def seconds_per_step(self) -> float:
        """Mean seconds over all steps."""
        return (self.seconds + self.earlier_seconds) / self.steps


def tune(
    family: Family,
    training: Training,
    diffusion: Diffusion,
    settings: LoopSettings,
    seed: int,
    precision: torch.dtype,
    checkpoints: Checkpoints | None = None,
    identity: str = "",
) -> TuningResult:
    """Train all steps, starting from the newest checkpoint if there is one with this `identity`.

    A `precision` other than float32 uses autocast, and float16 also scales the loss. Raises UserError when the loss or
    a final weight is not finite, when no step made an update, and when the checkpoint belongs to another customization.
    """
    unet = training.unet
    device = unet.device
    groups = [{**group, "params": list(map(_Leaf, group["params"]))} for group in training.parameter_groups()]
    leaves: list[_Leaf] = [leaf for group in groups for leaf in group["params"]]
    parameters = [leaf.updated for leaf in leaves]
    updated = [{**group, "params": [leaf.updated for leaf in group["params"]]} for group in groups]
    optimizer = torch.optim.AdamW(updated, fused=device.type in ("cpu", "cuda"))
    scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)
    draws = Draws(seed)
    file = CheckpointFile(checkpoints, identity, parameters, optimizer, scaler)
    before = file.restore()
    losses = before.losses
    unet.train(any(module.p for module in unet.modules() if isinstance(module, nn.Dropout)))  # without copies if not
    begun = time.perf_counter()
    for step in range(before.steps, settings.steps):
        with _autocast(device, precision):
            batch = training.batch(step, draws)
        split, join = _split_graph(batch, settings.parts)
        parts: list[Tensor] = []
        for number in range(settings.parts):
            with _autocast(device, precision):
                given = (split, draws, step, settings.prior_weight, number, settings.parts)
                loss = diffusion_loss(family, unet, diffusion, *given)
            scaler.scale(loss).backward()
            parts.append(loss.detach())
        join()
        for leaf in leaves:
            leaf.hand_over()
        if settings.max_grad_norm is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        losses.append(torch.stack(parts).sum())
        taken = step + 1
        due = file.due(taken)
        if due or taken % CHECK_EVERY == 0 or taken == settings.steps:
            _require_finite(losses, taken)
            losses = losses[-CHECK_EVERY:]
        if due:
            file.save(Progress(taken, before.seconds + time.perf_counter() - begun, losses))
    unet.eval()
    updates = _require_updates(optimizer, parameters, settings.steps)
    seconds = time.perf_counter() - begun
    last = float(torch.stack([loss.cpu() for loss in losses]).mean())
    return TuningResult(settings.steps, before.steps, seconds, before.seconds, updates, last)


class _Leaf:
    """A trained parameter and what the optimizer updates in its place: the parameter itself, or, of one that lies
    channels-last in memory, a contiguous view. Fused AdamW on a CPU copies every tensor that is not contiguous.
    """

    def __init__(self, parameter: nn.Parameter) -> None:
        self._parameter = parameter
        self._moved = parameter.dim() == 4 and not parameter.is_contiguous()
        self.updated = nn.Parameter(parameter.detach().permute(0, 2, 3, 1)) if self._moved else parameter

    def hand_over(self) -> None:
        """Give the gradient to what the optimizer updates."""
        if self._moved and self._parameter.grad is not None:
            self.updated.grad = self._parameter.grad.permute(0, 2, 3, 1)
            self._parameter.grad = None


def _split_graph(batch: Batch, parts: int) -> tuple[Batch, Callable[[], None]]:
    """The batch for several backward passes, and what hands their gradients on to the text encoders afterwards."""
    condition = batch.condition
    tensors = {field.name: getattr(condition, field.name) for field in fields(condition)}
    trained = {name: one for name, one in tensors.items() if one is not None and one.requires_grad}
    if parts == 1 or not trained:
        return batch, lambda: None
    leaves = {name: tensor.detach().requires_grad_(True) for name, tensor in trained.items()}

    def join() -> None:
        torch.autograd.backward(list(trained.values()), [leaves[name].grad for name in trained])

    return replace(batch, condition=replace(condition, **leaves)), join


def diffusion_loss(
    family: Family,
    unet: Any,
    diffusion: Diffusion,
    batch: Batch,
    draws: Draws,
    step: int,
    prior_weight: float,
    number: int = 0,
    parts: int = 1,
) -> Tensor:
    """Mean squared error of the photographs plus `prior_weight` times that of the class images, a scalar.

    This is equation 2 of DreamBooth (arXiv 2208.12242). With a mask (Custom Diffusion's valid region), the photographs'
    squared errors are summed over channels and averaged over the pixels of the mask. Of several `parts`, each has a
    share of the rows, and their losses add up to that of the whole batch.
    """
    generator = draws.torch(DIFFUSION, step)
    latents, condition, mask = batch.latents, batch.condition, batch.mask
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    timesteps = diffusion.draw_timesteps(len(latents), generator).to(latents.device)
    own_rows, prior_rows = batch.part(number, parts)
    if parts > 1:
        rows = own_rows + prior_rows
        latents, noise, timesteps, condition = latents[rows], noise[rows], timesteps[rows], condition.rows(rows)
        mask = None if mask is None else mask[own_rows]
    noisy = diffusion.noised(latents, noise, timesteps).to(unet.dtype)
    predicted = family.denoise(unet, noisy, timesteps, condition.to(unet.dtype))
    wanted = diffusion.target(latents, noise, timesteps)
    errors = nn.functional.mse_loss(predicted.float(), wanted.float(), reduction="none")
    own, prior = errors[: len(own_rows)], errors[len(own_rows) :]
    loss = (own.mean() if mask is None else _masked_mean(own, mask)) * (len(own) / batch.photographs)
    share = len(prior) / max(len(batch.latents) - batch.photographs, 1)
    return loss + prior_weight * share * prior.mean() if len(prior) else loss


def _masked_mean(errors: Tensor, mask: Tensor) -> Tensor:
    return ((errors * mask).sum([1, 2, 3]) / mask.sum([1, 2, 3])).mean()


def _autocast(device: torch.device, precision: torch.dtype) -> Any:
    return nullcontext() if precision is torch.float32 else torch.autocast(device.type, precision)


def _require_finite(losses: Sequence[Tensor], taken: int) -> None:
    bad = ~torch.isfinite(torch.stack([loss.cpu() for loss in losses]))
    if bool(bad.any()):
        step = taken - len(losses) + int(bad.nonzero()[0]) + 1
        raise UserError(f"Tuning diverged: the loss of step {step} is not finite; lower the learning rate.")


def _require_updates(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], steps: int) -> int:
    """The number of optimizer updates; raises UserError when there is none or a weight is not finite."""
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        raise UserError(f"Tuning diverged: a weight is not finite after step {steps}; lower the learning rate.")
    state = optimizer.state.get(parameters[0], {})
    updates = int(state["step"]) if state else 0
    if not updates:
        raise UserError(
            f"Tuning changed nothing: the gradients of all {steps} steps overflow in float16; use bfloat16 or float32."
        )
    return updates
