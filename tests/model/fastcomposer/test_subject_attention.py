"""Watching attention changes no image, and shows what the layers really compute in the steps that see the subjects."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, PNDMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch.nn.functional import interpolate

from fc_bench.model.fastcomposer.pipeline import FastComposerPipeline
from fc_bench.model.fastcomposer.prompts import parse_prompt
from fc_bench.model.fastcomposer.subject_attention import SubjectAttention, recorded_layers

from ...golden.photomaker_models import UNET
from ..conftest import GOLDEN

TWO = "a man <|image|> and a woman <|image|> on the beach"
ONE = "a man <|image|> in the snow"
STEPS = 5


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


def images(pipeline: FastComposerPipeline, *args: object, **kwargs: Any) -> np.ndarray:
    return pipeline(*args, num_inference_steps=STEPS, output_type="np", **{"alpha": 0.7, **kwargs}).images  # type: ignore


@pytest.mark.parametrize("scheduler", [PNDMScheduler, DPMSolverMultistepScheduler])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_images_are_the_same_to_the_bit_with_and_without_recording(
    dtype: torch.dtype, guidance: float, scheduler: Any, pipeline: FastComposerPipeline, faces: list[Image.Image]
) -> None:
    pipeline = deepcopy(pipeline).to(dtype)
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    arguments = ([TWO, ONE], [faces[:2], faces[2:3]])
    attention = SubjectAttention()
    plain = images(pipeline, *arguments, guidance_scale=guidance, generator=seeds(1, 2))
    watched = images(pipeline, *arguments, guidance_scale=guidance, generator=seeds(1, 2), subject_attention=attention)
    np.testing.assert_array_equal(watched, plain)
    assert all(own is not None for own in attention.maps())


def test_maps_are_not_negative_sum_to_one_and_have_a_row_for_each_subject(
    pipeline: FastComposerPipeline, faces: list[Image.Image]
) -> None:
    attention = SubjectAttention()
    prompts = [TWO, "a painting of a man in the jungle", ONE]
    images(pipeline, prompts, [faces[:2], [], faces[2:3]], generator=seeds(1, 2, 3), subject_attention=attention)
    two, none, one = attention.maps()
    assert none is None
    assert two is not None
    assert one is not None
    assert (len(two), len(one)) == (2, 1)
    for maps in (two, one):
        assert maps.dtype == np.float32
        assert (maps >= 0).all()
        np.testing.assert_allclose(maps.sum((1, 2)), 1, atol=1e-5)
    assert not np.allclose(two[0], two[1], atol=1e-6)


class Recording(AttnProcessor):
    """Attention written out, which keeps everything: another computation of the same."""

    def __init__(self, kept: list[tuple[str, torch.Tensor]], layer: str):
        self.kept, self.layer = kept, layer

    def __call__(self, attn: Any, hidden_states, encoder_hidden_states=None, *args, **kwargs):
        query, key = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states)
        scores = attn.get_attention_scores(attn.head_to_batch_dim(query), attn.head_to_batch_dim(key))
        self.kept.append((self.layer, scores.unflatten(0, (len(hidden_states), -1))))
        return super().__call__(attn, hidden_states, encoder_hidden_states, *args, **kwargs)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_maps_are_the_mean_over_heads_layers_and_the_steps_that_see_the_subjects(
    guidance: float, pipeline: FastComposerPipeline, faces: list[Image.Image]
) -> None:
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    arguments: Any = {"guidance_scale": guidance, "alpha": 0.5}
    attention = SubjectAttention()
    images(pipeline, TWO, [faces[:2]], generator=seeds(1), subject_attention=attention, **arguments)
    kept: list[tuple[str, torch.Tensor]] = []
    layers = recorded_layers(pipeline.unet)
    own = dict(pipeline.unet.attn_processors)
    recording: Any = {name: Recording(kept, name) if name in layers else own[name] for name in own}
    pipeline.unet.set_attn_processor(recording)
    try:
        images(pipeline, TWO, [faces[:2]], generator=seeds(1), **arguments)
    finally:
        pipeline.unet.set_attn_processor(own)
    assert len(kept) == STEPS * len(layers)
    seeing = kept[3 * len(layers) :]  # at alpha 0.5, steps 0, 1 and 2 of five see the text alone
    tokens = list(parse_prompt(TWO, pipeline.tokenizer).image_tokens)
    total = torch.zeros(2, 8, 8)
    for _, probabilities in seeing:
        columns = probabilities[-1].mean(0)[:, tokens].T
        side = round(columns.shape[1] ** 0.5)
        total += interpolate(columns.unflatten(1, (side, side))[None], (8, 8), mode="bilinear")[0]
    expected = total / total.sum((1, 2), keepdim=True)
    (maps,) = attention.maps()
    assert maps is not None
    np.testing.assert_allclose(maps, expected.numpy(), atol=1e-5)


def test_map_of_an_image_does_not_depend_on_its_batch(pipeline: FastComposerPipeline, faces: list[Image.Image]) -> None:
    together, alone = SubjectAttention(), SubjectAttention()
    images(pipeline, [TWO, ONE], [faces[:2], faces[2:3]], generator=seeds(1, 2), subject_attention=together)
    images(pipeline, ONE, [faces[2:3]], generator=seeds(2), subject_attention=alone)
    second, (single,) = together.maps()[1], alone.maps()
    assert second is not None
    assert single is not None
    np.testing.assert_allclose(second, single, atol=1e-5)


@pytest.mark.parametrize("inputs", [{"alpha": 0.0}, {"subject_images": None}])
def test_without_a_step_that_sees_subjects_there_is_nothing_to_show(
    inputs: dict[str, Any], pipeline: FastComposerPipeline, faces: list[Image.Image]
) -> None:
    attention = SubjectAttention()
    images(pipeline, TWO, **{"subject_images": [faces[:2]], **inputs}, generator=seeds(1), subject_attention=attention)
    assert attention.maps() == [None]


def test_nothing_is_left_in_the_unet(pipeline: FastComposerPipeline, faces: list[Image.Image]) -> None:
    processors = dict(pipeline.unet.attn_processors)

    def stop(*_: object) -> dict[str, Any]:
        raise InterruptedError

    for callback in (None, stop):
        with nullcontext() if callback is None else pytest.raises(InterruptedError):
            images(pipeline, ONE, [faces[:1]], callback_on_step_end=callback, subject_attention=SubjectAttention())
        assert all(pipeline.unet.attn_processors[name] is own for name, own in processors.items())
        assert not pipeline.unet._forward_pre_hooks


def test_watched_are_the_layers_at_a_half_and_a_quarter_of_the_latents() -> None:
    deep = UNet2DConditionModel.from_pretrained(GOLDEN / "sd" / "unet")
    groups = {layer.split(".attentions")[0] for layer in recorded_layers(deep)}
    assert groups == {"down_blocks.1", "down_blocks.2", "up_blocks.1", "up_blocks.2"}
    shallow = UNet2DConditionModel(
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    assert recorded_layers(shallow) == [name for name in shallow.attn_processors if ".attn2." in name]


def test_recording_takes_less_than_a_hundredth_of_the_unet_s_operations_at_full_size() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    def operations() -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            unet(latents, torch.empty((), dtype=torch.long), text)
        return counter.get_total_flops()

    with torch.device("meta"):  # shapes alone: nothing is computed
        blocks = {"block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2, "attention_head_dim": 8}
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, **blocks).eval()
        latents, text = torch.empty(4, 4, 64, 64), torch.empty(4, 77, 768)
        plain = operations()
        attention = SubjectAttention()
        with attention.record(unet, [(5, 9), (5, 9)]):
            attention.conditioned = True
            watched = operations()
    assert plain < watched < 1.01 * plain


def test_of_several_layers_of_a_block_the_last_one_is_recorded() -> None:
    layers = recorded_layers(UNet2DConditionModel(**UNET))
    assert sorted(layers) == [
        "down_blocks.1.attentions.0.transformer_blocks.1.attn2.processor",
        "down_blocks.2.attentions.0.transformer_blocks.2.attn2.processor",
        "mid_block.attentions.0.transformer_blocks.2.attn2.processor",
        *(f"up_blocks.0.attentions.{index}.transformer_blocks.2.attn2.processor" for index in range(2)),
        *(f"up_blocks.1.attentions.{index}.transformer_blocks.1.attn2.processor" for index in range(2)),
    ]
