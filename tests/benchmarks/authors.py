"""FastComposer beside its authors' code: a UNet call, a VAE decoding and a training step, in turns within one run.

    python tests/benchmarks/authors.py --python their/bin/python      # twenty minutes on one core
    python tests/benchmarks/authors.py --python their/bin/python --only training --turns 2

Both have the same weights, inputs, random draws and threads, and a process each. Results are compared before times are,
and peak memory is what a process needs beyond its libraries (on Linux). Ours computes with the kernels that it chooses
for the shape. The other interpreter (also FC_BENCH_AUTHORS) is one that
can `import fastcomposer.model` of mit-han-lab/fastcomposer (commit b9304a2), with transformers 4.25.1, diffusers 0.16.1
and the torch of this environment; torchvision is only needed for its Normalize. This file runs in both interpreters.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

INTERPRETER = "FC_BENCH_AUTHORS"
MISSING = (
    "The authors' code is left out: name an interpreter that can import it with --python or FC_BENCH_AUTHORS (in an "
    "environment of its own: pip install transformers==4.25.1 diffusers==0.16.1 torch torchvision, and "
    "mit-han-lab/fastcomposer on its path)."
)
ARCHITECTURE = Path(__file__).parents[2] / "model" / "backbones" / "sd15"
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
TOKENS, LENGTH = (2, 5), 77
"""Positions of the two subjects' image tokens, and number of all tokens of a prompt."""
WIDTHS = ("block_out_channels", "cross_attention_dim", "hidden_size", "intermediate_size", "projection_dim")
VAE_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class Case:
    """A part at a multiple of Stable Diffusion v1.5's widths; `dtype` is ours, theirs is float32.

    `tolerance` is the largest difference of results, relative to the largest value.
    """

    part: str
    width: float
    dtype: str = "float32"
    tolerance: float = 1e-3


CASES = {
    "unet": Case("unet", 1),
    "vae": Case("vae", 1),
    "training": Case("training", 0.5),
    "unet-bfloat16": Case("unet", 1, "bfloat16", 0.1),
    "vae-bfloat16": Case("vae", 1, "bfloat16", 0.1),
}
"""The training step at half width has localization, batch 1, VAE and text encoder, and AdamW."""


def configurations(width: float) -> dict[str, dict[str, Any]]:
    """Stable Diffusion v1.5's configurations with all widths multiplied."""
    found = {}
    for name in ("unet", "vae", "text_encoder", "image_encoder"):
        config = json.loads((ARCHITECTURE / f"{name}.json").read_text(encoding="utf-8"))
        for key in (*WIDTHS, "num_attention_heads"):
            if key in config:
                value = config[key]
                config[key] = [int(one * width) for one in value] if isinstance(value, list) else int(value * width)
        found[name] = {key: value for key, value in config.items() if not key.startswith("_")}
    return found


def fill(part: str, model: torch.nn.Module) -> None:
    """Give each weight values that depend on its current name alone."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not value.is_floating_point():
                continue
            words = name.removeprefix("text_model.").split(".")
            name = ".".join(VAE_NAMES.get(word, word) for word in words) if part == "vae" else ".".join(words)
            if words[-1] == "bias":
                value.zero_()
            elif value.ndim == 1 and words[-1] == "weight":
                value.fill_(1)
            else:
                generator = torch.Generator().manual_seed(zlib.crc32(f"{part}.{name}".encode()))
                value.normal_(0, value[0].numel() ** -0.5 if value.ndim > 1 else 1, generator=generator)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def example(size: int, vocabulary: int, number: int) -> dict[str, Any]:
    """An image of two subjects with caption, references and masks, and the random draws of its training step."""
    masks = torch.zeros(1, 2, size, size)
    masks[:, 0, :, : size // 3], masks[:, 1, :, size // 2 :] = 1, 1
    generator = torch.Generator().manual_seed(number)
    return {
        "pixels": normal(number, 1, 3, size, size).clamp(-1, 1),
        "input_ids": torch.randint(0, vocabulary, (1, LENGTH), generator=generator),
        "references": torch.rand(1, 2, 3, 224, 224, generator=generator),
        "masks": masks,
        "posterior": normal(number + 1, 1, 4, size // 8, size // 8),
        "noise": normal(number + 2, 1, 4, size // 8, size // 8),
        "timestep": torch.randint(0, 1000, (1,), generator=generator),
    }


def models_of(configs: Mapping[str, Any]) -> dict[str, Any]:
    """The models, in either environment."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

    models: dict[str, Any] = {
        "unet": UNet2DConditionModel(**configs["unet"]),
        "vae": AutoencoderKL(**configs["vae"]),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**configs["text_encoder"])),
        "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**configs["image_encoder"])),
    }
    for name, model in models.items():
        fill(name, model)
    return models


def sampling(asked: argparse.Namespace, case: Case) -> Callable[[], torch.Tensor]:
    """A noise prediction for one image with guidance, that is for two, or the decoding of one image."""
    import diffusers

    configs, side = configurations(case.width), asked.size // 8
    kind: Any = diffusers.UNet2DConditionModel if case.part == "unet" else diffusers.AutoencoderKL
    model = kind(**configs[case.part]).requires_grad_(False).eval()
    fill(case.part, model)
    dtype = torch.float32
    if asked.side == "ours":
        dtype = getattr(torch, case.dtype)
        torch.nn.Module.to(model, dtype)
        place(model, case, asked.size)
    if case.part == "vae":
        latents = normal(1, 1, 4, side, side).to(dtype)
        return lambda: model.decode(latents).sample
    latents, text = normal(1, 2, 4, side, side), normal(2, 2, LENGTH, configs["unet"]["cross_attention_dim"])
    latents, text = latents.to(dtype), text.to(dtype)
    return lambda: model(latents, torch.tensor(500), text).sample


def place(model: Any, case: Case, size: int) -> Any:
    """Give our model the kernels that are chosen for its shape; returns them."""
    from fc_bench.model.attention import use_attention
    from fc_bench.model.kernel_choice import for_sampling, for_training
    from fc_bench.model.kernels import arrange

    choose = for_training if case.part == "training" else for_sampling
    with tempfile.TemporaryDirectory() as folder:
        for part, config in configurations(case.width).items():
            (Path(folder) / part).mkdir()
            (Path(folder) / part / "config.json").write_text(json.dumps(config), encoding="utf-8")
        kernels = choose(Path(folder), size, "cpu", case.dtype)
    arrange(model, kernels.vae if case.part == "vae" else kernels.unet)
    if case.part == "unet":
        use_attention(model, kernels.attention)
    print(f"{case.part}, {case.dtype}: {kernels}", file=sys.stderr)
    return kernels


def their_training(asked: argparse.Namespace, case: Case) -> Callable[[], torch.Tensor]:
    """A step as in their train.py: localization, masked loss, the last two layers of the image encoder trained."""
    import diffusers.models.vae as their_vae  # pyright: ignore[reportMissingImports]
    import fastcomposer.model as theirs  # pyright: ignore[reportMissingImports]
    from diffusers import DDPMScheduler
    from torchvision.transforms import Normalize  # pyright: ignore[reportMissingImports]

    configs = configurations(case.width)
    models = models_of(configs)
    vision = models["image_encoder"]
    normalize = Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    settings = SimpleNamespace(
        pretrained_model_name_or_path=None,
        revision=None,
        non_ema_revision=None,
        object_localization=True,
        object_localization_weight=1e-3,
        localization_layers=5,
        object_localization_threshold=1.0,
        object_localization_normalize=False,
        mask_loss=True,
        mask_loss_prob=1.0,
    )
    model = theirs.FastComposerModel(
        theirs.FastComposerTextEncoder(models["text_encoder"].text_model),
        theirs.FastComposerCLIPImageEncoder(vision.vision_model, vision.visual_projection, normalize),
        models["vae"],
        models["unet"],
        settings,
    )
    fill("postfuse_module", model.postfuse_module)
    model.requires_grad_(False)
    trained = [model.unet, model.postfuse_module, *vision.vision_model.encoder.layers[-2:]]
    parameters = [one for part in trained for one in part.requires_grad_(True).parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=1e-2)
    schedule: Any = DDPMScheduler(**SCHEDULE)
    vocabulary = configs["text_encoder"]["vocab_size"]
    numbers = iter(range(1, 1 << 30))
    model.train()

    def step() -> torch.Tensor:
        drawn = example(asked.size, vocabulary, next(numbers))
        image_mask = torch.zeros(1, LENGTH, dtype=torch.bool)
        image_mask[0, list(TOKENS)] = True
        batch = {
            "pixel_values": drawn["pixels"],
            "input_ids": drawn["input_ids"],
            "image_token_mask": image_mask,
            "object_pixel_values": drawn["references"],
            "num_objects": torch.tensor([2]),
            "object_segmaps": drawn["masks"],
            "image_token_idx": torch.tensor([TOKENS]),
            "image_token_idx_mask": torch.ones(1, 2, dtype=torch.bool),
        }
        with (  # their draws, which ours takes as inputs
            patch.object(torch, "randn_like", return_value=drawn["noise"]),
            patch.object(torch, "randint", return_value=drawn["timestep"]),
            patch.object(their_vae, "randn_tensor", return_value=drawn["posterior"]),
        ):
            losses = model(batch, schedule)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return torch.stack([losses["denoise_loss"].detach(), losses["localization_loss"].detach()])

    return step


def our_training(asked: argparse.Namespace, case: Case) -> Callable[[], torch.Tensor]:
    """The same step from the parts of the training loop."""
    from diffusers import DDPMScheduler

    from fc_bench.model.families.diffusion import Diffusion
    from fc_bench.model.families.sd1 import StableDiffusion1
    from fc_bench.model.families.text import TextEncoders
    from fc_bench.model.fastcomposer.forward import FastComposer, TrainingBatch, resize_latent_masks
    from fc_bench.model.fastcomposer.localization import attention_masks, map_sizes
    from fc_bench.model.fastcomposer.postfuse import PostfuseModule
    from fc_bench.model.kernels import arrange
    from fc_bench.model.training.batches import FrozenEncoders

    family = StableDiffusion1()
    configs, side = configurations(case.width), asked.size // 8
    models = models_of(configs)
    postfuse = PostfuseModule(features=configs["unet"]["cross_attention_dim"])
    fill("postfuse_module", postfuse)
    schedule: Any = DDPMScheduler(**SCHEDULE)
    kernels = place(models["unet"], case, asked.size)
    arrange(models["vae"], kernels.vae)
    model = FastComposer(
        family, models["unet"], models["image_encoder"], postfuse, Diffusion(schedule), attention=kernels.attention
    )
    parameters = [one for part in model.train_parts(2).values() for one in part]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=1e-2, fused=True)
    encoders = FrozenEncoders(family, models["vae"], TextEncoders((), (models["text_encoder"],)), torch.device("cpu"))
    sizes = map_sizes(models["unet"], model.localization_layers, (side, side))
    vocabulary = configs["text_encoder"]["vocab_size"]
    numbers = iter(range(1, 1 << 30))
    model.train()

    def step() -> torch.Tensor:
        drawn = example(asked.size, vocabulary, next(numbers))
        mean, std = encoders.posterior(drawn["pixels"])
        batch = TrainingBatch(
            latents=(mean + std * drawn["posterior"]) * encoders.scaling_factor,
            noise=drawn["noise"],
            timesteps=drawn["timestep"],
            condition=encoders.condition([drawn["input_ids"]]),
            image_tokens=torch.tensor([TOKENS]),
            subject_mask=torch.ones(1, 2, dtype=torch.bool),
            references=drawn["references"][0],
            latent_masks=resize_latent_masks(drawn["masks"], (side, side)),
            attention_masks=attention_masks(drawn["masks"], sizes),
            masked=torch.ones(1, dtype=torch.bool),
        )
        losses = model(batch)
        losses.total.backward()
        model.forget_attention()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return torch.stack([losses.denoising, losses.localization])

    return step


def work(asked: argparse.Namespace) -> None:
    """Compute a turn for each line of standard input: its time, peak memory, and a few values of the result."""
    from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: F401 (libraries are no part of the peak)
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection  # noqa: F401

    torch.set_num_threads(asked.threads)
    case, libraries = CASES[asked.case], peak_memory()
    if case.part == "training":
        turn = (our_training if asked.side == "ours" else their_training)(asked, case)
    else:
        turn = torch.no_grad()(sampling(asked, case))
    print("{}", flush=True)
    for _ in sys.stdin:
        begun, worked = time.perf_counter(), time.process_time()
        values = turn()
        seconds, processor = time.perf_counter() - begun, time.process_time() - worked
        few = values.float().flatten()
        few = few[:: max(1, len(few) // 64)].tolist()
        found = {"seconds": seconds, "processor": processor, "peak": peak_memory() - libraries}
        print(json.dumps({**found, "values": few}), flush=True)


def peak_memory() -> float:
    """The process's largest resident memory in GiB."""
    (peak,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(peak) / 2**20


class Worker:
    """A process of one side that computes a turn on request."""

    def __init__(self, python: str, **options: Any) -> None:
        command = [python, __file__, *(f"--{name}={value}" for name, value in options.items())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def turn(self) -> dict[str, Any]:
        """Seconds, seconds of the processor, peak memory (GiB) and values of the next turn."""
        assert self._process.stdin is not None
        self._process.stdin.write("turn\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"A worker ended early: {self._process.args}")


def interpreter(named: str | None = None) -> str | None:
    """The interpreter of the authors' code, if one is named; raises SystemExit if it cannot import it."""
    python = named or os.environ.get(INTERPRETER)
    if python is not None:
        done = subprocess.run([python, "-c", "import fastcomposer.model"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{python} cannot import fastcomposer.model: {done.stderr.strip().splitlines()[-1]}")
    return python


def compared(python: str, name: str, turns: int, size: int) -> dict[str, list[tuple[float, float]]]:
    """Figures of ours and theirs, a pair a turn after one that warms up; raises SystemExit if results differ."""
    options = {"case": name, "size": size, "threads": torch.get_num_threads()}
    with Worker(python, side="theirs", **options) as theirs, Worker(sys.executable, side="ours", **options) as ours:
        found: dict[str, list[tuple[float, float]]] = {"seconds": [], "processor": [], "peak": []}
        for turn in range(turns + 1):
            first, second = (ours, theirs) if turn % 2 else (theirs, ours)
            results = {first: first.turn(), second: second.turn()}
            one, other = results[ours], results[theirs]
            largest = max(map(abs, other["values"]))
            off = max(abs(a - b) for a, b in zip(one["values"], other["values"], strict=True)) / largest
            if not off <= CASES[name].tolerance:
                raise SystemExit(f"{name}: the results differ by {off:.1e} of the largest value")
            if turn:
                for key, pairs in found.items():
                    pairs.append((one[key], other[key]))
    return found


def table(
    python: str, names: Sequence[str], turns: int, size: int = 512
) -> Iterator[tuple[str, str, list[tuple[float, float]]]]:
    """What is compared, its unit, and a pair of ours and theirs for each turn."""
    for name in names:
        what = f"{name} at {size} pixels, {CASES[name].width:g} x width"
        found = compared(python, name, turns, size)
        yield what, "s", found["seconds"]
        yield f"{what}, processor time", "s", found["processor"]
        yield f"{what}, peak memory", "GiB", found["peak"][-1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--python", help=f"interpreter of the authors' code; {INTERPRETER} if not given")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--size", type=int, default=512, help="pixels of an image's side")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        work(asked)
        return
    torch.set_num_threads(asked.threads)
    python = interpreter(asked.python)
    if python is None:
        raise SystemExit(MISSING)
    for what, unit, pairs in table(python, asked.only, asked.turns, asked.size):
        ratios = sorted(one / other for one, other in pairs)
        medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
        print(
            f"{what}: {medians[0]:.3g} {unit}, theirs {medians[1]:.3g} {unit}, ratio "
            f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]",
            flush=True,
        )


if __name__ == "__main__":
    main()
