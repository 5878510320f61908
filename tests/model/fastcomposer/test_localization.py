"""Attention capture changes nothing and the loss points where it should."""

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

from fc_bench.model.errors import ModelInputError
from fc_bench.model.fastcomposer.localization import (
    attention_masks,
    capture_attention,
    cross_attention_layers,
    localization_loss,
    usual_average,
)
from fc_bench.model.fastcomposer.localization import map_sizes as sizes_of

from ...golden.photomaker_models import UNET
from ..conftest import GOLDEN

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.processor"
PAPER = {"down_blocks.1", "down_blocks.2", "mid_block", "up_blocks.1", "up_blocks.2"}


@pytest.fixture
def unet() -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(GOLDEN / "sd" / "unet")


def groups(layers: list[str]) -> set[str]:
    return {layer.split(".attentions")[0] for layer in layers}


def test_default_groups_are_the_papers(unet: UNet2DConditionModel) -> None:
    assert groups(cross_attention_layers(unet)) == PAPER
    assert cross_attention_layers(unet) == cross_attention_layers(unet, sorted(PAPER))


@pytest.mark.parametrize("chosen", [0, 4, 9, ["down_blocks.3"], ["mid_block", "nose"], []])
def test_unknown_groups_are_refused(chosen: object, unet: UNet2DConditionModel) -> None:
    with pytest.raises(ModelInputError, match=r"down_blocks\.0, down_blocks\.1"):
        cross_attention_layers(unet, chosen)  # type: ignore[arg-type]


class FullAttention(AttnProcessor):
    """Keeps all columns of the attention, as nothing in the package does."""

    def __init__(self, maps: dict[str, torch.Tensor], layer: str):
        self.maps, self.layer = maps, layer

    def __call__(self, attn: Any, hidden_states, encoder_hidden_states=None, *args, **kwargs):
        query, key = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states)
        scores = attn.get_attention_scores(attn.head_to_batch_dim(query), attn.head_to_batch_dim(key))
        self.maps[self.layer] = scores.unflatten(0, (len(hidden_states), -1))
        return super().__call__(attn, hidden_states, encoder_hidden_states, *args, **kwargs)


@torch.no_grad()
def test_capture_keeps_the_image_tokens_columns_and_the_output(unet: UNet2DConditionModel) -> None:
    torch.manual_seed(0)
    inputs = (torch.randn(2, 4, 16, 16), torch.tensor([3, 700]), torch.randn(2, 24, 16))
    tokens = torch.tensor([[2, 7], [5, 0]])
    layers = cross_attention_layers(unet)
    plain = unet(*inputs).sample
    full: dict[str, torch.Tensor] = {}
    unet.set_attn_processor(
        {n: FullAttention(full, n) if n in layers else AttnProcessor() for n in unet.attn_processors}
    )
    unet(*inputs)
    unet.set_attn_processor(AttnProcessor())
    keys = unet.state_dict().keys()
    capture = capture_attention(unet, layers)
    capture.start(tokens)
    torch.testing.assert_close(unet(*inputs).sample, plain, rtol=0, atol=1e-5)
    assert unet.state_dict().keys() == keys
    assert capture.maps.keys() == full.keys() == set(layers)
    for layer, columns in capture.maps.items():
        for sample in range(2):
            torch.testing.assert_close(columns[sample], full[layer][sample][..., tokens[sample]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("latent_size", [(16, 16), (16, 24)])
@torch.no_grad()
def test_masks_fit_the_maps_of_every_layer(latent_size: tuple[int, int], unet: UNet2DConditionModel) -> None:
    layers = cross_attention_layers(unet, 7)
    capture = capture_attention(unet, layers)
    capture.start(torch.zeros(1, 1, dtype=torch.long))
    unet(torch.zeros(1, 4, *latent_size), 0, torch.zeros(1, 24, 16))
    masks = attention_masks(torch.ones(1, 1, 32, 32), sizes_of(unet, layers, latent_size))
    assert {attention.shape[2] for attention in capture.maps.values()} == masks.keys()


def test_loss_falls_as_attention_moves_to_the_own_subject() -> None:
    left = torch.zeros(1, 2, 8, 8)
    left[0, 0, :, :4], left[0, 1, :, 4:] = 1, 1
    masks = attention_masks(left, {(8, 8)})
    own = left.flatten(2).transpose(1, 2)[:, None]
    values = [
        localization_loss(
            {LAYER: share * own + (1 - share) * own.flip(-1)}, masks, torch.ones(1, 2, dtype=torch.bool)
        ).item()
        for share in (0.0, 0.5, 1.0)
    ]
    assert values == pytest.approx([1, 0, -1], abs=1e-4)


def test_absent_subjects_do_not_count() -> None:
    torch.manual_seed(0)
    maps, masks = torch.rand(1, 2, 64, 1), attention_masks(torch.rand(1, 1, 8, 8).round(), {(8, 8)})
    alone = localization_loss({LAYER: maps}, masks, torch.ones(1, 1, dtype=torch.bool))
    padded_masks = {64: torch.cat([masks[64], torch.ones(1, 1, 64)], dim=1)}
    padded = localization_loss(
        {LAYER: torch.cat([maps, torch.rand(1, 2, 64, 1)], -1)}, padded_masks, torch.tensor([[True, False]])
    )
    assert padded.item() == pytest.approx(alone.item(), abs=1e-6)
    nobody = localization_loss({LAYER: maps}, masks, torch.zeros(1, 1, dtype=torch.bool))
    assert nobody.item() == 0


def test_groups_count_equally_however_many_layers_they_have() -> None:
    torch.manual_seed(0)
    layers = [f"down_blocks.1.attentions.0.transformer_blocks.{i}.attn2.processor" for i in range(3)] + [LAYER]
    maps = {layer: torch.rand(1, 2, 64, 1) for layer in layers}
    masks, present = attention_masks(torch.rand(1, 1, 8, 8).round(), {(8, 8)}), torch.ones(1, 1, dtype=torch.bool)
    each = [localization_loss({layer: maps[layer]}, masks, present).item() for layer in layers]
    assert localization_loss(maps, masks, present).item() == pytest.approx(sum(each) / 4)
    by_group = localization_loss(maps, masks, present, average="groups").item()
    assert by_group == pytest.approx((sum(each[:3]) / 3 + each[3]) / 2)
    assert by_group != pytest.approx(sum(each) / 4)


def test_groups_are_the_usual_average_of_stable_diffusion_xl_alone(unet: UNet2DConditionModel) -> None:
    assert usual_average(cross_attention_layers(unet)) == "layers"
    xl = UNet2DConditionModel(**UNET)
    layers = cross_attention_layers(xl)
    assert usual_average(layers) == "groups"
    assert groups(layers) == {"down_blocks.1", "down_blocks.2", "mid_block", "up_blocks.0", "up_blocks.1"}
