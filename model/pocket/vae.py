"""Training the pocket autoencoder: 128 x 128 pictures to 16 x 16 latents with 8 channels, and back.

Variance-preserving initialization and small residual branches let it train at a high learning rate from the start;
afterwards the latents are whitened per channel by folding scale and shift into the quantization convolutions, so that
the diffusion pipeline sees a plain AutoencoderKL with scaling factor 1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from numpy.typing import NDArray
from torch import Tensor, nn

from fc_bench.model.autoencoder import decode, posterior
from fc_bench.model.pocket.canvas import SIZE
from fc_bench.model.pocket.dataset import PackedDataset
from fc_bench.model.pocket.stage import StageSettings, train_stage

LATENT_CHANNELS = 8
LATENT_SIZE = SIZE // 8
_CROP = 64


def build_vae() -> AutoencoderKL:
    """An untrained pocket autoencoder."""
    levels: dict[str, Any] = {  # declared as tuples of a single element
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (32, 48, 96, 128),
    }
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        **levels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=SIZE,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    _initialize(vae)
    return vae


def train_vae(data: PackedDataset, folder: Path, settings: StageSettings, device: torch.device) -> AutoencoderKL:
    """Train on crops centered on faces two times in three; returns the autoencoder with whitened latents."""
    vae = build_vae()

    def loss(rng: np.random.Generator, progress: float) -> dict[str, Tensor]:
        index, corners = _face_crops(data, rng, settings.batch_size)
        pictures = to_tensor(_cut(data.images, index, corners), device)
        with torch.autocast(device.type, torch.bfloat16):
            encoded = posterior(vae, pictures)
            decoded = decode(vae, encoded.sample())
        error = decoded.float() - pictures
        absolute, edges = _errors(error)
        prior = 0.5 * encoded.mean.float().pow(2).mean()
        square = max(0.0, 1 - 2 * progress) * 2 * error.pow(2).mean()
        total = absolute + square + 0.5 * min(1.0, max(0.0, 4 * progress - 0.4)) * edges + 1e-4 * prior
        return {"loss": total, "l1": absolute, "edges": edges, "prior": prior}

    train_stage(folder, {"vae": vae}, loss, settings, device)
    _whiten(vae, data, device)
    return vae


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, data: PackedDataset, path: Path, device: torch.device) -> NDArray[np.float16]:
    """Posterior means and deviations of every picture, [N, 2, 8, 16, 16], cached in `path`."""
    if not path.exists():
        shape = (len(data.images), 2, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
        partial = path.with_suffix(".partial.npy")
        latents = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
        batch = 256 if device.type == "cuda" else 32
        for start in range(0, len(data.images), batch):
            with torch.autocast(device.type, torch.bfloat16):
                encoded = posterior(vae, to_tensor(data.images[start : start + batch], device))
            pair = torch.stack([encoded.mean, encoded.std], 1)
            latents[start : start + batch] = pair.float().cpu().numpy().astype(np.float16)
        latents.flush()
        partial.replace(path)
    return np.load(path, mmap_mode="r")


def train_decoder(
    vae: AutoencoderKL,
    data: PackedDataset,
    latents: NDArray[np.float16],
    folder: Path,
    settings: StageSettings,
    device: torch.device,
) -> None:
    """Sharpen the decoder of a finished autoencoder in place, on cached latents; the latents themselves stay."""
    vae.requires_grad_(False)
    _, post = _quantization(vae)
    parts = {"decoder": vae.decoder.requires_grad_(True), "post_quant_conv": post.requires_grad_(True)}

    def loss(rng: np.random.Generator, progress: float) -> dict[str, Tensor]:
        index, corners = _face_crops(data, rng, settings.batch_size, multiple=8)
        pictures = to_tensor(_cut(data.images, index, corners), device)
        side = _CROP // 8
        cells = [latents[i, ..., y : y + side, x : x + side] for i, (x, y) in zip(index, corners // 8, strict=True)]
        pair = torch.from_numpy(np.stack(cells)).to(device).float()
        noisy = pair[:, 0] + pair[:, 1] * torch.randn_like(pair[:, 0])
        with torch.autocast(device.type, torch.bfloat16):
            decoded = decode(vae, noisy)
        absolute, edges = _errors(decoded.float() - pictures)
        return {"loss": absolute + 0.5 * edges, "l1": absolute, "edges": edges}

    train_stage(folder, parts, loss, settings, device)


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: NDArray[np.uint8], device: torch.device) -> NDArray[np.uint8]:
    """Pictures through the autoencoder and back, [N, 128, 128, 3]."""
    decoded = [
        decode(vae, posterior(vae, to_tensor(images[i : i + 32], device)).mean).cpu() for i in range(0, len(images), 32)
    ]
    return to_images(torch.cat(decoded))


def to_tensor(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 [N, H, W, 3] to float [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pictures: Tensor) -> NDArray[np.uint8]:
    """Inverse of `to_tensor`, clipped."""
    scaled = (pictures.float().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def _errors(error: Tensor) -> tuple[Tensor, Tensor]:
    """Mean absolute error of pixels and of their differences to the right and below."""
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return error.abs().mean(), across.abs().mean() + down.abs().mean()


def _face_crops(
    data: PackedDataset, rng: np.random.Generator, count: int, multiple: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which pictures, [count], and the corners x y of their crops, [count, 2]: two in three near a face."""
    index = rng.integers(0, data.train_count, count)
    corners = rng.uniform(0, SIZE - _CROP, (count, 2))
    for slot, picture in enumerate(index):
        if rng.random() < 0.67:
            boxes = data.annotations[picture]["face_boxes"]
            x0, y0, x1, y1 = boxes[rng.integers(len(boxes))]
            corners[slot] = np.array([x0 + x1 - _CROP, y0 + y1 - _CROP]) / 2 + rng.uniform(-20, 20, 2)
    return index, (np.clip(corners, 0, SIZE - _CROP) // multiple).astype(np.int64) * multiple


def _cut(images: NDArray[np.uint8], index: NDArray[np.int64], corners: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.stack([images[i, y : y + _CROP, x : x + _CROP] for i, (x, y) in zip(index, corners, strict=True)])


def _quantization(vae: AutoencoderKL) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The 1 x 1 convolutions after the encoder and before the decoder, optional elsewhere."""
    return cast(nn.Conv2d, vae.quant_conv), cast(nn.Conv2d, vae.post_quant_conv)


def _bias(convolution: nn.Conv2d) -> Tensor:
    return cast(Tensor, convolution.bias)


def _initialize(vae: AutoencoderKL) -> None:
    for module in vae.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=math.sqrt(1 / fan_in))
            nn.init.zeros_(module.bias) if module.bias is not None else None
    with torch.no_grad():
        for module in vae.modules():
            if isinstance(module, ResnetBlock2D):
                module.conv2.weight.mul_(0.2)
        channels = LATENT_CHANNELS
        eye = torch.eye(2 * channels)[:, :, None, None]
        quant, post = _quantization(vae)
        quant.weight.copy_(eye)
        post.weight.copy_(eye[:channels, :channels])
        vae.encoder.conv_out.weight[channels:].zero_()
        _bias(vae.encoder.conv_out)[channels:].fill_(-5.0)


@torch.no_grad()
def _whiten(vae: AutoencoderKL, data: PackedDataset, device: torch.device) -> None:
    """Give every latent channel mean 0 and deviation 1 over the data, without changing what is decoded."""
    sample = data.images[: min(1024, data.train_count)]
    means = torch.cat(
        [posterior(vae, to_tensor(sample[i : i + 64], device)).mean for i in range(0, len(sample), 64)]
    ).double()
    shift, scale = means.mean((0, 2, 3)), means.std((0, 2, 3))
    channels = LATENT_CHANNELS
    quant, post = _quantization(vae)
    quant_bias, post_bias = _bias(quant), _bias(post)
    shift, scale = shift.to(quant.weight), scale.to(quant.weight)
    quant.weight[:channels] /= scale[:, None, None, None]
    quant_bias[:channels] = (quant_bias[:channels] - shift) / scale
    quant_bias[channels:] -= 2 * scale.log()
    post_bias += (post.weight[:, :, 0, 0] * shift).sum(1)
    post.weight *= scale[None, :, None, None]
