"""What tests of the methods share: the tiny backbone, subjects with photographs, methods by case, images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file

from fc_bench.baselines.custom_diffusion import CustomDiffusion
from fc_bench.baselines.dreambooth import DreamBooth
from fc_bench.baselines.dreambooth_lora import DreamBoothLoRA
from fc_bench.baselines.textual_inversion import TextualInversion
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.protocols import Checkpoints, Conditions, Customization, Request, Sampler, Setting, Subject, fill

PHOTOGRAPHS = 3
TEMPLATES = {1: "a photo of a {subject}", 2: "a photo of {subjects}"}
TINY: dict[str, Any] = {"steps": 4, "learning_rate": 1e-2, "photographs": 2}
RARE: dict[str, Any] = {**TINY, "class_images": 2, "rare_tokens": ["x", "y"]}
INVERSION: dict[str, Any] = {**TINY, "learning_rate": 0.1, "initializer": "x"}
CUSTOM: dict[str, Any] = {**TINY, "class_images": 2, "initializers": ["x", "y"]}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "dreambooth": (DreamBooth, {**RARE, "train_text_encoder": False}),
    "dreambooth with text encoder": (DreamBooth, {**RARE, "train_text_encoder": True}),
    "dreambooth-lora": (DreamBoothLoRA, {**RARE, "rank": 2}),
    "dreambooth-lora with text encoder": (DreamBoothLoRA, {**RARE, "rank": 2, "train_text_encoder": True}),
    "textual-inversion": (TextualInversion, INVERSION),
    "textual-inversion of several vectors": (
        TextualInversion,
        {**INVERSION, "vectors": 3, "gradient_checkpointing": True},
    ),
    "custom-diffusion": (CustomDiffusion, CUSTOM),
    "custom-diffusion merged": (CustomDiffusion, {**CUSTOM, "two_subjects": "merge"}),
}
"""Methods that tune and the options of a short training, by what makes the case."""
XL_CASES = (
    "dreambooth with text encoder",
    "dreambooth-lora",
    "textual-inversion of several vectors",
    "custom-diffusion merged",
)
"""The cases that also run on SDXL, in which they take several times as long, where a test does not choose its cases."""
STOCK: dict[str, tuple[Any, dict[str, Any]]] = {
    "sd1": (StableDiffusionPipeline, {"safety_checker": None}),
    "sdxl": (StableDiffusionXLPipeline, {"add_watermarker": False}),
}
"""Each family's pipeline of diffusers, and what it is loaded with."""
CHOICES: dict[str, Iterable[Any]] = {
    "family": STOCK,
    "case": CASES,
    "count": (1, 2),
    "half": ("bfloat16", "float16"),
}
XL_CHOICES: dict[str, Iterable[Any]] = {"case": XL_CASES, "count": (2,), "half": ("float16",)}
of_sd1 = pytest.mark.parametrize("family", ["sd1"], indirect=True)
of_sdxl = pytest.mark.parametrize("family", ["sdxl"], indirect=True)


def cases_of(sd1: Iterable[str], sdxl: Iterable[str]) -> pytest.MarkDecorator:
    """A test runs with these cases of each family."""
    pairs = [*(("sd1", case) for case in sd1), *(("sdxl", case) for case in sdxl)]
    return pytest.mark.parametrize(("family", "case"), pairs, indirect=["family"])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test runs on every family and with every case, number of subjects and half precision, as far as it names them.

    On SDXL it runs with `XL_CHOICES` alone. What a test chooses itself is left to it.
    """
    marks = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    chosen = {name for names in marks for name in ([names] if isinstance(names, str) else names)}
    wanted = [name for name in CHOICES if name in metafunc.fixturenames and name not in chosen]
    rows = [dict(zip(wanted, row, strict=True)) for row in product(*(CHOICES[name] for name in wanted))]
    kept = [
        list(row.values())
        for row in rows
        if row.get("family") != "sdxl" or all(row[name] in own for name, own in XL_CHOICES.items() if name in row)
    ]
    if wanted:
        metafunc.parametrize(wanted, kept, indirect=[name for name in wanted if name == "family"], scope="session")


@pytest.fixture(scope="session")
def family(request: pytest.FixtureRequest) -> str:
    """Every family; `of_sd1` and `of_sdxl` leave one of them to a test."""
    return request.param


@pytest.fixture(scope="session")
def backbone_file(family: str, request: pytest.FixtureRequest) -> Path:
    """The file of the family's tiny backbone."""
    return request.getfixturevalue({"sd1": "tiny_backbone", "sdxl": "tiny_sdxl_backbone"}[family])


@pytest.fixture(scope="session")
def setting(backbone_file: Path) -> Setting:
    """Three sampling steps at 64 x 64 pixels with the tiny backbone."""
    return Setting(read_backbone(str(backbone_file)), Sampler("ddim", 3, 3.0, 64), "cpu", "float32")


@pytest.fixture(scope="session")
def other_family(family: str, setting: Setting, request: pytest.FixtureRequest) -> Setting:
    """The same setting with the tiny backbone of the other family."""
    backbone = request.getfixturevalue({"sd1": "tiny_sdxl_backbone", "sdxl": "tiny_backbone"}[family])
    return replace(setting, backbone=read_backbone(str(backbone)))


@pytest.fixture
def shared_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which class images are drawn once for all tests."""
    folder = tmp_path_factory.getbasetemp() / "class-image-cache"
    monkeypatch.setenv("FC_BENCH_CACHE", str(folder))
    return folder


@pytest.fixture
def own_cache(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for class images that is the test's own."""
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tunable(tmp_path: Path, people: Any, portrait: Any) -> dict[str, Subject]:
    """The tiny world's people (ann a woman, bob and cid men) with three photographs each."""
    found = {}
    for name, (noun, color) in people.items():
        files = tuple(tmp_path / f"{name}-{number}.png" for number in range(PHOTOGRAPHS))
        for number, file in enumerate(files):
            portrait(color, shade=10 * number).save(file)
        found[name] = Subject(name, noun, files)
    return found


@pytest.fixture
def subjects(tunable: dict[str, Subject]) -> list[Subject]:
    """Two subjects of different class nouns."""
    return [tunable["ann"], tunable["bob"]]


@pytest.fixture
def told() -> Callable[[str], tuple[Any, dict[str, Any]]]:
    """The method's class and the options of a case."""
    return CASES.__getitem__


@pytest.fixture
def build(setting: Setting, shared_cache: Path) -> Callable[..., Any]:
    """The method of a case, with some options changed; in the tiny setting unless another is given."""

    def made(case: str, within: Setting = setting, **changes: Any) -> Any:
        method, options = CASES[case]
        return method(within, method.Options.model_validate({**options, **changes}))

    return made


@pytest.fixture
def customize() -> Callable[..., Customization]:
    """Customizes to subjects; several of a method that tunes apart one by one, as the harness does."""

    def customized(
        method: Any, subjects: Sequence[Subject], folder: Path, seed: int = 1, checkpoints: Checkpoints | None = None
    ) -> Customization:
        if not (method.tunes_apart and len(subjects) > 1):
            folder.mkdir(parents=True, exist_ok=True)
            return method.customize(subjects, seed, folder, checkpoints)
        folders = [folder / subject.id for subject in subjects]
        for subject, own in zip(subjects, folders, strict=True):
            customized(method, [subject], own, seed)
        return method.restore(subjects, folders)

    return customized


@pytest.fixture
def images_of() -> Callable[..., np.ndarray]:
    """Images of a customization, [seeds, height, width, 3]."""

    def draw(
        method: Any,
        customization: Customization,
        template: str | None = None,
        seeds: Sequence[int] = (5,),
        size: tuple[int, int] | None = None,
    ) -> np.ndarray:
        subjects = customization.subjects
        template = template or TEMPLATES[len(subjects)]
        mentions = [method.mention(subject, position) for position, subject in enumerate(subjects)]
        plain = fill(template, [subject.noun for subject in subjects])
        requests = [Request(fill(template, mentions), plain, seed, Conditions(size=size)) for seed in seeds]
        return np.stack([np.asarray(image) for image in method.generate(customization, requests)]).astype(np.int16)

    return draw


@pytest.fixture
def stock_pipeline(setting: Setting, family: str) -> Callable[..., Any]:
    """The backbone's pipeline as diffusers alone loads it, with some parts in the place of its own."""

    def load(**parts: Any) -> Any:
        folder = setting.backbone.path("pipeline")
        kind, absent = STOCK[family]
        pipeline = kind.from_pretrained(folder, **absent, **parts)
        pipeline.set_progress_bar_config(disable=True)
        config = pipeline.scheduler.config
        pipeline.scheduler = DDIMScheduler.from_config(config, clip_sample=False, set_alpha_to_one=False)
        return pipeline

    return load


@pytest.fixture
def load_token(family: str) -> Callable[..., None]:
    """Loads a token's file into a stock pipeline, as diffusers documents it; `fitted` sets where prompts end."""

    def load(pipeline: Any, token: str, file: Path, fitted: bool = True) -> None:
        if family == "sd1":
            pipeline.load_textual_inversion(file, token=token)
            return
        stored = load_file(file)
        first = {"text_encoder": pipeline.text_encoder, "tokenizer": pipeline.tokenizer}
        second = {"text_encoder": pipeline.text_encoder_2, "tokenizer": pipeline.tokenizer_2}
        pipeline.load_textual_inversion(stored["clip_l"], token=token, **first)
        pipeline.load_textual_inversion(stored["clip_g"], token=token, **second)
        if fitted:
            pipeline.text_encoder_2.text_model.eos_token_id = pipeline.tokenizer_2.eos_token_id

    return load


@pytest.fixture
def stock_images(setting: Setting) -> Callable[..., np.ndarray]:
    """Images of a prompt by a stock pipeline, [seeds, height, width, 3]."""

    def draw(
        pipeline: Any, prompt: str, seeds: Sequence[int] = (5,), size: tuple[int, int] | None = None
    ) -> np.ndarray:
        sampler = setting.sampler
        width, height = size or (sampler.resolution, sampler.resolution)
        found = pipeline(
            [prompt] * len(seeds),
            num_inference_steps=sampler.steps,
            guidance_scale=sampler.guidance_scale,
            height=height,
            width=width,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        ).images
        return np.stack([np.asarray(image) for image in found]).astype(np.int16)

    return draw
