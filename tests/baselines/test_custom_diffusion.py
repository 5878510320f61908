"""Custom Diffusion tunes cross-attention's keys and values and a token, for subjects jointly or apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from fc_bench.baselines import custom_diffusion
from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.custom_diffusion import (
    BEFORE,
    BLOCK,
    FILE,
    CustomDiffusion,
    CustomDiffusionOptions,
    install_processors,
    read_keys_and_values,
)
from fc_bench.baselines.tuning import latents
from fc_bench.baselines.tuning.merge import caption_features, captions, mention_features, merge, whitening
from fc_bench.errors import UserError
from fc_bench.model.families.condition import Condition, Framing
from fc_bench.model.families.sdxl import StableDiffusionXL
from fc_bench.model.families.text import TextEncoders
from fc_bench.model.word_tokenizer import word_tokenizer
from fc_bench.protocols import Customization, Subject

from .conftest import of_sd1, of_sdxl

pytestmark = pytest.mark.usefixtures("shared_cache")

FEW = {
    "steps": 4,
    "learning_rate": 0.05,
    "batch_size": 2,
    "photographs": 3,
    "class_images": 2,
    "initializers": ("s", "o"),
}


def method_of(setting, **options) -> CustomDiffusion:
    return CustomDiffusion(setting, CustomDiffusionOptions(**{**FEW, **options}))


def learnt(method: CustomDiffusion, subjects: list[Subject], folder: Path) -> Customization:
    folder.mkdir()
    return method.customize(subjects, 0, folder, None)


def condition_of(base: BasePipeline) -> Condition:
    """The condition of a picture with a prompt of four letters."""
    with torch.no_grad():
        return base.family.framed(base.family.encode(base.text, ["a b c d"]), [Framing.whole(64, 64)])


def kept(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of an artefact."""
    return {
        f"{file.name}:{name}": tensor
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def test_the_artefact_changes_the_image_and_stock_diffusers_gives_the_same_one(
    setting, tunable, images_of, stock_pipeline, stock_images, load_token, tmp_path
):
    method = method_of(setting)
    ours = images_of(method, learnt(method, [tunable["ann"]], tmp_path / "artefact"))
    stock = stock_pipeline()
    load_token(stock, "<ann>", tmp_path / "artefact" / "token-ann.safetensors")
    token_alone = stock_images(stock, "a photo of a <ann> woman")
    # Without the pipeline diffusers reads the file and changes nothing.
    stock.unet.load_attn_procs(tmp_path / "artefact", weight_name=FILE, _pipeline=stock)
    assert np.abs(ours - stock_images(stock, "a photo of a <ann> woman")).max() <= 1
    assert np.abs(ours - token_alone).max() > 1


def test_every_key_value_and_token_is_trained_and_nothing_else_is_kept(setting, tunable, tmp_path):
    method = method_of(setting)
    learnt(method, [tunable["ann"]], tmp_path / "artefact")
    weights = read_keys_and_values(method.base.family, method.base.unet, tmp_path / "artefact" / FILE)
    cross = [
        name for name, _ in method.base.unet.named_parameters() if ".attn2.to_k." in name or ".attn2.to_v." in name
    ]
    assert set(weights) == set(cross)
    assert all((weights[name] != method.base.unet.get_parameter(name)).any() for name in cross)
    rows, text = load_file(tmp_path / "artefact" / "token-ann.safetensors"), method.base.text
    keys = method.base.family.token_keys("<ann>")
    assert rows.keys() == set(keys)
    for key, tokenizer, encoder in zip(keys, text.tokenizers, text.encoders, strict=True):
        start = encoder.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("s</w>")]
        assert (rows[key] != start).any()
    assert {file.name for file in (tmp_path / "artefact").iterdir()} == {"token-ann.safetensors", FILE}


def test_only_cross_attention_and_the_tokens_row_of_the_loaded_pipeline_differ(setting, tunable, tmp_path):
    method = method_of(setting)
    pipeline = learnt(method, [tunable["ann"]], tmp_path / "artefact").state
    for name, parameter in method.base.unet.named_parameters():
        tuned = ".attn2.to_k." in name or ".attn2.to_v." in name
        assert torch.equal(parameter, pipeline.unet.get_parameter(name)) != tuned
    loaded = method.base.family.text_of(pipeline).encoders
    for both in zip(loaded, method.base.text.encoders, strict=True):
        table, own = (encoder.get_input_embeddings().weight for encoder in both)
        assert torch.equal(table[: len(own)], own)
        assert len(table) == len(own) + 1


def test_the_first_tokens_keys_and_values_carry_no_gradient(setting):
    base = method_of(setting).base
    unet, plain = base.fresh_unet(), condition_of(base)
    processors = install_processors(base.family, unet)

    def gradients(position: int) -> list[float]:
        """Sizes of the gradients when a text has a feature at one position alone."""
        text = torch.zeros_like(plain.text)
        text[:, position] = 1.0
        unet.zero_grad()
        noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        base.family.denoise(unet, noisy, torch.tensor([500]), plain.with_text(text)).square().sum().backward()
        return [float(parameter.grad.abs().max()) for part in processors.values() for parameter in part.parameters()]

    assert max(gradients(0)) == 0
    assert min(gradients(1)) > 0


def test_processors_start_as_the_layers_own_attention(setting):
    base = method_of(setting).base
    unet = base.fresh_unet()
    install_processors(base.family, unet)
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    own, stock = (base.family.denoise(model, noisy, 500, condition_of(base)) for model in (unet, base.unet))
    torch.testing.assert_close(own, stock)


def test_token_rows_do_not_decay(setting, tunable):
    method = method_of(setting)
    training = custom_diffusion._KeysAndValues(method.base, method.options, [tunable["ann"]], None)
    weights, tokens = training.parameter_groups()
    widths = [encoder.config.hidden_size for encoder in method.base.text.encoders]
    assert [tuple(parameter.shape) for parameter in tokens["params"]] == [(1, width) for width in widths]
    assert tokens["weight_decay"] == 0
    assert weights["weight_decay"] == method.options.weight_decay > 0


def test_two_subjects_are_trained_jointly_by_default(setting, tunable, tmp_path):
    method = method_of(setting)
    assert not method.tunes_apart
    assert CustomDiffusion.remark(method.options, 2) is None
    learnt(method, [tunable["ann"], tunable["bob"]], tmp_path / "artefact")
    ann, bob = (load_file(tmp_path / "artefact" / f"token-{name}.safetensors").values() for name in ("ann", "bob"))
    assert all((one != other).any() for one, other in zip(ann, bob, strict=True))
    assert len(list(tmp_path.glob("artefact/*.safetensors"))) == 3


@of_sd1
def test_without_augmentation_each_photograph_is_encoded_once(setting, tunable, tmp_path, monkeypatch):
    encoded = 0
    posterior = latents.posterior

    def counted(vae, pictures):
        nonlocal encoded
        encoded += len(pictures)
        return posterior(vae, pictures)

    monkeypatch.setattr(latents, "posterior", counted)
    for augmentation, count in ((False, 3), (True, 2 * BLOCK)):
        encoded = 0
        method = method_of(setting, augmentation=augmentation, class_images=0, steps=BLOCK // 2 + 2)
        learnt(method, [tunable["ann"]], tmp_path / str(augmentation))
        assert encoded == count


def test_merged_weights_give_each_subjects_words_its_own_outputs(setting, tunable, tmp_path):
    method = method_of(setting, two_subjects="merge")
    assert method.tunes_apart
    remark = CustomDiffusion.remark(method.options, 2)
    assert remark is not None
    assert "merged" in remark
    pair = [tunable["ann"], tunable["bob"]]
    artefacts = [tmp_path / subject.id for subject in pair]
    for subject, artefact in zip(pair, artefacts, strict=True):
        learnt(method, [subject], artefact)
    pipeline = method.restore(pair, artefacts).state
    for subject, artefact in zip(pair, artefacts, strict=True):
        alone = method.restore([subject], [artefact]).state
        text = method.base.family.text_of(pipeline)
        words = mention_features(method.base.family, text, BEFORE, method.mention(subject, 0))
        assert len(words) == 1 + len(subject.noun)
        for name in read_keys_and_values(method.base.family, alone.unet, artefact / FILE):
            wanted = words.float() @ alone.unet.get_parameter(name).T
            torch.testing.assert_close(
                words.float() @ pipeline.unet.get_parameter(name).T, wanted, atol=1e-4, rtol=1e-4
            )


def test_the_merge_changes_other_captions_least_among_all_that_meet_the_targets():
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    features, words = normal(60, 12), [normal(3, 12), normal(2, 12)]
    own, tuned = {"w": normal(7, 12)}, [{"w": normal(7, 12)}, {"w": normal(7, 12)}]
    found = merge(own, tuned, words, whitening(features))["w"]
    for part, target in zip(tuned, words, strict=True):
        torch.testing.assert_close(found @ target.T, part["w"] @ target.T)

    def disturbance(weight: torch.Tensor) -> float:
        return float(((weight - own["w"]) @ features.T).square().sum())

    free = torch.linalg.svd(torch.cat(words))[2][5:]  # directions that no target sees
    for _ in range(20):
        assert disturbance(found + 0.01 * normal(7, len(free)) @ free) > disturbance(found)


def test_a_merge_is_refused_when_captions_or_words_do_not_decide_it():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 16, generator=generator, dtype=torch.float64)
    with pytest.raises(UserError, match="span only 9 of its 16 features"):
        whitening(features @ torch.diag(torch.arange(16) < 9).double())
    words = torch.randn(2, 16, generator=generator, dtype=torch.float64)
    with pytest.raises(UserError, match="does not distinguish the subjects' words"):
        merge({}, [{}, {}], [words, words], whitening(features))


def test_a_direction_that_captions_hardly_show_does_not_blow_up_the_merge():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 12, generator=generator, dtype=torch.float64)
    features[:, 0] = 1e-5 * features[:, 0].abs()
    words = [torch.randn(2, 12, generator=generator, dtype=torch.float64) for _ in range(2)]
    own = {"w": torch.randn(7, 12, generator=generator)}
    tuned = [{"w": own["w"] + 0.1 * torch.randn(7, 12, generator=generator)} for _ in range(2)]
    found = merge(own, tuned, words, whitening(features))["w"]
    assert (found - own["w"]).abs().max() < 1
    for part, target in zip(tuned, words, strict=True):
        torch.testing.assert_close(found @ target.T.float(), part["w"] @ target.T.float(), atol=1e-5, rtol=1e-5)


@of_sd1
def test_captions_of_a_whole_text_encoder_span_all_but_the_layer_norms_direction(setting):
    base = method_of(setting).base
    features = caption_features(base.family, base.text, captions(16))
    assert len(set(captions(16))) == len(captions(16)) == len(captions(768)) == 240
    assert whitening(features).shape == (16, 15)


@of_sdxl
def test_captions_span_the_features_of_two_text_encoders_side_by_side(setting):
    base = method_of(setting).base
    assert whitening(caption_features(base.family, base.text, captions(40))).shape == (40, 40)


@pytest.mark.slow
def test_captions_span_the_2048_features_of_stable_diffusion_xl_and_fewer_would_not():
    """Random text encoders of the true widths, with three layers in place of 12 and 32."""
    tokenizer = word_tokenizer([word for caption in captions(2048) for word in caption.split()], 77)
    special = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    shape = {"vocab_size": len(tokenizer), "num_hidden_layers": 3, "max_position_embeddings": 77, **special}
    torch.manual_seed(0)
    first = CLIPTextConfig(**shape, hidden_size=768, intermediate_size=3072, num_attention_heads=12)
    second = CLIPTextConfig(**shape, hidden_size=1280, intermediate_size=5120, num_attention_heads=20)
    encoders = CLIPTextModel(first).eval(), CLIPTextModelWithProjection(second).eval()
    text = TextEncoders((tokenizer, tokenizer), encoders)
    features = caption_features(StableDiffusionXL(), text, captions(2048))
    assert len(set(captions(2048))) == len(captions(2048)) == 640
    assert whitening(features).shape == (2048, 2048)
    tokens = sum(len(tokenizer(caption).input_ids) for caption in captions(768))
    assert whitening(features[:tokens]).shape[1] < 2048


@of_sd1
@pytest.mark.parametrize("length", [2, 6])
def test_how_many_steps_are_encoded_together_changes_nothing(setting, tunable, tmp_path, monkeypatch, length):
    learnt(method_of(setting), [tunable["ann"]], tmp_path / "usual")
    monkeypatch.setattr(custom_diffusion, "BLOCK", length)
    learnt(method_of(setting), [tunable["ann"]], tmp_path / "other")
    usual, other = kept(tmp_path / "usual"), kept(tmp_path / "other")
    for name, tensor in usual.items():
        torch.testing.assert_close(other[name], tensor, atol=1e-3, rtol=1e-3)


@of_sd1
def test_an_artefact_of_another_unet_is_refused(setting, tunable, tmp_path):
    method = method_of(setting)
    learnt(method, [tunable["ann"]], tmp_path / "artefact")
    file = tmp_path / "artefact" / FILE
    stored = load_file(file)
    name = next(name for name in stored if "to_k_custom_diffusion" in name)
    for change, problem in (
        ({name: None}, "does not have"),
        ({name.replace("to_k", "to_q"): stored[name].clone()}, "unexpected"),
        ({name: stored[name][:2].clone()}, "shape"),
    ):
        save_file({key: value for key, value in {**stored, **change}.items() if value is not None}, file)
        with pytest.raises(UserError, match=problem):
            method.restore([tunable["ann"]], [tmp_path / "artefact"])


@of_sd1
def test_an_initializer_of_several_tokens_is_refused_with_its_pieces(setting, tunable, tmp_path):
    method = method_of(setting, initializers=("sks", "o"))
    with pytest.raises(UserError, match=r'The option initializers: "sks" has to be one token .* "s", "k", "s</w>"'):
        learnt(method, [tunable["ann"]], tmp_path / "artefact")
