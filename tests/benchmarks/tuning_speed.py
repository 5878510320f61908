"""Seconds per training step of DreamBooth and Custom Diffusion, beside the standard loop written plainly.

    python tests/benchmarks/tuning_speed.py

The plain loop is the diffusers examples' in short: every step reads its photographs, encodes them and their prompts
anew and updates with AdamW as it comes. Both train the same weights, with the backbone's settings, in turns within one
process; ours includes what it encodes beforehand and writing the artefact. What counts is the ratio of the medians,
with the range over the turns.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.custom_diffusion import BEFORE, CustomDiffusion, install_processors
from fc_bench.baselines.dreambooth import DreamBooth
from fc_bench.baselines.tuning.augmentation import draw_rescaling, identity, rescale, valid_region
from fc_bench.baselines.tuning.class_images import class_images
from fc_bench.baselines.tuning.latents import pixels, square
from fc_bench.commands.run import resolve_sampler
from fc_bench.generation.device import resolve_device
from fc_bench.generation.plan import resolve_method
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.protocols import Setting, Subject
from fc_bench.registry import suite_file
from fc_bench.suites.photographs import read_photograph
from fc_bench.suites.suite import read_suite


def ours(method: Any, subject: Subject, steps: int) -> float:
    """Seconds per step of the method's own training, what it encodes beforehand included."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        method.train([subject], 0, Path(folder), None)
        return (time.perf_counter() - begun) / steps


def as_loaded(model: Any) -> Any:
    """A copy in the memory format that `from_pretrained` gives, which the examples keep."""
    return copy.deepcopy(model).to(memory_format=torch.contiguous_format)


def encoded(base: BasePipeline, vae: Any, pictures: list[torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        latents: Any = vae.encode(torch.stack(pictures).to(base.device, base.dtype))
        return latents.latent_dist.sample().float() * vae.config["scaling_factor"]


def autocast(base: BasePipeline) -> Any:
    return nullcontext() if base.dtype is torch.float32 else torch.autocast(base.device.type, base.dtype)


def synchronize(base: BasePipeline) -> None:
    if base.device.type == "cuda":
        torch.cuda.synchronize()


def tokens(tokenizer: Any, prompts: list[str], device: torch.device) -> torch.Tensor:
    length = tokenizer.model_max_length
    return tokenizer(
        prompts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    ).input_ids.to(device)


def diffusion_loss(unet: Any, schedule: Any, latents: Any, text: Any, mask: Any, weight: float) -> torch.Tensor:
    """Of photographs and as many class images behind them."""
    noise = torch.randn_like(latents)
    steps: Any = torch.randint(0, schedule.config.num_train_timesteps, (len(latents),), device=latents.device)
    predicted = unet(schedule.add_noise(latents, noise, steps).to(unet.dtype), steps, text.to(unet.dtype)).sample
    target = noise if schedule.config.prediction_type == "epsilon" else schedule.get_velocity(latents, noise, steps)
    (own, prior), (own_target, prior_target) = predicted.float().chunk(2), target.chunk(2)
    loss = nn.functional.mse_loss(own, own_target, reduction="none")
    loss = loss.mean() if mask is None else ((loss * mask).sum([1, 2, 3]) / mask.sum([1, 2, 3])).mean()
    return loss + weight * nn.functional.mse_loss(prior, prior_target)


def updated(optimizer: Any, parameters: list[Any], loss: torch.Tensor, norm: float) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, norm)
    optimizer.step()
    optimizer.zero_grad()


def plain_dreambooth(base: BasePipeline, options: Any, subject: Subject, steps: int) -> float:
    """Seconds per step of the plain loop; the text encoder is frozen but runs at every step, as in the example."""
    unet, vae = as_loaded(base.fresh_unet(torch.float32)).requires_grad_(True).train(), as_loaded(base.vae)
    text_encoder = base.fresh_text_encoder(torch.float32).requires_grad_(options.train_text_encoder)
    parameters = [p for model in (unet, text_encoder) for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate)
    schedule, side = base.noise_schedule(), base.setting.sampler.resolution
    priors = class_images(base, f"a photo of a {subject.noun}", options.class_images).images
    begun = time.perf_counter()
    for step in range(steps):
        items = range(step * options.batch_size, (step + 1) * options.batch_size)
        own = [read_photograph(subject.photographs[item % options.photographs]) for item in items]
        pictures = [pixels(square(image, side)) for image in own]
        pictures += [pixels(square(priors[item % len(priors)], side)) for item in items]
        latents = encoded(base, vae, pictures)
        prompts = [f"a photo of a {options.rare_tokens[0]} {subject.noun}"] * len(own)
        prompts += [f"a photo of a {subject.noun}"] * len(own)
        with autocast(base):
            text = text_encoder(tokens(base.tokenizer, prompts, base.device))[0]
            loss = diffusion_loss(unet, schedule, latents, text, None, options.prior_weight)
        updated(optimizer, parameters, loss, options.max_grad_norm)
    synchronize(base)
    return (time.perf_counter() - begun) / steps


def plain_custom_diffusion(base: BasePipeline, options: Any, subject: Subject, steps: int) -> float:
    """Seconds per step of the plain loop: the whole embedding table trains, other rows' gradients are zeroed."""
    unet, vae = as_loaded(base.fresh_unet()).train(), as_loaded(base.vae)
    weights = [parameter for processor in install_processors(unet).values() for parameter in processor.parameters()]
    tokenizer, text_encoder = base.fresh_tokenizer(), base.fresh_text_encoder(torch.float32)
    tokenizer.add_tokens("<new1>")
    text_encoder.resize_token_embeddings(len(tokenizer))
    table = text_encoder.get_input_embeddings().weight.requires_grad_(True)
    optimizer = torch.optim.AdamW([table, *weights], lr=options.learning_rate)
    schedule, side = base.noise_schedule(), base.setting.sampler.resolution
    priors = class_images(base, f"a photo of a {subject.noun}", options.class_images).images
    drawn = np.random.default_rng(0)
    others = torch.arange(len(tokenizer), device=base.device) != tokenizer.convert_tokens_to_ids("<new1>")
    table.register_hook(lambda gradient: gradient.masked_fill(others.unsqueeze(1), 0))
    begun = time.perf_counter()
    for step in range(steps):
        items = range(step * options.batch_size, (step + 1) * options.batch_size)
        hows = [draw_rescaling(drawn, side) if options.augmentation else identity(side) for _ in items]
        own = [read_photograph(subject.photographs[item % options.photographs]) for item in items]
        pictures = [rescale(image, how, side) for image, how in zip(own, hows, strict=True)]
        pictures += [pixels(square(priors[item % len(priors)], side)) for item in items]
        latents = encoded(base, vae, pictures)
        mask = torch.stack([valid_region(how, side, latents.shape[-1]) for how in hows]).to(base.device)
        prompts = [f"{how.prefix}{BEFORE} <new1> {subject.noun}" for how in hows]
        prompts += [f"a photo of a {subject.noun}"] * len(own)
        with autocast(base):
            text = text_encoder(tokens(tokenizer, prompts, base.device))[0]
            loss = diffusion_loss(unet, schedule, latents, text, mask, options.prior_weight)
        updated(optimizer, [table, *weights], loss, options.max_grad_norm)
    synchronize(base)
    return (time.perf_counter() - begun) / steps


METHODS: dict[str, tuple[type[Any], Callable[..., float]]] = {
    "dreambooth": (DreamBooth, plain_dreambooth),
    "custom-diffusion": (CustomDiffusion, plain_custom_diffusion),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--backbone", default="pocket")
    parser.add_argument("--steps", type=int, help="steps a turn; the backbone's setting if not given")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    backbone, suite = read_backbone(asked.backbone), read_suite(suite_file("pocket-tuning"))
    device = resolve_device(asked.device)
    dtype = backbone.dtype.cuda if device.startswith("cuda") else backbone.dtype.cpu
    setting = Setting(backbone, resolve_sampler(suite, backbone), device, dtype)
    print(f"{backbone.name}, {device}, {dtype}, {torch.get_num_threads()} threads, {asked.turns} turns")
    for name, (kind, plain) in METHODS.items():
        given = {"class_images": 16, **({"steps": asked.steps} if asked.steps else {})}
        options: Any = resolve_method(name, given, setting)[1]
        method, steps = kind(setting, options), options.steps
        subject = suite.subjects[0]
        ours(method, subject, steps)  # class images are drawn and encoded once for all subjects
        plain(method.base, options, subject, 2)
        pairs = [
            (ours(method, subject, steps), plain(method.base, options, subject, steps)) for _ in range(asked.turns)
        ]
        own, other = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = sorted(mine / theirs for mine, theirs in pairs)
        print(
            f"{name}, {steps} steps a turn: {own * 1e3:.1f} ms a step, plain loop {other * 1e3:.1f} ms, "
            f"ratio {own / other:.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]",
            flush=True,
        )


if __name__ == "__main__":
    main()
