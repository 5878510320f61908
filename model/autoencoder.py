"""Typed calls of the VAE's encoder and decoder, because diffusers declares that both may return bare tuples."""

from typing import Any

from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor


def posterior(vae: AutoencoderKL, pixels: Tensor) -> DiagonalGaussianDistribution:
    """Distribution of the unscaled latents of images [batch, 3, height, width] in -1..1."""
    encoded: Any = vae.encode(pixels)
    return encoded.latent_dist


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Images [batch, 3, height, width] in about -1..1, decoded from unscaled latents."""
    untyped: Any = latents  # declared as FloatTensor
    decoded: Any = vae.decode(untyped)
    return decoded.sample
