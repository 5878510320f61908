"""What every method that tunes has to keep: its artefact is the method, and the base model stays as it was."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fc_bench import registry
from fc_bench.baselines.tuning import loop
from fc_bench.errors import UserError
from fc_bench.model.backbones.fingerprint import fingerprint
from fc_bench.model.errors import ModelInputError
from fc_bench.protocols import Customization, Request, Restorable, Setting, Subject

from .conftest import CASES, cases_of, of_sd1, of_sdxl

ADAPTERS = ["dreambooth with text encoder", "dreambooth-lora", "textual-inversion", "custom-diffusion"]
UNTRAINED = {"steps": 1, "learning_rate": 1e-12}
UNMERGED = {"two_subjects": "joint", "initializers": ["x", "x"]}
"""What a merge starts from: subjects tuned apart all stand first, and words that are alike cannot be merged."""


def text_only(setting: Setting) -> np.ndarray:
    method = registry.load("methods", "text-only")
    plain = method(setting, method.Options())
    requests = [Request("a photo of a woman", "", seed) for seed in (5, 6)]
    return np.stack([np.asarray(image) for image in plain.generate(Customization(()), requests)]).astype(np.int16)


@cases_of(CASES, ["custom-diffusion merged"])
def test_what_was_learnt_changes_the_image(case, count, build, customize, images_of, subjects, tmp_path):
    method = build(case)
    barely = build(case, **UNTRAINED, **(UNMERGED if case == "custom-diffusion merged" else {}))
    learnt = images_of(method, customize(method, subjects[:count], tmp_path / "long"))
    plain = images_of(barely, customize(barely, subjects[:count], tmp_path / "short"))
    assert np.abs(learnt - plain).max() > 3


def test_in_half_precision_it_trains_and_the_artefact_is_of_that_format(
    case, half, build, setting, customize, images_of, subjects, tmp_path
):
    within = replace(setting, dtype=half)
    method, barely = build(case, within), build(case, within, **UNTRAINED)
    made = customize(method, subjects[:1], tmp_path / "long")
    plain = images_of(barely, customize(barely, subjects[:1], tmp_path / "short"))
    assert np.abs(images_of(method, made) - plain).max() > 3
    assert 0 < made.details["updates"][0] <= made.steps
    for file in (tmp_path / "long").rglob("*.safetensors"):
        # Embeddings are a few numbers; they stay as they were trained, as in the diffusers example.
        token = file.name.startswith(("token-", "learned_embeds"))
        wanted = torch.float32 if token else getattr(torch, half)
        assert {tensor.dtype for tensor in load_file(file).values() if tensor.numel()} == {wanted}


@of_sd1
@pytest.mark.parametrize("case", ["dreambooth", "textual-inversion"])
def test_gradients_that_all_overflow_in_float16_fail_the_job(
    case, build, setting, customize, subjects, tmp_path, monkeypatch
):
    loss = loop.diffusion_loss
    monkeypatch.setattr(loop, "diffusion_loss", lambda *given: loss(*given) * 1e30)
    method = build(case, replace(setting, dtype="float16"))
    with pytest.raises(UserError, match="changed nothing: the gradients of all 4 steps overflow in float16"):
        customize(method, subjects[:1], tmp_path / "artefact")


def test_restored_from_its_artefact_the_images_are_the_same(
    case, count, build, customize, images_of, subjects, tmp_path
):
    method, again = build(case), build(case)
    expected = images_of(method, customize(method, subjects[:count], tmp_path / "artefact"))
    assert isinstance(method, Restorable)
    apart = method.tunes_apart and count > 1
    folders = [tmp_path / "artefact" / subject.id for subject in subjects] if apart else [tmp_path / "artefact"]
    assert (images_of(again, again.restore(subjects[:count], folders)) == expected).all()


def test_a_fresh_process_makes_the_same_images_of_the_artefacts(
    told, build, setting, family, customize, images_of, subjects, tmp_path, backbone_file
):
    expected, artefacts = {}, []
    for case in ADAPTERS if family == "sd1" else ADAPTERS[1:3]:
        method = build(case)
        expected[case] = images_of(method, customize(method, subjects[:1], tmp_path / case))[0]
        kind, options = told(case)
        where = {"folder": str(tmp_path / case), "image": str(tmp_path / f"{case}.npy")}
        artefacts.append({"method": f"{kind.__module__}:{kind.__name__}", "options": options, **where})
    argument = {
        "backbone": str(backbone_file),
        "sampler": asdict(setting.sampler),
        "subject": [subjects[0].id, subjects[0].noun, [str(path) for path in subjects[0].photographs]],
        "artefacts": artefacts,
    }
    script = Path(__file__).with_name("restore_elsewhere.py")
    subprocess.run([sys.executable, str(script), json.dumps(argument)], check=True, capture_output=True)
    for case, image in expected.items():
        assert (np.load(tmp_path / f"{case}.npy").astype(np.int16) == image).all(), case


@pytest.mark.parametrize("case", ADAPTERS)
def test_an_artefact_of_the_other_family_is_refused_in_a_sentence(
    case, build, setting, other_family, customize, subjects, tmp_path
):
    customize(build(case, steps=1), subjects[:1], tmp_path / "artefact")
    with pytest.raises((UserError, ModelInputError), match=r"belong.* to .*; customize again") as refused:
        build(case, other_family).restore(subjects[:1], [tmp_path / "artefact"])
    assert "\n" not in str(refused.value)


@of_sdxl
def test_an_artefact_without_its_second_text_encoder_is_refused(build, customize, subjects, tmp_path):
    case = "dreambooth with text encoder"
    customize(build(case, steps=1), subjects[:1], tmp_path / "artefact")
    shutil.rmtree(tmp_path / "artefact" / "text_encoder_2")
    with pytest.raises(ModelInputError, match=r"the artefact .*text_encoder_2.*: check that its folder"):
        build(case).restore(subjects[:1], [tmp_path / "artefact"])


@of_sdxl
@pytest.mark.parametrize("case", ADAPTERS)
def test_the_denoiser_sees_each_photograph_s_size_and_crop(
    case, build, customize, tunable, portrait, tmp_path, monkeypatch
):
    seen = set()
    loss = loop.diffusion_loss

    def noted(family, unet, diffusion, batch, *rest):
        seen.update(tuple(map(int, row)) for row in batch.condition.time_ids)
        return loss(family, unet, diffusion, batch, *rest)

    monkeypatch.setattr(loop, "diffusion_loss", noted)
    sizes = [(96, 64), (64, 128)]
    files = [saved(portrait((250, 20, 20)).resize(size), tmp_path / f"{size[0]}.png") for size in sizes]
    changes = {"augmentation": False} if case == "custom-diffusion" else {}
    subject = replace(tunable["ann"], photographs=tuple(files))
    customize(build(case, **changes), [subject], tmp_path / "artefact")
    of_class_images = set() if case == "textual-inversion" else {(64, 64, 0, 0, 64, 64)}
    assert seen == {(64, 96, 0, 16, 64, 64), (128, 64, 32, 0, 64, 64)} | of_class_images


@cases_of(ADAPTERS, ["textual-inversion", "custom-diffusion"])
def test_the_side_of_the_squares_is_an_option_and_never_exceeds_the_run_s(
    case, build, customize, subjects, tmp_path, monkeypatch
):
    seen = []
    loss = loop.diffusion_loss

    def noted(family, unet, diffusion, batch, *rest):
        ids = batch.condition.time_ids
        seen.append((8 * batch.latents.shape[-1], None if ids is None else {int(one[-1]) for one in ids}))
        return loss(family, unet, diffusion, batch, *rest)

    monkeypatch.setattr(loop, "diffusion_loss", noted)
    for name, changes in (("own", {}), ("larger", {"resolution": 128}), ("smaller", {"resolution": 32})):
        customize(build(case, **changes, steps=1), subjects[:1], tmp_path / name)
    sides = [side for side, _ in seen]
    assert sides == [64, 64, 32]
    assert all(ids is None or ids == {side} for side, ids in seen)
    assert fingerprint(tmp_path / "own") == fingerprint(tmp_path / "larger")


@cases_of(CASES, ["dreambooth with text encoder", "custom-diffusion merged"])
def test_the_base_model_is_untouched_bit_for_bit(case, build, setting, customize, images_of, subjects, tmp_path):
    files = fingerprint(setting.backbone.path("pipeline"))
    before = text_only(setting)
    method = build(case)
    shared = shared_models(method)
    weights = {name: state(model) for name, model in shared.items()}
    vocabularies = [len(tokenizer) for tokenizer in method.base.text.tokenizers]
    customize(method, subjects, tmp_path / "pair")
    with pytest.raises(UserError, match="photographs"):
        customize(build(case, photographs=4), subjects, tmp_path / "failed")
    diverging = build(case, learning_rate=1e30)
    diverging.base = method.base
    with pytest.raises(UserError, match="diverged"):
        customize(diverging, subjects[:1], tmp_path / "diverged")
    images_of(method, customize(method, subjects[:1], tmp_path / "single"))
    for name, model in shared.items():
        assert shared_models(method)[name] is model
        assert state(model) == weights[name]
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not model.training
    assert [len(tokenizer) for tokenizer in method.base.text.tokenizers] == vocabularies
    assert fingerprint(setting.backbone.path("pipeline")) == files
    assert (text_only(setting) == before).all()


def shared_models(method: Any) -> dict[str, Any]:
    """The models that all customizations of a method share, by name."""
    base = method.base
    encoders = {encoder.part: model for encoder, model in zip(base.family.encoders, base.text.encoders, strict=True)}
    return {"vae": base.vae, "unet": base.unet, **encoders}


def state(model: Any) -> dict[str, bytes]:
    """Every tensor of a model, byte for byte."""
    return {name: tensor.contiguous().numpy().tobytes() for name, tensor in model.state_dict().items()}


@of_sd1
@pytest.mark.parametrize("case", ADAPTERS)
def test_the_seed_decides_the_artefact(case, build, customize, subjects, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        customize(build(case), subjects[:1], tmp_path / name, seed)
    a, b, c = (fingerprint(tmp_path / name) for name in "abc")
    assert a == b != c


@of_sd1
@pytest.mark.parametrize("case", ADAPTERS)
def test_of_a_photograph_that_is_no_square_the_centre_counts(case, build, customize, tunable, portrait, tmp_path):
    found: dict[str, list[Path]] = {"whole": [], "centre": []}
    for number, size in enumerate([(96, 64), (64, 96)]):
        image = portrait((250, 20, 20), shade=20 * number).resize(size)
        left, top = (size[0] - 64) // 2, (size[1] - 64) // 2
        for name, shown in (("whole", image), ("centre", image.crop((left, top, left + 64, top + 64)))):
            found[name].append(saved(shown, tmp_path / f"{name}-{number}.png"))
    for name, files in found.items():
        customize(build(case), [replace(tunable["ann"], photographs=tuple(files))], tmp_path / name)
    assert fingerprint(tmp_path / "whole") == fingerprint(tmp_path / "centre")


def saved(image: Image.Image, file: Path) -> Path:
    image.save(file)
    return file


@of_sd1
@pytest.mark.parametrize("case", CASES)
def test_too_few_photographs_are_reported_with_the_subject_and_the_option(case, build, customize, subjects, tmp_path):
    method = build(case, photographs=4)
    with pytest.raises(UserError, match=r"ann has 3 photographs, but tuning needs 4.*photographs"):
        customize(method, subjects[:1], tmp_path / "artefact")


@of_sd1
@pytest.mark.parametrize("case", CASES)
def test_a_loss_that_is_not_finite_is_reported_with_its_step(case, build, customize, subjects, tmp_path):
    method = build(case, learning_rate=1e30)
    with pytest.raises(UserError, match=r"diverged: the loss of step \d+ is not finite; lower the learning rate"):
        customize(method, subjects[:1], tmp_path / "artefact")


@of_sd1
@pytest.mark.parametrize("case", ADAPTERS)
def test_a_prompt_that_would_be_cut_off_fails(case, build, customize, subjects, tmp_path):
    method = build(case)
    customization = customize(method, subjects[:1], tmp_path / "artefact")
    prompt = "a " * 100 + method.mention(subjects[0], 0)
    with pytest.raises(UserError, match=r"has \d+ tokens, but the text encoder reads at most 77"):
        list(method.generate(customization, [Request(prompt, prompt, 1)]))


@cases_of(ADAPTERS, ["dreambooth with text encoder"])
def test_gradient_checkpointing_changes_nothing_but_memory(case, build, customize, subjects, tmp_path):
    for name, asked in (("with", True), ("without", False)):
        customize(build(case, gradient_checkpointing=asked), subjects[:1], tmp_path / name)
    one, other = tensors(tmp_path / "with"), tensors(tmp_path / "without")
    assert one.keys() == other.keys()
    # All weights at once: Adam takes a whole step where a gradient is mere rounding, as that of the biases of keys.
    one, other = (torch.cat([found[name].flatten() for name in sorted(found)]) for found in (one, other))
    assert (one - other).norm() <= 1e-3 * other.norm()


@cases_of(["dreambooth-lora with text encoder", "textual-inversion", "custom-diffusion"], ["custom-diffusion"])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(case, build, customize, subjects, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        loop.nn.utils,
        "clip_grad_norm_",
        lambda parameters, norm: seen.append([parameter.grad.clone() for parameter in parameters]),
    )
    taken = []
    for parts in (None, 3):
        method = build(case, steps=1, batch_size=4, accumulation=parts, max_grad_norm=1.0)
        taken.append(customize(method, subjects[:1], tmp_path / str(parts)).details["last_loss"][0])
    assert taken[0] == pytest.approx(taken[1], rel=1e-5)
    for whole, added in zip(*seen, strict=True):
        assert (whole - added).norm() <= 1e-4 * whole.norm() + 1e-8


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of an artefact, by file and name."""
    files = sorted(folder.rglob("*.safetensors"))
    return {f"{file.relative_to(folder)}:{name}": value for file in files for name, value in load_file(file).items()}


@of_sd1
@pytest.mark.parametrize(
    ("case", "steps"),
    [
        ("dreambooth", [8]),
        ("dreambooth-lora", [4, 4]),
        ("custom-diffusion", [8]),
    ],
)
def test_steps_are_each_subjects(case, steps, build, customize, subjects, tmp_path):
    alone = customize(build(case), subjects[:1], tmp_path / "alone")
    assert alone.details["updates"] == [alone.steps] == [4]
    pair = customize(build(case), subjects, tmp_path / "pair")
    assert pair.steps == sum(steps) == 8
    assert pair.details["updates"] == steps
    assert finite(pair.details["last_loss"]) == len(steps)
    assert pair.seconds_per_step is not None
    assert pair.seconds_per_step > 0


def finite(values: Sequence[float]) -> int:
    """How many are numbers."""
    return int(np.isfinite(values).sum())


@of_sd1
@pytest.mark.parametrize("case", ADAPTERS)
def test_the_customization_tells_what_it_took(case, build, customize, subjects, tmp_path):
    made = customize(build(case), subjects[:1], tmp_path / "artefact")
    assert made.steps == 4
    assert made.seconds_per_step > 0
    assert made.artefact == tmp_path / "artefact"
    assert finite(made.details["last_loss"]) == 1


@cases_of(ADAPTERS, ["dreambooth with text encoder"])
def test_subjects_are_not_mixed_up(case, build, images_of, customize, tunable, tmp_path):
    """The same pair of nouns, and of mentions, with the photographs of the two people exchanged."""
    bob, cid = tunable["bob"], tunable["cid"]
    exchanged: list[Subject] = [
        replace(bob, photographs=cid.photographs),
        replace(cid, photographs=bob.photographs),
    ]
    method = build(case)
    one = images_of(method, customize(method, [bob, cid], tmp_path / "one"))
    other = images_of(method, customize(method, exchanged, tmp_path / "other"))
    assert (one != other).any()
