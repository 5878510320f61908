"""Denoising diffusion with discrete time steps: the noise of training and what the denoiser has to predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from fc_bench.model.errors import ModelInputError, loading

PREDICTIONS = ("epsilon", "v_prediction")
"""The supported prediction types: of the noise, and of the velocity (arXiv 2202.00512)."""


class Diffusion:
    """The forward process of a pipeline, with its noise schedule and prediction type.

    Raises ModelInputError for an unsupported prediction type.
    """

    def __init__(self, scheduler: DDPMScheduler) -> None:
        self.scheduler = scheduler
        self.prediction: str = scheduler.config["prediction_type"]
        if self.prediction not in PREDICTIONS:
            raise ModelInputError(
                f'the scheduler has the prediction type "{self.prediction}", which training does not support: set '
                f"prediction_type to {' or '.join(PREDICTIONS)} in scheduler_config.json, or choose another backbone"
            )

    @classmethod
    def of(cls, pipeline: Path) -> Diffusion:
        """The process of the pipeline in a folder; raises ModelInputError when its scheduler cannot be read."""
        with loading(f"the scheduler {pipeline / 'scheduler'}"):
            untyped: Any = DDPMScheduler  # its declared types include unused options
            return cls(untyped.from_config(untyped.load_config(pipeline, subfolder="scheduler")))

    @property
    def num_timesteps(self) -> int:
        """Number of time steps, which count from 0."""
        return int(self.scheduler.config["num_train_timesteps"])

    def draw_timesteps(self, rows: int, generator: torch.Generator) -> Tensor:
        """Uniformly drawn time steps [rows], on the CPU."""
        return torch.randint(self.num_timesteps, (rows,), generator=generator)

    def noised(self, latents: Any, noise: Any, timesteps: Any) -> Tensor:
        """Latents with the noise of their time steps; all have one row a picture."""
        return self.scheduler.add_noise(latents, noise, timesteps)

    def target(self, latents: Any, noise: Any, timesteps: Any) -> Tensor:
        """What the denoiser has to predict, in the shape of the latents."""
        return noise if self.prediction == "epsilon" else self.scheduler.get_velocity(latents, noise, timesteps)
