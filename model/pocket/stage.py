"""One training loop for the miniature models: time budget, cosine schedule, moving average, log, exact resume.

Each stage hands in its modules and a loss; the loop does the rest. FastComposer's own fine-tune does not come here: it
goes through `fc_bench.model.training`, like anyone's.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Loss = Callable[[np.random.Generator, float], dict[str, Tensor]]
"""(random generator, progress 0-1) -> named losses; "loss" is minimized, the others are logged."""


@dataclass(frozen=True)
class StageSettings:
    """How long and how to train; a stage ends at `seconds` of training or `max_steps`, whichever comes first."""

    seconds: float
    learning_rate: float
    batch_size: int
    max_steps: int = 10**9
    warmup_steps: int = 50
    final_share: float = 0.03
    weight_decay: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    ema: float = 0.995
    clip_norm: float = 1.0
    seed: int = 0
    checkpoint_every: float = 120.0
    log_every: int = 50


@dataclass(frozen=True)
class StageResult:
    """What training cost: optimizer steps, seconds, the device's name, the settings, the last logged losses."""

    steps: int
    seconds: float
    device: str
    settings: dict[str, Any]
    last: dict[str, float]


def pick_device() -> torch.device:
    """The accelerator, or the CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def device_name(device: torch.device) -> str:
    """A device in words, for the model cards."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


def train_stage(
    folder: Path, modules: Mapping[str, nn.Module], loss: Loss, settings: StageSettings, device: torch.device
) -> StageResult:
    """Train `modules` in place and leave the moving average of their weights in them; resumes from `folder`.

    Only parameters with requires_grad are trained. An interrupted call, repeated, continues from its last checkpoint,
    the time already spent counted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bundle = nn.ModuleDict(dict(modules)).to(device)
    parameters: list[Tensor] = [p for p in bundle.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, settings.learning_rate, settings.betas, weight_decay=settings.weight_decay, fused=True
    )
    average = [p.detach().clone() for p in parameters]
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    step, spent = 0, 0.0
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        bundle.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        average = [a.to(device) for a in state["average"]]
        rng.bit_generator.state = json.loads(state["rng"])
        torch.set_rng_state(state["torch_rng"].cpu())
        if device.type != "cpu":
            torch.get_device_module(device).set_rng_state(state["device_rng"].cpu())
        step, spent = state["step"], state["spent"]
    started = time.perf_counter() - spent
    saved_at = spent
    history: list[dict[str, float]] = []
    last = _rewind_log(folder / "log.jsonl", step)

    def save(elapsed: float) -> None:
        partial = checkpoint.with_suffix(".partial")
        torch.save(
            {
                "modules": bundle.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average,
                "rng": json.dumps(rng.bit_generator.state),
                "torch_rng": torch.get_rng_state(),
                "device_rng": _device_generator_state(device),
                "step": step,
                "spent": elapsed,
            },
            partial,
        )
        partial.replace(checkpoint)

    bundle.train()
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        while True:
            elapsed = time.perf_counter() - started
            progress = max(elapsed / settings.seconds, step / settings.max_steps)
            if progress >= 1:
                break
            rate = settings.learning_rate * _schedule(step, progress, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            losses = loss(rng, progress)
            losses["loss"].backward()
            nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            with torch.no_grad():
                torch._foreach_lerp_(average, parameters, 1 - min(settings.ema, step / (step + 12)))
            history.append({name: float(value.detach()) for name, value in losses.items()})
            if step % settings.log_every == 0:
                last = {name: float(np.mean([h[name] for h in history])) for name in history[0]}
                history.clear()
                log.write(json.dumps({"step": step, "seconds": round(elapsed, 1), "lr": rate, **last}) + "\n")
                log.flush()
            if elapsed - saved_at > settings.checkpoint_every:
                save(elapsed)
                saved_at = elapsed
        elapsed = time.perf_counter() - started
        save(elapsed)
    with torch.no_grad():
        for parameter, value in zip(parameters, average, strict=True):
            parameter.copy_(value)
    bundle.eval()
    result = StageResult(step, round(elapsed, 1), device_name(device), asdict(settings), last)
    (folder / "result.json").write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    return result


def _device_generator_state(device: torch.device) -> Tensor:
    """State of the generator that draws on the device; the CPU's own where that is the device."""
    return torch.get_rng_state() if device.type == "cpu" else torch.get_device_module(device).get_rng_state()


def _rewind_log(log: Path, step: int) -> dict[str, float]:
    """Drop what was logged after the checkpoint of `step`, and a line cut off by the interruption; the last losses."""
    kept: list[dict[str, float]] = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        with suppress(json.JSONDecodeError):
            entry = json.loads(line)
            if entry["step"] <= step:
                kept.append(entry)
    log.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")
    last = kept[-1] if kept else {}
    return {name: value for name, value in last.items() if name not in ("step", "seconds", "lr")}


def _schedule(step: int, progress: float, settings: StageSettings) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    decay = settings.final_share + (1 - settings.final_share) * cosine
    return min(1.0, (step + 1) / settings.warmup_steps) * decay
