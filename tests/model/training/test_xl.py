"""FastComposer's training on Stable Diffusion XL: a plain CLIP model is enough, and what holds on v1.5 holds there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPVisionModelWithProjection

from fc_bench.model.errors import ModelInputError
from fc_bench.model.fastcomposer.convert import convert_checkpoint
from fc_bench.model.fastcomposer.pipeline import FastComposerXLPipeline, load_fastcomposer
from fc_bench.model.fastcomposer.references import keep_trained_layers, load_image_encoder
from fc_bench.model.training.config import TrainingConfig
from fc_bench.model.training.loop import Training, train

from ..conftest import GOLDEN
from .test_loop import assert_same, assert_same_batch, configured, layer_of, lines, weights

FIRST, SECOND = 16, 24
"""Features of the tiny text encoders."""
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@pytest.fixture
def fields(config_fields: dict, tiny_sdxl_backbone: Path, tiny_backbone: Path, tmp_path: Path) -> dict[str, Any]:
    """The tiny training on Stable Diffusion XL and a plain CLIP model."""
    clip = shutil.copytree(tiny_backbone.parent / "clip", tmp_path / "plain-clip")
    config = json.loads((clip / "config.json").read_text())
    config["vision_config"]["projection_dim"] = config["projection_dim"]  # as published ones have it
    (clip / "config.json").write_text(json.dumps(config))
    models = {"pipeline": tiny_sdxl_backbone.parent / "pipeline", "image_encoder": clip}
    return {**config_fields, **models, "vision_layers": 1}


def clip_of(config: TrainingConfig) -> CLIPVisionModelWithProjection:
    return load_image_encoder(config.image_encoder)


def test_a_plain_clip_model_gets_a_projection_for_the_second_text_encoder(fields: dict) -> None:
    training = Training(configured(fields), resume=False)
    start = clip_of(training.config)
    before = {name: value.clone() for name, value in training.model.image_encoder.state_dict().items()}
    projection = before["visual_projection.weight"]
    assert len(projection) == FIRST + SECOND
    assert torch.equal(projection[:FIRST], start.visual_projection.weight)
    training.run()
    after = load_image_encoder(training.config.output / "weights" / "image_encoder").state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {layer_of(name) for name in changed} == {"visual_projection", 1}
    assert (after["visual_projection.weight"] != projection).any(1).all()


def test_fused_tokens_start_with_the_scale_of_the_captions_features(fields: dict) -> None:
    training = Training(configured(fields, data={"p_unconditional": 0.0, "p_keep_subject": 1.0}), resume=False)
    batch = next(training.source.batches(0))
    with torch.no_grad():
        fused = training.model.fused(batch).text
    changed = (fused != batch.condition.text).any(-1)
    assert changed.sum() == batch.subject_mask.sum() > 0
    own, given = fused[changed], batch.condition.text[changed]
    assert own.std(-1).mean().item() == pytest.approx(given.std(-1).mean().item(), rel=0.1)
    assert own.mean().item() == pytest.approx(given.mean().item(), abs=0.1 * given.std().item())


def test_cached_training_equals_training_from_files(fields: dict, tmp_path: Path) -> None:
    data = {"p_unconditional": 0.4}
    cached = Training(configured(fields, output=tmp_path / "cached", data=data), resume=False)
    files = Training(configured(fields, output=tmp_path / "files", data=data, cache=None), resume=False)
    assert torch.equal(cached.model.postfuse_module.layer_norm.weight, files.model.postfuse_module.layer_norm.weight)
    for one, two, _ in zip(cached.source.batches(0), files.source.batches(0), range(4), strict=False):
        assert_same_batch(one, two)
    cached.run()
    files.run()
    for one, two in zip(lines(cached.config), lines(files.config), strict=True):
        for name in ("denoising_loss", "localization_loss", "gradient_norm"):
            assert one[name] == pytest.approx(two[name], rel=1e-4, abs=1e-5), name


def test_a_dropped_caption_is_zeros_and_its_picture_keeps_its_framing(fields: dict) -> None:
    training = Training(configured(fields, data={"p_unconditional": 1.0}), resume=False)
    condition = next(training.source.batches(0)).condition
    assert not condition.text.any()
    assert condition.pooled is not None
    assert not condition.pooled.any()
    assert condition.time_ids is not None
    assert condition.time_ids.tolist() == [[128, 128, 0, 0, 32, 32]] * 3


@pytest.mark.parametrize("whole", [True, False])
def test_images_are_encoded_in_float32_where_the_autoencoder_overflows(
    whole: bool, fields: dict, config_fields: dict
) -> None:
    own = fields if whole else config_fields
    training = Training(configured(own, cache=None, mixed_precision="bf16"), resume=False)
    source: Any = training.source
    assert source.encoders.half_vae is not whole


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_resumed_training_equals_uninterrupted(lora: dict | None, fields: dict, tmp_path: Path) -> None:
    own = {**fields, "lora": lora, "ema_decay": 0.9}
    whole = train(configured(own, output=tmp_path / "whole", max_steps=4))
    train(configured(own, output=tmp_path / "parts", max_steps=2))
    assert_same(whole, train(configured(own, output=tmp_path / "parts", max_steps=4), resume=True))


def test_adapters_are_folded_into_the_attention_they_were_trained_on(fields: dict) -> None:
    config = configured(fields, lora={"rank": 2}, gradient_checkpointing=True, data={"resolution": 64})
    training = Training(config, resume=False)
    assert {name.split(".")[-3] for name, p in training.model.unet.named_parameters() if p.requires_grad} <= {
        "lora_A",
        "lora_B",
    }
    training.run()
    written = training.config.output / "weights"
    before = load_file(training.config.pipeline / "unet" / "diffusion_pytorch_model.safetensors")
    after = load_file(written / "unet" / "diffusion_pytorch_model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    attention = {name for name in before if name.endswith(tuple(f"{own}.weight" for own in ATTENTION))}
    assert changed == attention
    pipeline = load_fastcomposer(training.config.pipeline, written)
    assert type(pipeline) is FastComposerXLPipeline
    batch = next(training.source.batches(0))
    condition = training.model.fused(batch)
    family, unet = training.model.family, training.model.unet
    with torch.no_grad():
        trained = family.denoise(unet, batch.latents, batch.timesteps, condition)
        loaded = family.denoise(pipeline.unet, batch.latents, batch.timesteps, condition)
        start = UNet2DConditionModel.from_pretrained(training.config.pipeline, subfolder="unet")
        base = family.denoise(start, batch.latents, batch.timesteps, condition)
    torch.testing.assert_close(loaded, trained, rtol=1e-4, atol=1e-4)
    assert (base - trained).abs().max() > 1e-3


def test_an_overlay_keeps_the_new_rows_beside_a_plain_clip_model(fields: dict, tmp_path: Path) -> None:
    config = configured(fields, max_steps=1)
    trained = train(config) / "image_encoder"
    reduced = shutil.copytree(trained, tmp_path / "reduced")
    keep_trained_layers(reduced, config.image_encoder)
    whole, restored = load_image_encoder(trained), load_image_encoder(reduced, starting_from=config.image_encoder)
    assert restored.config.projection_dim == FIRST + SECOND
    for name, value in whole.state_dict().items():
        assert torch.equal(value, restored.state_dict()[name]), name


def test_the_trained_folder_becomes_a_pipeline_and_a_training_goes_on_from_it(fields: dict, tmp_path: Path) -> None:
    config = configured(fields, max_steps=1)
    trained = train(config)
    output = convert_checkpoint(trained, config.pipeline, tmp_path / "pipeline")
    one, two = load_fastcomposer(config.pipeline, trained), load_fastcomposer("unused", output)
    for part in ("unet", "image_encoder", "postfuse_module", "text_encoder_2"):
        for name, value in getattr(one, part).state_dict().items():
            assert torch.equal(value, getattr(two, part).state_dict()[name]), name
    going_on = Training(configured(fields, initial=trained, output=tmp_path / "second"), resume=False)
    first = weights(trained)
    for name, value in going_on.model.postfuse_module.state_dict().items():
        assert torch.equal(value, first[f"postfuse_module.{name}"]), name


def test_weights_of_the_other_family_are_one_sentence(fields: dict, config_fields: dict, tmp_path: Path) -> None:
    xl, one = (
        configured(fields, max_steps=1),
        configured(config_fields, output=tmp_path / "one", max_steps=1, cache=None),
    )
    trained, published = {own.pipeline: train(own) for own in (xl, one)}, GOLDEN / "pytorch_model.bin"
    whole = convert_checkpoint(trained[one.pipeline], one.pipeline, tmp_path / "whole")
    for weights_of_other, base, reason in (
        (trained[xl.pipeline], one.pipeline, r"for text of 40 features in place of \d+"),
        (trained[one.pipeline], xl.pipeline, r"for text of \d+ features in place of 40"),
        (whole, xl.pipeline, r"a pipeline of Stable Diffusion v1\.x"),
        (published, xl.pipeline, r"a file, as published for Stable Diffusion v1\.x alone"),
    ):
        with pytest.raises(ModelInputError, match=rf"are {reason}, but the pipeline .* is Stable") as error:
            load_fastcomposer(base, weights_of_other)
        assert "\n" not in str(error.value)
    with pytest.raises(ModelInputError, match="as published for Stable"):
        convert_checkpoint(published, xl.pipeline, tmp_path / "converted")
    assert not (tmp_path / "converted").exists()


def test_an_image_encoder_that_fits_no_text_encoder_is_one_sentence(fields: dict, tmp_path: Path) -> None:
    clip = shutil.copytree(fields["image_encoder"], tmp_path / "clip")
    model = load_image_encoder(clip)
    shutil.rmtree(clip)
    model.config.projection_dim = 12
    CLIPVisionModelWithProjection(model.config).save_pretrained(clip)
    with pytest.raises(ModelInputError, match=r"40 in the text, 12 in the image encoder") as error:
        Training(configured(fields, image_encoder=clip), resume=False)
    assert "\n" not in str(error.value)


def test_losses_fall_attention_moves_onto_the_subjects_and_images_follow_them(fields: dict, portrait: Any) -> None:
    """On five pictures; docs/training.md has the figures of a longer training."""
    config = configured(
        fields,
        max_steps=120,
        batch_size=6,
        data={"p_unconditional": 0.0, "p_keep_subject": 1.0, "resolution": 64},
        localization={"weight": 0.1},
        log_every=20,
    )
    trained = train(config)
    first, *_, last = lines(config)
    assert last["denoising_loss"] < 0.9 * first["denoising_loss"]
    assert last["localization_loss"] < first["localization_loss"] - 0.005
    pipeline = load_fastcomposer(config.pipeline, trained)
    pipeline.set_progress_bar_config(disable=True)
    one, again, other = (
        pipeline(
            "a man <|image|> on the beach",
            [[portrait(color)]],
            alpha=1.0,
            num_inference_steps=4,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images
        for color in ((250, 20, 20), (250, 20, 20), (20, 20, 250))
    )
    assert abs(one - other).max() > 1e-3 > 100 * abs(one - again).max()
