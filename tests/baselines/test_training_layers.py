"""The faster form of a UNet's layers trains as the stock layers do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.custom_diffusion import install_processors
from fc_bench.baselines.dreambooth_lora import add_adapter
from fc_bench.baselines.tuning.layers import training_layers
from fc_bench.model.families.detection import family_of
from fc_bench.model.families.sd1 import StableDiffusion1
from fc_bench.protocols import Setting


def frozen(unet: Any) -> None:
    pass


def whole(unet: Any) -> None:
    unet.requires_grad_(True)


def adapter(unet: Any) -> None:
    add_adapter(unet, 2, StableDiffusion1.denoiser_adapters)
    for name, parameter in unet.named_parameters():
        if "lora_B" in name:  # it starts at 0, where the other half of the adapter has no gradient
            torch.nn.init.normal_(parameter, std=0.1)


TRAINED: dict[str, Callable[[Any], Any]] = {
    "nothing but the text": frozen,
    "the whole UNet": whole,
    "an adapter": adapter,
    "keys and values of cross-attention": partial(install_processors, StableDiffusion1()),
}


@pytest.fixture(params=TRAINED)
def unet(request, setting: Setting) -> Any:
    found = BasePipeline(setting).fresh_unet()
    torch.manual_seed(0)
    TRAINED[request.param](found)
    return found.train()


def trained(unet: Any) -> list[Any]:
    """What a training of `unet` has gradients for: the text and its own trainable parameters."""
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(2, 7, unet.config.cross_attention_dim, generator=generator).requires_grad_(True)
    return [text, *(parameter for parameter in unet.parameters() if parameter.requires_grad)]


def step(unet: Any, leaves: list[Any], side: int = 8) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The outputs of a UNet and the gradients of the text and of the trainable parameters."""
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(2, unet.config.in_channels, side, side, generator=generator)
    outputs = unet(latents, torch.tensor([3, 700]), leaves[0]).sample
    wanted = torch.randn(outputs.shape, generator=generator)
    return outputs.detach(), list(torch.autograd.grad((outputs - wanted).square().mean(), leaves))


@pytest.mark.parametrize("side", [8, 16])
def test_outputs_and_gradients_equal_those_of_the_stock_layers(unet, side):
    leaves = trained(unet)
    outputs, gradients = step(unet, leaves, side)
    with training_layers(unet, torch.float32):
        own_outputs, own_gradients = step(unet, leaves, side)
    torch.testing.assert_close(own_outputs, outputs, rtol=1e-4, atol=1e-5)
    for own, other in zip(own_gradients, gradients, strict=True):
        assert (own - other).norm() <= 1e-4 * other.norm() + 1e-7


def forms(unet: Any) -> list[Any]:
    return [vars(layer).get("forward") for layer in unet.modules()]


def fail_inside(unet: Any) -> None:
    with training_layers(unet, torch.float32):
        raise RuntimeError("stop")


def test_the_layers_are_those_of_stock_again_afterwards_also_after_an_error(unet):
    before = forms(unet)
    with training_layers(unet, torch.float32):
        assert forms(unet) != before
    assert forms(unet) == before
    with pytest.raises(RuntimeError, match="stop"):
        fail_inside(unet)
    assert forms(unet) == before


def test_in_half_precision_the_layers_stay_as_they_are(unet):
    before = forms(unet)
    with training_layers(unet, torch.bfloat16):
        assert forms(unet) == before


@pytest.mark.parametrize("pipeline", ["tiny_backbone", "tiny_sdxl_backbone"])
def test_every_transformer_and_attention_has_the_faster_form(pipeline, request):
    from diffusers.models.attention_processor import Attention
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    folder = request.getfixturevalue(pipeline).parent / "pipeline"
    unet = family_of(folder).load_part("unet", folder, torch.float32)
    layers = [layer for layer in unet.modules() if isinstance(layer, (Transformer2DModel, Attention))]
    assert layers
    with training_layers(unet, torch.float32):
        assert all("forward" in vars(layer) for layer in layers)
