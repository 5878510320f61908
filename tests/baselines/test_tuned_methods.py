"""What every method that tunes has to keep: its artefact is the method, and the base model stays as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fc_bench import registry
from fc_bench.errors import UserError
from fc_bench.model.backbone import fingerprint, read_backbone
from fc_bench.protocols import Checkpoints, Customization, Request, Restorable, Sampler, Setting, Subject, fill

TINY: dict[str, Any] = {"steps": 4, "learning_rate": 1e-2, "photographs": 2}
PRIOR: dict[str, Any] = {**TINY, "class_images": 2, "rare_tokens": ["x", "y"]}
CASES = {
    "dreambooth": ("dreambooth", {**PRIOR, "train_text_encoder": False}),
    "dreambooth with text encoder": ("dreambooth", {**PRIOR, "train_text_encoder": True}),
    "dreambooth-lora": ("dreambooth-lora", {**PRIOR, "rank": 2}),
    "dreambooth-lora with text encoder": ("dreambooth-lora", {**PRIOR, "rank": 2, "train_text_encoder": True}),
    "textual-inversion": ("textual-inversion", {**TINY, "learning_rate": 0.1, "initializer": "x"}),
    "textual-inversion of several vectors": (
        "textual-inversion",
        {**TINY, "learning_rate": 0.1, "initializer": "x", "vectors": 3, "gradient_checkpointing": True},
    ),
    "custom-diffusion": ("custom-diffusion", {**TINY, "class_images": 2, "initializers": ["x", "y"]}),
}
JOINT = [name for name in CASES]
TEMPLATE = {1: "a photo of a {subject}", 2: "a photo of {subjects}"}


@pytest.fixture(scope="module")
def setting(tiny_backbone: Path) -> Setting:
    return Setting(read_backbone(str(tiny_backbone)), Sampler("ddim", 3, 3.0, 64), "cpu", "float32")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Class images are made once for all tests."""
    folder = tmp_path_factory.getbasetemp() / "class-image-cache"
    monkeypatch.setenv("FC_BENCH_CACHE", str(folder))
    return folder


@pytest.fixture
def subjects(tmp_path: Path, people, portrait) -> list[Subject]:
    found = []
    for name in ("ann", "bob"):
        noun, color = people[name]
        files = tuple(tmp_path / f"{name}-{number}.png" for number in range(2))
        for number, file in enumerate(files):
            portrait(color, shade=20 * number).save(file)
        found.append(Subject(name, noun, files))
    return found


def build(case: str, setting: Setting, **changes: Any) -> Any:
    name, options = CASES[case]
    method = registry.load("methods", name)
    return method(setting, method.Options.model_validate({**options, **changes}))


def customize(method: Any, subjects: list[Subject], folder: Path, seed: int = 1, checkpoints=None) -> Customization:
    """Customize to subjects; for methods tuned apart and several subjects, as the harness does."""
    if not (method.tunes_apart and len(subjects) > 1):
        folder.mkdir(parents=True, exist_ok=True)
        return method.customize(subjects, seed, folder, checkpoints)
    folders = [folder / subject.id for subject in subjects]
    for subject, own in zip(subjects, folders, strict=True):
        customize(method, [subject], own, seed)
    return method.restore(subjects, folders)


def images(method: Any, customization: Customization, seeds: tuple[int, ...] = (5, 6)) -> np.ndarray:
    """[seeds, height, width, 3]"""
    subjects = customization.subjects
    mentions = [method.mention(subject, position) for position, subject in enumerate(subjects)]
    prompt = fill(TEMPLATE[len(subjects)], mentions)
    requests = [Request(prompt, prompt, seed) for seed in seeds]
    return np.stack([np.asarray(image) for image in method.generate(customization, requests)]).astype(np.int16)


def text_only(setting: Setting) -> np.ndarray:
    method = registry.load("methods", "text-only")
    plain = method(setting, method.Options())
    requests = [Request("a photo of a woman", "", seed) for seed in (5, 6)]
    return np.stack([np.asarray(image) for image in plain.generate(Customization(()), requests)]).astype(np.int16)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("count", [1, 2])
def test_what_was_learnt_changes_the_image(case, count, setting, subjects, tmp_path):
    method = build(case, setting)
    learnt = images(method, customize(method, subjects[:count], tmp_path / "long"))
    barely = build(case, setting, steps=1, learning_rate=1e-12)
    plain = images(barely, customize(barely, subjects[:count], tmp_path / "short"))
    assert np.abs(learnt - plain).max() > 3


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("count", [1, 2])
def test_restored_from_its_artefact_the_images_are_the_same(case, count, setting, subjects, tmp_path):
    method = build(case, setting)
    made = customize(method, subjects[:count], tmp_path / "artefact")
    expected = images(method, made)
    assert isinstance(method, Restorable)
    apart = method.tunes_apart and count > 1
    folders = [tmp_path / "artefact" / subject.id for subject in subjects] if apart else [tmp_path / "artefact"]
    again = build(case, setting)
    assert (images(again, again.restore(subjects[:count], folders)) == expected).all()


@pytest.mark.parametrize(
    "case", ["dreambooth with text encoder", "dreambooth-lora", "textual-inversion", "custom-diffusion"]
)
def test_a_fresh_process_makes_the_same_image_of_the_artefact(case, setting, subjects, tmp_path, tiny_backbone):
    method = build(case, setting)
    expected = images(method, customize(method, subjects[:1], tmp_path / "artefact"), seeds=(5,))[0]
    name, options = CASES[case]
    told = {
        "method": name,
        "options": options,
        "backbone": str(tiny_backbone),
        "sampler": asdict(setting.sampler),
        "subject": [subjects[0].id, subjects[0].noun, [str(path) for path in subjects[0].photographs]],
        "artefact": str(tmp_path / "artefact"),
        "image": str(tmp_path / "fresh.npy"),
    }
    script = Path(__file__).with_name("restore_elsewhere.py")
    subprocess.run([sys.executable, str(script), json.dumps(told)], check=True, capture_output=True)
    assert (np.load(tmp_path / "fresh.npy").astype(np.int16) == expected).all()


@pytest.mark.parametrize("case", CASES)
def test_the_base_model_is_untouched_bit_for_bit(case, setting, subjects, tmp_path):
    files = fingerprint(setting.backbone.path("pipeline"))
    before = text_only(setting)
    method = build(case, setting)
    shared = {name: getattr(method.base, name) for name in ("vae", "unet", "text_encoder")}
    weights = {name: state(model) for name, model in shared.items()}
    vocabulary = len(method.base.tokenizer)
    customize(method, subjects, tmp_path / "pair")
    with pytest.raises(UserError):
        customize(build(case, setting, photographs=3), subjects, tmp_path / "failed")
    diverging = build(case, setting, learning_rate=1e30)
    diverging.base = method.base
    with pytest.raises(UserError, match="diverged"):
        customize(diverging, subjects[:1], tmp_path / "diverged")
    images(method, customize(method, subjects[:1], tmp_path / "single"))
    for name, model in shared.items():
        assert getattr(method.base, name) is model
        assert state(model) == weights[name]
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not model.training
    assert len(method.base.tokenizer) == vocabulary
    assert fingerprint(setting.backbone.path("pipeline")) == files
    assert (text_only(setting) == before).all()


def state(model: Any) -> dict[str, bytes]:
    """Every tensor of a model, byte for byte."""
    return {name: tensor.contiguous().numpy().tobytes() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("case", CASES)
def test_continued_from_a_checkpoint_the_artefact_is_the_same(case, setting, subjects, tmp_path):
    whole = build(case, setting)
    customize(whole, subjects[:1], tmp_path / "whole")
    checkpoints = Checkpoints(tmp_path / "checkpoints", 2)
    checkpoints.folder.mkdir()
    method = build(case, setting)
    interrupt_after(method, 3)
    with pytest.raises(KeyboardInterrupt):
        customize(method, subjects[:1], tmp_path / "first", checkpoints=checkpoints)
    continued = customize(build(case, setting), subjects[:1], tmp_path / "second", checkpoints=checkpoints)
    assert continued.details["continued_from"] == [2]
    assert continued.earlier_seconds > 0
    assert fingerprint(tmp_path / "second") == fingerprint(tmp_path / "whole")


def test_a_damaged_checkpoint_is_told_with_its_file(setting, subjects, tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", 2)
    checkpoints.folder.mkdir()
    method = build("dreambooth", setting)
    interrupt_after(method, 3)
    with pytest.raises(KeyboardInterrupt):
        customize(method, subjects[:1], tmp_path / "first", checkpoints=checkpoints)
    (file,) = checkpoints.folder.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"checkpoint.pt cannot be read .* delete it to tune from the beginning"):
        customize(build("dreambooth", setting), subjects[:1], tmp_path / "second", checkpoints=checkpoints)


def interrupt_after(method: Any, steps: int) -> None:
    """Ctrl-C when the step after `steps` begins."""
    tune = method.tune

    def interrupted(training, *rest, **more):
        batch = training.batch

        def counted(step, draws):
            if step == steps:
                raise KeyboardInterrupt
            return batch(step, draws)

        training.batch = counted
        return tune(training, *rest, **more)

    method.tune = interrupted


@pytest.mark.parametrize("case", CASES)
def test_the_seed_decides_the_artefact(case, setting, subjects, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        customize(build(case, setting), subjects[:1], tmp_path / name, seed)
    a, b, c = (fingerprint(tmp_path / name) for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("case", CASES)
def test_too_few_photographs_are_told_with_the_subject_and_the_option(case, setting, subjects, tmp_path):
    method = build(case, setting, photographs=3)
    with pytest.raises(UserError, match=r"ann has 2 photographs, tuning takes 3.*photographs"):
        customize(method, subjects[:1], tmp_path / "artefact")


@pytest.mark.parametrize("case", CASES)
def test_a_loss_that_is_no_number_is_told_with_its_step(case, setting, subjects, tmp_path):
    method = build(case, setting, learning_rate=1e30)
    with pytest.raises(UserError, match=r"diverged: the loss of step \d+ is not a number; lower the learning rate"):
        customize(method, subjects[:1], tmp_path / "artefact")


@pytest.mark.parametrize("case", CASES)
def test_a_prompt_that_would_be_cut_off_fails(case, setting, subjects, tmp_path):
    method = build(case, setting)
    customization = customize(method, subjects[:1], tmp_path / "artefact")
    prompt = "a " * 100 + method.mention(subjects[0], 0)
    with pytest.raises(UserError, match=r"takes \d+ tokens, the text encoder at most 77"):
        list(method.generate(customization, [Request(prompt, prompt, 1)]))


@pytest.mark.parametrize("case", CASES)
def test_the_customization_tells_what_it_took(case, setting, subjects, tmp_path):
    method = build(case, setting)
    made = customize(method, subjects[:1], tmp_path / "artefact")
    assert made.steps == 4
    assert made.seconds_per_step > 0
    assert made.artefact == tmp_path / "artefact"
    assert np.isfinite(made.details["last_loss"]).all()
