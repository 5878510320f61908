"""How models compute: attention and memory format by shape and device, and the number format for a CPU.

These decide time, memory and the last bits of a result, so the choice is recorded with the results. Where the
latents have at most `SMALL` positions, and on an accelerator, the choice is fixed. Otherwise passes of the models'
shapes are timed once on this machine, and the seconds are kept in the user's cache. Attention on larger maps than
`LARGEST_EAGER_MAP` is always fused, because separate matrix products store the maps. Autoencoders of large images are
always channels-last, which copies fewer of their large activations.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from fc_bench.model.attention import LARGEST_EAGER_MAP
from fc_bench.model.errors import ModelInputError
from fc_bench.model.kernels import AttentionKind, Kernels, MemoryFormat, arrange
from fc_bench.model.user_cache import made_once

SMALL = 1024
"""Largest number of positions of the latents (height x width) for which nothing is measured."""
GAIN = 0.97
"""Ratio of seconds from which the other candidate is taken instead of the default: less is lost in the noise."""
WORK = 4e9
"""Floating point operations of a timed block."""
TURNS = 3
HEADS, TEXT = 8, 77
"""Heads of an attention layer, and tokens of a text."""
KIND = "kernels"
"""Name of the folder in the cache."""
FORMAT = 2
"""Version of the measurement; another version is measured again."""


def for_sampling(pipeline: Path, resolution: int, device: str, dtype: str) -> Kernels:
    """The choice for sampling square images with the pipeline in a folder; `device` and `dtype` are torch's names."""
    if device != "cpu" or not is_large(pipeline, resolution):
        return Kernels()
    return Kernels(*_for_unet(pipeline, resolution, dtype, False))


def for_training(pipeline: Path, resolution: int, device: str, dtype: str) -> Kernels:
    """The choice for training the UNet of such a pipeline beside its frozen autoencoder."""
    if device != "cpu":
        return Kernels("sdpa", "contiguous", "contiguous")
    if not is_large(pipeline, resolution):  # the backward pass of fused attention is slow on small maps
        return Kernels("eager", "contiguous", "contiguous")
    return Kernels(*_for_unet(pipeline, resolution, dtype, True))


def is_large(pipeline: Path, resolution: int) -> bool:
    """Whether the latents of a pipeline's square images have more positions than `SMALL`."""
    known = _widths(pipeline / "vae") and _widths(pipeline / "unet")
    return bool(known) and _latent_side(pipeline, resolution) ** 2 > SMALL


def _for_unet(pipeline: Path, resolution: int, dtype: str, training: bool) -> tuple[AttentionKind, MemoryFormat]:
    shape = _widths(pipeline / "unet"), _latent_side(pipeline, resolution), dtype, training
    return _faster(Attention(*shape)), _faster(Convolution(*shape))


def _latent_side(pipeline: Path, resolution: int) -> int:
    return resolution // 2 ** (len(_widths(pipeline / "vae")) - 1)


def _widths(model: Path) -> tuple[int, ...]:
    """The widths of a model's blocks; empty if its configuration does not have them, which loading will report."""
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        return tuple(int(width) for width in config["block_out_channels"])
    except (OSError, ValueError, LookupError, TypeError):
        return ()


@dataclass(frozen=True)
class _Work:
    """Blocks with these widths, of which the first has `side` x `side` positions and each further one half the side."""

    widths: tuple[int, ...]
    side: int
    dtype: str
    training: bool
    candidates: ClassVar[tuple[str, str]]
    """The default, and the other one."""

    def passes(self, candidate: str) -> list[Callable[[], Tensor]]:
        """The passes that are timed; each returns an output."""
        raise NotImplementedError


class Convolution(_Work):
    """Residual blocks, each after a layer for tokens, in either memory format."""

    candidates = ("contiguous", "channels-last")

    def passes(self, candidate: Any) -> list[Callable[[], Tensor]]:
        """One block of each of the first three widths, with as many rows as `WORK` allows."""
        from diffusers.models.resnet import ResnetBlock2D

        found = []
        for level, width in enumerate(self.widths[:3]):
            across = max(self.side >> level, 1)
            rows = int(min(across, max(WORK // (36 * width**2 * across), 4)))
            groups = next(count for count in (32, 16, 8, 4, 2, 1) if width % count == 0)
            block: Any = ResnetBlock2D(in_channels=width, out_channels=width, groups=groups)
            block.time_emb_proj = None
            block = block.to(getattr(torch, self.dtype))
            arrange(block, candidate)
            form = torch.channels_last if candidate == "channels-last" else torch.contiguous_format
            inputs = torch.randn(1, width, rows, across).to(getattr(torch, self.dtype), memory_format=form)
            inputs.requires_grad_(self.training)  # otherwise the backward pass of torch's channels-last norm crashes
            tokens = torch.nn.Linear(width, width).to(getattr(torch, self.dtype))
            found.append(partial(_with_tokens, block, tokens, inputs))
        return found


class Attention(_Work):
    """Attention on the maps that are computed by separate matrix products with `mixed`, to positions and to a text."""

    candidates = ("sdpa", "mixed")

    def passes(self, candidate: str) -> list[Callable[[], Tensor]]:
        """One pass with `HEADS` heads for each width and kind of map."""
        found = []
        for level, width in enumerate(self.widths):
            queries = max(self.side >> level, 1) ** 2
            for keys in (queries, TEXT):
                if queries * keys <= LARGEST_EAGER_MAP:
                    shape = (1, HEADS, queries, width // HEADS), (1, HEADS, keys, width // HEADS)
                    inputs = [torch.randn(shape[place]).to(getattr(torch, self.dtype)) for place in (0, 1, 1)]
                    for one in inputs:
                        one.requires_grad_(self.training)
                    found.append(partial(_fused if candidate == "sdpa" else _separate, *inputs))
        return found


def _with_tokens(block: Any, tokens: Any, inputs: Tensor) -> Tensor:
    """A layer for which positions become tokens, as attention does, and a residual block."""
    batch, width, rows, across = inputs.shape
    mixed = tokens(inputs.permute(0, 2, 3, 1).reshape(batch, -1, width))
    mixed = mixed.reshape(batch, rows, across, width).permute(0, 3, 1, 2).contiguous()  # as diffusers does
    return block(mixed + inputs, None)


def _fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


def _separate(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = (inputs.flatten(0, 1) for inputs in (query, key, value))
    scores = torch.baddbmm(query.new_empty(1), query, key.transpose(1, 2), beta=0, alpha=query.shape[-1] ** -0.5)
    return torch.bmm(scores.softmax(-1), value)[None]


@lru_cache
def _faster(work: _Work) -> Any:
    """The faster candidate; the default unless the other one is faster by more than the noise."""
    kind = type(work).__name__.lower()
    decides = {
        "format": FORMAT,
        "torch": torch.__version__,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "kind": kind,
        **asdict(work),
    }
    found: dict[str, float] = {}

    def measure(folder: Path) -> None:
        found.update(_measured(work))
        (folder / "seconds.json").write_text(json.dumps({**decides, "seconds": found}, indent=1), encoding="utf-8")

    try:
        folder = made_once(KIND, kind, decides, measure)
        found = json.loads((folder / "seconds.json").read_text(encoding="utf-8"))["seconds"]
    except (OSError, ValueError, LookupError, ModelInputError):  # without a cache, every process measures
        found = found or _measured(work)
    default, other = work.candidates
    return other if found[other] < GAIN * found[default] else default


def _measured(work: _Work) -> dict[str, float]:
    """Seconds of all passes by candidate, the fastest of `TURNS` each, in turns."""
    state = torch.get_rng_state()
    passes = {candidate: work.passes(candidate) for candidate in work.candidates}
    torch.set_rng_state(state)
    total = dict.fromkeys(work.candidates, 0.0)
    for number in range(len(passes[work.candidates[0]])):
        seconds: dict[str, list[float]] = {candidate: [] for candidate in work.candidates}
        for _ in range(TURNS + 1):
            for candidate in work.candidates:
                seconds[candidate].append(_timed(passes[candidate][number], work.training))
        for candidate, values in seconds.items():
            total[candidate] += min(values[1:])
    return total


def _timed(one: Callable[[], Tensor], training: bool) -> float:
    begun = time.perf_counter()
    with torch.set_grad_enabled(training):
        outputs = one()
    if training:
        outputs.backward(outputs.detach())
    return time.perf_counter() - begun


def cpu_dtype() -> tuple[str, str]:
    """The number format that large models take on this CPU, and the reason in a clause."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch from 2.10 on
    found = [name for name in ("amx_bf16", "avx512_bf16", "bf16") if capabilities.get(name)]
    if found:
        return "bfloat16", f"it computes bfloat16 itself ({found[0]}), in about half the time and memory of float32"
    if not capabilities:
        return "float32", "this version of torch does not report which formats it computes itself"
    return "float32", "it has no instructions for bfloat16"


def processor() -> str:
    """Name of the processor."""
    named = getattr(torch.cpu, "get_capabilities", dict)().get("cpu_name")
    return str(named or platform.processor() or platform.machine())
