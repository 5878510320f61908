"""Seconds per training step of the tuned methods, beside the example scripts of diffusers.

    python tests/benchmarks/tuning_speed.py --diffusers-examples diffusers/examples
    python tests/benchmarks/tuning_speed.py --diffusers-examples diffusers/examples --images 30   # and identity

The folder is `examples/` of diffusers' repository, at the installed version; FC_BENCH_DIFFUSERS_EXAMPLES names it, too.
The scripts run unchanged, each in a process of its own, in turns with ours: on the same pipeline, photographs and class
images, with the backbone's settings. Both train on as many photographs as fill their batches, because the last batch of
a script's epoch would be smaller. A step is the time from one update of the optimizer to the next, so that neither
start-up counts. What ours encodes before the first step stands beside it. On a CPU with one thread, seconds are the
process's own, so that other processes do not disturb them; elsewhere they are those of the clock. With `--images`, each
training's images are compared in identity, too, over subjects and seeds of training.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from step_ends import ends_of_steps, now

from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.custom_diffusion import BEFORE, CustomDiffusion, token_file
from fc_bench.baselines.dreambooth import DreamBooth
from fc_bench.baselines.dreambooth_lora import DreamBoothLoRA
from fc_bench.baselines.textual_inversion import TextualInversion
from fc_bench.baselines.tuning.class_images import class_images
from fc_bench.baselines.tuning.concepts import class_prompt, originals_of
from fc_bench.baselines.tuning.method import TunedMethod
from fc_bench.baselines.tuning.tokens import token_of
from fc_bench.commands.run import setting_of
from fc_bench.generation.plan import resolve_method
from fc_bench.metrics.identity import Identity
from fc_bench.model.articles import with_article
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.model.families.detection import family_of
from fc_bench.progress import silence_loading_bars
from fc_bench.protocols import Request, ScoredSample, Setting, Subject
from fc_bench.registry import suite_file
from fc_bench.suites.suite import read_suite

VARIABLE = "FC_BENCH_DIFFUSERS_EXAMPLES"
WARM_UP = 2
"""Steps whose seconds do not count, of ours and of the script's."""
WATCHED = """
import json, runpy, sys
from pathlib import Path
benchmarks, found, *sys.argv = sys.argv[1:]
sys.path[:0] = [benchmarks, str(Path(sys.argv[0]).parent)]
from step_ends import ends_of_steps
with ends_of_steps() as ends:
    runpy.run_path(sys.argv[0], run_name="__main__")
Path(found).write_text(json.dumps(ends))
"""
"""The process of a script, which records the ends of its steps."""
PROMPTS = ("a photo of {}", "a photo of {} in the snow", "a photo of {} on the beach")


@dataclass(frozen=True)
class Example:
    """An example script, and how its options follow from a method's."""

    scripts: Mapping[str, str]
    """The script for each family that has one."""
    method: type[TunedMethod]
    options: Callable[[TunedMethod, Subject, Path], Mapping[str, Any]]


def rare_token(method: TunedMethod, subject: Subject, work: Path) -> Mapping[str, Any]:
    options: Any = method.options
    prompt = f"a photo of {with_article(method.mention(subject, 0))}"
    return {
        "instance_data_dir": work / "photographs",
        "instance_prompt": prompt,
        "center_crop": True,
        "train_text_encoder": options.train_text_encoder,
        **prior_preservation(method, subject, work),
        **({"rank": options.rank} if hasattr(options, "rank") else {}),
    }


def textual_inversion(method: TunedMethod, subject: Subject, work: Path) -> Mapping[str, Any]:
    options: Any = method.options
    return {
        "train_data_dir": work / "photographs",
        "placeholder_token": token_of(subject),
        "initializer_token": options.initializer or subject.noun,
        "num_vectors": options.vectors,
    }


def custom_diffusion(method: TunedMethod, subject: Subject, work: Path) -> Mapping[str, Any]:
    options: Any = method.options
    return {
        "instance_data_dir": work / "photographs",
        "instance_prompt": f"{BEFORE} {method.mention(subject, 0)}",
        "modifier_token": token_of(subject),
        "initializer_token": options.initializers[0],
        "noaug": not options.augmentation,
        **prior_preservation(method, subject, work),
    }


def prior_preservation(method: TunedMethod, subject: Subject, work: Path) -> Mapping[str, Any]:
    count = method.class_image_count
    if not count:
        return {}
    return {
        "with_prior_preservation": True,
        "class_data_dir": work / "class",
        "class_prompt": class_prompt(subject),
        "num_class_images": count,
        "prior_loss_weight": method.options.prior_weight,
    }


EXAMPLES = {
    "dreambooth": Example({"sd1": "dreambooth/train_dreambooth.py"}, DreamBooth, rare_token),
    "dreambooth-lora": Example(
        {"sd1": "dreambooth/train_dreambooth_lora.py", "sdxl": "dreambooth/train_dreambooth_lora_sdxl.py"},
        DreamBoothLoRA,
        rare_token,
    ),
    "textual-inversion": Example(
        {"sd1": "textual_inversion/textual_inversion.py", "sdxl": "textual_inversion/textual_inversion_sdxl.py"},
        TextualInversion,
        textual_inversion,
    ),
    "custom-diffusion": Example(
        {"sd1": "custom_diffusion/train_custom_diffusion.py"}, CustomDiffusion, custom_diffusion
    ),
}


@dataclass(frozen=True)
class Turn:
    """Mean seconds of a step; `before` are ours before the first one, what is encoded once included."""

    step: float
    before: float = 0.0


def examples_folder() -> Path | None:
    """The folder that the environment names."""
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder else None


def missing(examples: Path | None, script: str | None) -> str | None:
    """What a script lacks, and how to install it; None if it can run."""
    if script is None:
        return "diffusers has no such script for this family"
    if examples is None or not (examples / script).is_file():
        tag = f"v{version('diffusers')}"
        return (
            f"{script} is not there; clone https://github.com/huggingface/diffusers at {tag} and name its folder "
            f"examples with --diffusers-examples or {VARIABLE}"
        )
    for library in ("accelerate", "torchvision"):
        if subprocess.run([sys.executable, "-c", f"import {library}"], capture_output=True).returncode:
            return f"{script} needs {library}; install it (pip install {library})"
    return None


def mean_step(ends: Sequence[float]) -> float:
    return (ends[-1] - ends[WARM_UP]) / (len(ends) - 1 - WARM_UP)


def ours(method: TunedMethod, subject: Subject, seed: int, artefact: Path) -> Turn:
    """One training of ours."""
    artefact.mkdir()
    with ends_of_steps() as ends:
        begun = now()
        method.train([subject], seed, artefact, None)
    return Turn(mean_step(ends), ends[0] - begun)


def theirs(script: Path, options: Mapping[str, Any], device: str, output: Path) -> Turn:
    """One training of the script's, which writes into `output`."""
    found = output.with_suffix(".json")
    given = {**options, "output_dir": output, "checkpointing_steps": 10**9}
    command = [sys.executable, "-c", WATCHED, str(Path(__file__).parent), str(found), str(script)]
    for name, value in given.items():
        if value is not False and value is not None:
            command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": str(device == "cpu")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if not found.exists():
        raise SystemExit(f"{script.name} failed: {done.stderr.strip().splitlines()[-1]}")
    return Turn(mean_step(json.loads(found.read_text())))


def common(method: TunedMethod, seed: int, pipeline: Path) -> Mapping[str, Any]:
    """The options that all scripts have. Their mixed precision is the run's number format."""
    options: Any = method.options
    precisions = {"float32": "no", "float16": "fp16", "bfloat16": "bf16"}
    return {
        "pretrained_model_name_or_path": pipeline,
        "resolution": method.base.setting.sampler.resolution,
        "train_batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "adam_weight_decay": options.weight_decay,
        "max_train_steps": options.steps,
        "mixed_precision": precisions[method.base.setting.dtype],
        "seed": seed,
        "lr_scheduler": "constant",
    }


def write_inputs(method: TunedMethod, subject: Subject, work: Path) -> None:
    """The subject's photographs and class images as files."""
    photographs = originals_of(subject, method.options.photographs)
    prior = class_images(method.base, class_prompt(subject), method.class_image_count).images
    for name, images in (("photographs", photographs), ("class", prior)):
        (work / name).mkdir(parents=True)
        for number, image in enumerate(images):
            image.save(work / name / f"{number:04}.png")


def as_artefact(method: TunedMethod, subject: Subject, output: Path) -> Path:
    """The script's output with the file names of our artefacts."""
    if isinstance(method, DreamBoothLoRA):
        (output.parent / "loaded").mkdir()
        return output.rename(output.parent / "loaded" / subject.id).parent
    if isinstance(method, CustomDiffusion):
        (output / f"{token_of(subject)}.safetensors").rename(output / token_file(subject))
    return output


def identities(method: TunedMethod, subject: Subject, artefact: Path, count: int, metric: Identity) -> list[float]:
    """Identity of `count` images from an artefact."""
    customization = method.restore([subject], [artefact])
    metric.prepare([subject])
    values = []
    for start in range(0, count, len(PROMPTS)):
        words = method.mention(subject, 0)
        requests = [Request(prompt.format(with_article(words)), prompt, start) for prompt in PROMPTS]
        for request, image in zip(requests, method.generate(customization, requests), strict=True):
            found = metric.score(ScoredSample(image, request.prompt, (subject,)))
            values.append(found.values["identity"])
    return values


def pairs(
    example: Example, method: TunedMethod, subjects: Sequence[Subject], turns: int, examples: Path, images: int = 0
) -> Iterator[tuple[Turn, Turn, tuple[float, float] | None]]:
    """Trainings of ours and of the script's, one after the other; with `images` also their mean identities."""
    setting, script = method.base.setting, example.scripts[method.base.family.name]
    metric = Identity(setting) if images else None
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Path(folder) / "pipeline"
        BasePipeline(Setting(setting.backbone, setting.sampler, "cpu", "float32")).pipeline().save_pretrained(pipeline)
        for turn in range(turns):
            for subject in subjects:
                work = Path(folder) / f"{turn}-{subject.id}"
                write_inputs(method, subject, work)
                options = {**common(method, turn, pipeline), **example.options(method, subject, work)}
                own, output = work / "ours", work / "theirs"

                def other(options: Mapping[str, Any] = options, output: Path = output) -> Turn:
                    return theirs(examples / script, options, setting.device, output)

                first = other() if turn % 2 else None
                mine = ours(method, subject, turn, own)
                both = (mine, first or other())
                if metric is None:
                    yield *both, None
                    continue
                artefacts = (own, as_artefact(method, subject, output))
                found = [statistics.fmean(identities(method, subject, a, images, metric)) for a in artefacts]
                yield *both, (found[0], found[1])


def made(name: str, setting: Setting, steps: int | None) -> TunedMethod:
    """The method with the backbone's settings, on full batches of photographs."""
    given = {"steps": steps} if steps else {}
    options: Any = resolve_method(name, given, setting)[1]
    full = options.photographs - options.photographs % options.batch_size
    return EXAMPLES[name].method(setting, resolve_method(name, {**given, "photographs": full}, setting)[1])


def describe(name: str, found: Sequence[tuple[Turn, Turn, tuple[float, float] | None]]) -> str:
    own, other = (statistics.median(turn.step for turn in column) for column in list(zip(*found, strict=True))[:2])
    ratios = sorted(mine.step / script.step for mine, script, _ in found)
    before = statistics.median(mine.before for mine, _, _ in found)
    text = (
        f"{name}: {own * 1e3:.1f} ms a step (first one after {before:.2f} s), script {other * 1e3:.1f} ms, ratio "
        f"{statistics.median(ratios):.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}], {len(found)} trainings each"
    )
    measured = [identity for _, _, identity in found if identity is not None]
    if measured:
        differences = [mine - script for mine, script in measured]
        error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else float("nan")
        means = [statistics.fmean(column) for column in zip(*measured, strict=True)]
        text += (
            f"; identity {means[0]:.3f}, script {means[1]:.3f}, difference {statistics.fmean(differences):+.3f}, "
            f"standard error {error:.3f}"
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--diffusers-examples", type=Path, default=examples_folder())
    parser.add_argument("--methods", nargs="+", choices=EXAMPLES, default=list(EXAMPLES))
    parser.add_argument("--backbone", default="pocket")
    parser.add_argument("--steps", type=int, help="steps of a training; the backbone's setting if not given")
    parser.add_argument("--turns", type=int, default=5, help="trainings of each for every subject, in turns")
    parser.add_argument("--subjects", type=int, default=1)
    parser.add_argument("--images", type=int, default=0, help="images of each training whose identity is measured")
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    silence_loading_bars()
    suite = read_suite(suite_file("pocket-tuning"))
    setting = setting_of(suite, read_backbone(asked.backbone), asked.device)
    family = family_of(setting.backbone.path("pipeline"))
    print(f"{setting.backbone.name}, {setting.device}, {setting.dtype}, {torch.get_num_threads()} threads", flush=True)
    for name in asked.methods:
        lack = missing(asked.diffusers_examples, EXAMPLES[name].scripts.get(family.name))
        if lack:
            print(f"{name}: skipped, {lack}.", flush=True)
            continue
        method = made(name, setting, asked.steps)
        subjects, folder = suite.subjects[: asked.subjects], asked.diffusers_examples
        found = pairs(EXAMPLES[name], method, subjects, asked.turns, folder, asked.images)
        print(describe(name, list(found)), flush=True)


if __name__ == "__main__":
    main()
