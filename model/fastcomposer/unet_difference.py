"""A fine-tuned UNet as what fine-tuning changed of its base model's: eight bits a weight, half of half precision."""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fc_bench.model.errors import ModelInputError, loading
from fc_bench.model.fastcomposer.checkpoint import load_whole
from fc_bench.model.fastcomposer.overlay import UNET_DIFFERENCE

LEVELS = 127
"""Steps of an eight-bit difference on either side of zero."""
SCALE = ".scale"
"""Ends the name of a difference's step sizes, one an output channel."""


def load_unet(folder: Path, base: Path | str | None = None, dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    """The UNet of a folder, whole or as a difference to that of the pipeline `base` (a folder or hub id).

    A difference may be added to another base than its own: what a fine-tune learned carries over in part (Ilharco et
    al., Editing models with task arithmetic, arXiv 2212.04089). Raises ModelInputError if weights are missing or do
    not fit, or a difference has no base.
    """
    file = folder / UNET_DIFFERENCE
    if not file.is_file():
        return load_whole(UNet2DConditionModel, folder, dtype)
    if base is None:
        raise ModelInputError(
            f"the UNet {folder} is there as a difference alone: name the pipeline that it was trained from"
        )
    with loading(f"the UNet of {base}"):
        unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet", dtype=torch.float32)
    with loading(f"the UNet's difference {file}"):
        stored = load_file(file)
    weights = unet.state_dict()
    shapes = {name: value.shape for name, value in weights.items()}
    differences = {name: value for name, value in stored.items() if not name.endswith(SCALE)}
    unfit = [name for name, value in differences.items() if value.shape != shapes.get(name)]
    if unfit := sorted([*unfit, *(weights.keys() - differences.keys())]):
        raise ModelInputError(
            f"the UNet's difference {file} does not fit the UNet of {base}, among others {unfit[0]}: name the pipeline "
            "that it was trained from"
        )
    for name, difference in differences.items():
        weights[name] += _widened(difference, stored.get(name + SCALE))
    nn.Module.to(unet, dtype)
    return unet


def keep_difference(folder: Path, base: Path) -> None:
    """Reduce a fine-tuned UNet's folder to its difference to the UNet of the pipeline folder `base`.

    Weights of two and more dimensions are rounded to eight bits, in steps of 1/127 of an output channel's greatest
    difference; `load_unet` puts them together again.
    """
    tuned, start = load_whole(UNet2DConditionModel, folder), load_whole(UNet2DConditionModel, base / "unet")
    before, stored = start.state_dict(), {}
    for name, value in tuned.state_dict().items():
        difference = value - before[name]
        if difference.ndim < 2:
            stored[name] = difference.half()
            continue
        scale = difference.flatten(1).abs().amax(1) / LEVELS
        steps = difference / _along_rows(scale.clamp_min(torch.finfo(scale.dtype).tiny), difference)
        stored[name], stored[name + SCALE] = steps.round().to(torch.int8), scale
    for file in list(folder.iterdir()):
        file.unlink()
    save_file(stored, folder / UNET_DIFFERENCE)


def _widened(difference: Tensor, scale: Tensor | None) -> Tensor:
    return difference.float() if scale is None else difference.float() * _along_rows(scale, difference)


def _along_rows(scale: Tensor, of: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (of.ndim - 1))
