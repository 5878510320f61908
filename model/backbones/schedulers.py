"""Diffusers schedulers by name."""

from __future__ import annotations

from typing import Any, Literal

SchedulerName = Literal["pndm", "ddim", "dpm", "euler"]


def make_scheduler(name: SchedulerName, config: Any) -> Any:
    """The named diffusers scheduler with the noise schedule of `config`, a scheduler's configuration.

    Options that only DDIM has are set to the values of Stable Diffusion, because DDIM's default clips predicted
    samples, which damages latents.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
    from diffusers.schedulers.scheduling_pndm import PNDMScheduler

    if name == "ddim":
        return DDIMScheduler.from_config(config, clip_sample=False, set_alpha_to_one=False)
    if name == "pndm":
        return PNDMScheduler.from_config(config, skip_prk_steps=True)
    if name == "dpm":
        return DPMSolverMultistepScheduler.from_config(config)
    return EulerDiscreteScheduler.from_config(config)
