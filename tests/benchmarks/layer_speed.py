"""Training steps of a UNet with the faster form of its layers, beside the stock layers, in turns.

    python tests/benchmarks/layer_speed.py --backbones sd15 sdxl

Each UNet has random weights in its backbone's architecture, at a share of its width. A step trains low-rank
adapters, or all weights. The forms are those of `fc_bench.baselines.tuning`; the times of steps are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch

from fc_bench.baselines.tuning.layers import training_layers
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.model.backbones.random_weights import read_architecture
from fc_bench.model.families.condition import Condition, Framing
from fc_bench.model.families.detection import FAMILIES
from fc_bench.model.families.family import Family
from fc_bench.model.low_rank import add_adapter

RANK = 4
TRAINED = ("adapters", "all weights")


def unet_of(family: Family, architecture: dict[str, Any], width: int, trained: str) -> Any:
    """The UNet at a share 1 / `width` of its width, ready for training."""
    smaller = {name: architecture[name] // width for name in ("cross_attention_dim", "norm_num_groups")}
    smaller["block_out_channels"] = [channels // width for channels in architecture["block_out_channels"]]
    torch.manual_seed(0)
    unet = family.part("unet").build({**architecture, **smaller})
    unet.requires_grad_(trained == "all weights")
    if trained == "adapters":
        add_adapter(unet, RANK, family.denoiser_adapters)
    return unet.train()


def inputs_of(family: Family, unet: Any, side: int) -> tuple[Any, Any, Condition]:
    """Noisy latents, a time step and a condition of one picture."""
    pooled = None
    if unet.config.addition_embed_type is not None:
        pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        pooled = torch.randn(1, pooled)
    condition = Condition(torch.randn(1, 77, unet.config.cross_attention_dim), pooled)
    latents = torch.randn(1, unet.config.in_channels, side, side)
    return latents, torch.tensor([500]), family.framed(condition, [Framing.whole(8 * side, 8 * side)])


def pairs(family: Family, unet: Any, side: int, turns: int) -> Iterator[tuple[float, float]]:
    """Processor seconds of a step, ours and of the stock layers, a pair a turn after one that warms up."""
    inputs = inputs_of(family, unet, side)

    def step(ours: bool) -> float:
        with training_layers(unet, torch.float32) if ours else nullcontext():  # made once for a training
            begun = time.process_time()
            family.denoise(unet, *inputs).square().mean().backward()
            seconds = time.process_time() - begun
        unet.zero_grad(set_to_none=True)
        return seconds

    for turn in range(turns + 1):
        own, stock = (step(True), step(False)) if turn % 2 else (step(False), step(True))[::-1]
        if turn:
            yield own, stock


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--backbones", nargs="+", default=["sd15", "sdxl"])
    parser.add_argument("--trained", nargs="+", choices=TRAINED, default=list(TRAINED))
    parser.add_argument("--width", type=int, default=4, help="divisor of the UNet's width")
    parser.add_argument("--side", type=int, default=32, help="side of the latents")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name in asked.backbones:
        backbone = read_backbone(name)
        configuration = read_architecture(backbone)["unet"]
        family = next(family for family in FAMILIES if family.has_denoiser(configuration))
        for trained in asked.trained:
            unet = unet_of(family, configuration, asked.width, trained)
            found = list(pairs(family, unet, asked.side, asked.turns))
            own, stock = (statistics.median(column) for column in zip(*found, strict=True))
            ratios = sorted(one / other for one, other in found)
            print(
                f"{name}, {trained}: {own:.3g} s a step, stock layers {stock:.3g} s, ratio "
                f"{statistics.median(ratios):.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}]",
                flush=True,
            )


if __name__ == "__main__":
    main()
