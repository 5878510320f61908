"""A fine-tuned UNet stored as its difference to the base model's UNet, in 8 bits per weight."""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fc_bench.model.errors import ModelInputError, loading
from fc_bench.model.fastcomposer.overlay import UNET_DIFFERENCE
from fc_bench.model.stored_weights import load_whole

LEVELS = 127
"""Number of quantization levels on each side of zero."""
SCALE = ".scale"
"""Suffix for the names of step sizes; a difference has one step size per output channel."""


def load_unet(folder: Path, base: Path | str | None = None, dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    """The UNet in a folder, stored completely or as a difference to the UNet of `base`, a pipeline folder or hub id.

    A difference can also be added to another base than its own, because fine-tuned changes partly transfer (Ilharco et
    al., Editing models with task arithmetic, arXiv 2212.04089). Raises ModelInputError if weights are missing or do not
    fit, or if a difference has no base.
    """
    file = folder / UNET_DIFFERENCE
    if not file.is_file():
        return load_whole(UNet2DConditionModel, folder, dtype)
    if base is None:
        raise ModelInputError(
            f"the UNet {folder} is stored only as a difference: name the pipeline that it was trained from"
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
            f"the UNet's difference {file} does not fit the UNet of {base}, for example {unfit[0]}: name the pipeline "
            "that it was trained from"
        )
    for name, difference in differences.items():
        weights[name] += _dequantized(difference, stored.get(name + SCALE))
    nn.Module.to(unet, dtype)
    return unet


def keep_difference(folder: Path, base: Path) -> None:
    """Reduce a fine-tuned UNet's folder to the difference from the UNet of the pipeline folder `base`.

    Weights with at least two dimensions are rounded to 8 bits, in steps of 1/127 of the largest difference in their
    output channel. `load_unet` reads the folder.
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


def _dequantized(difference: Tensor, scale: Tensor | None) -> Tensor:
    return difference.float() if scale is None else difference.float() * _along_rows(scale, difference)


def _along_rows(scale: Tensor, of: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (of.ndim - 1))
