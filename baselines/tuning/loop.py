"""The fine-tuning loop that all methods share: the diffusion loss, with or without prior preservation, and AdamW.

Every random draw is a function of seed and step, so a customization continued from a checkpoint takes the same steps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from fc_bench.errors import UserError
from fc_bench.protocols import Checkpoints

CHECK_EVERY = 25
"""Steps between two looks at whether the loss is still a number; looking waits for an accelerator."""
ORDER, DIFFUSION, PICTURES, AUGMENTATION = range(4)
"""Streams of random draws."""


@dataclass(frozen=True)
class Settings:
    """How a customization is optimized; `batch_size` counts photographs, class images come on top."""

    steps: int
    batch_size: int
    max_grad_norm: float
    prior_weight: float = 1.0


@dataclass(frozen=True)
class Batch:
    """What the UNet is trained on in one step: photographs first, then as many class images, or none.

    `latents` [batch, channels, height, width] as the UNet sees them, `text` [batch, length, features]. With `mask`
    [photographs, 1, height, width] only its pixels of the photographs count.
    """

    latents: Tensor
    text: Tensor
    photographs: int
    mask: Tensor | None = None


class Draws:
    """Random draws of a customization, on the CPU, by seed, stream and position."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def numpy(self, stream: int, position: int) -> np.random.Generator:
        """A fresh generator."""
        return np.random.default_rng([self._seed, stream, position])

    def torch(self, stream: int, position: int) -> torch.Generator:
        """A fresh generator."""
        return torch.Generator().manual_seed(int(self.numpy(stream, position).integers(2**63)))

    def items(self, step: int, batch_size: int, count: int) -> list[int]:
        """The step's items of `count`, in epochs that each shuffle all of them."""
        chosen = []
        for position in range(step * batch_size, (step + 1) * batch_size):
            epoch, index = divmod(position, count)
            chosen.append(int(self.numpy(ORDER, epoch).permutation(count)[index]))
        return chosen


class Training(Protocol):
    """What one customization trains and on what; made by a method, run by `tune`."""

    unet: UNet2DConditionModel

    def parameter_groups(self) -> list[dict[str, Any]]:
        """AdamW's parameter groups, each with its learning rate and weight decay, the same ones in the same order."""
        ...

    def batch(self, step: int, draws: Draws) -> Batch:
        """The step's batch; latents' posterior noise comes from the draws, text may carry a gradient."""
        ...

    def after_backward(self) -> None:
        """Before gradients are clipped."""
        ...

    def after_update(self) -> None:
        """After the weights have changed."""
        ...


@dataclass(frozen=True)
class Tuned:
    """What `tune` did: steps of the whole customization, those of this process, their seconds, the losses' mean."""

    steps: int
    continued_from: int
    seconds: float
    earlier_seconds: float
    last_loss: float

    @property
    def seconds_per_step(self) -> float:
        """Over the steps of this process; over the earlier ones when it took none."""
        taken = self.steps - self.continued_from
        return self.seconds / taken if taken else self.earlier_seconds / self.steps


def tune(
    training: Training,
    schedule: DDPMScheduler,
    settings: Settings,
    seed: int,
    precision: torch.dtype,
    checkpoints: Checkpoints | None = None,
) -> Tuned:
    """Take the steps, from the newest checkpoint on if there is one.

    `precision` other than float32 computes under autocast; with float16 the loss is scaled. Raises UserError when the
    loss, or a weight after the last step, is no longer a number.
    """
    unet = training.unet
    device = unet.device
    groups = training.parameter_groups()
    parameters = [parameter for group in groups for parameter in group["params"]]
    optimizer = torch.optim.AdamW(groups, fused=device.type in ("cpu", "cuda"))
    scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)
    draws = Draws(seed)
    progress = _Progress(optimizer, parameters, scaler, checkpoints)
    first, earlier = progress.restore()
    losses: list[Tensor] = []
    unet.train()
    begun = time.perf_counter()
    for step in range(first, settings.steps):
        with _autocast(device, precision):
            loss = diffusion_loss(unet, schedule, training.batch(step, draws), draws, step, settings.prior_weight)
        scaler.scale(loss).backward()
        training.after_backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        training.after_update()
        losses.append(loss.detach())
        taken = step + 1
        due = progress.due(taken)
        if due or taken % CHECK_EVERY == 0 or taken == settings.steps:
            _require_finite(losses, taken)
            losses = losses[-CHECK_EVERY:]
        if due:
            progress.save(taken, earlier + time.perf_counter() - begun)
    unet.eval()
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        raise UserError(
            f"Tuning diverged: a weight is not a number after step {settings.steps}; lower the learning rate."
        )
    seconds = time.perf_counter() - begun
    last = float(torch.stack(losses).mean()) if losses else float("nan")
    return Tuned(settings.steps, first, seconds, earlier, last)


def diffusion_loss(
    unet: UNet2DConditionModel, schedule: DDPMScheduler, batch: Batch, draws: Draws, step: int, prior_weight: float
) -> Tensor:
    """Mean squared error of the photographs plus `prior_weight` times that of the class images (DreamBooth, eq. 2).

    With a mask the photographs' squared errors are summed over channels and averaged over its pixels (Custom
    Diffusion's valid region).
    """
    generator = draws.torch(DIFFUSION, step)
    latents = batch.latents
    noise: Any = torch.randn(latents.shape, generator=generator).to(latents.device)
    count = int(schedule.config["num_train_timesteps"])
    timesteps: Any = torch.randint(count, (len(latents),), generator=generator).to(latents.device)
    noisy = schedule.add_noise(latents, noise, timesteps)
    predicted = unet(noisy.to(unet.dtype), timesteps, batch.text.to(unet.dtype)).sample
    wanted = noise
    if schedule.config["prediction_type"] == "v_prediction":
        wanted = schedule.get_velocity(latents, noise, timesteps)
    errors = nn.functional.mse_loss(predicted.float(), wanted.float(), reduction="none")
    own, prior = errors[: batch.photographs], errors[batch.photographs :]
    loss = own.mean() if batch.mask is None else _masked_mean(own, batch.mask)
    return loss + prior_weight * prior.mean() if len(prior) else loss


def _masked_mean(errors: Tensor, mask: Tensor) -> Tensor:
    return ((errors * mask).sum([1, 2, 3]) / mask.sum([1, 2, 3])).mean()


def _autocast(device: torch.device, precision: torch.dtype) -> Any:
    return nullcontext() if precision is torch.float32 else torch.autocast(device.type, precision)


def _require_finite(losses: Sequence[Tensor], taken: int) -> None:
    bad = ~torch.isfinite(torch.stack(list(losses)))
    if bool(bad.any()):
        step = taken - len(losses) + int(bad.nonzero()[0]) + 1
        raise UserError(f"Tuning diverged: the loss of step {step} is not a number; lower the learning rate.")


class _Progress:
    """Checkpoints of one customization: trained parameters, the optimizer's and the scaler's state."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        scaler: torch.amp.GradScaler,
        checkpoints: Checkpoints | None,
    ) -> None:
        self._optimizer = optimizer
        self._parameters = parameters
        self._scaler = scaler
        self._checkpoints = checkpoints

    def due(self, taken: int) -> bool:
        """Whether a checkpoint is to be left after so many steps."""
        return self._checkpoints is not None and taken % self._checkpoints.every == 0

    def save(self, taken: int, seconds: float) -> None:
        """Leave a checkpoint in the place of the earlier one, by atomic rename."""
        file = self._file()
        partial = file.with_suffix(".part")
        state = {
            "steps": taken,
            "seconds": seconds,
            "parameters": [parameter.detach() for parameter in self._parameters],
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        torch.save(state, partial)
        os.replace(partial, file)

    def restore(self) -> tuple[int, float]:
        """Steps taken and seconds spent before; (0, 0.0) without a checkpoint; UserError when it is damaged."""
        if self._checkpoints is None or not self._file().exists():
            return 0, 0.0
        try:
            state = torch.load(self._file(), map_location="cpu", weights_only=True)
        except Exception as error:  # whatever zip, pickle or the file system say of a damaged file
            raise UserError(
                f"The checkpoint {self._file()} cannot be read ({type(error).__name__}); delete it to tune from the "
                "beginning."
            ) from error
        with torch.no_grad():
            for parameter, value in zip(self._parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        return int(state["steps"]), float(state["seconds"])

    def _file(self) -> Path:
        assert self._checkpoints is not None
        return self._checkpoints.folder / "checkpoint.pt"
