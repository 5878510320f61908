"""Prior preservation's class images: the base model's own idea of a class noun, drawn once and kept for all subjects.

DreamBooth (arXiv 2208.12242, section 3.3) and Custom Diffusion train on them beside the subject's photographs. They lie
in the cache folder of the user (`FC_BENCH_CACHE`, else `~/.cache/fc-bench`) under a name that says what decides them.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from fc_bench.errors import UserError
from fc_bench.protocols import Request, seed_from
from fc_bench.records import write_png
from fc_bench.suite import digest

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from fc_bench.baselines.tuning.base_pipeline import BasePipeline

BATCH = 8
"""Images drawn together; each has its own noise, so the number changes nothing."""


@dataclass(frozen=True)
class ClassImages:
    """The class images of one prompt; `made` of them were drawn now, in `seconds`."""

    images: list[Image.Image]
    made: int
    seconds: float


def class_images(base: BasePipeline, prompt: str, count: int) -> ClassImages:
    """The first `count` class images of a prompt, from the cache as far as they are there.

    Raises UserError when the cache folder cannot be written.
    """
    folder = _folder(base, prompt)
    files = [folder / f"{number:04}.png" for number in range(count)]
    found = {file: _readable(file) for file in files}
    missing = [file for file in files if found[file] is None]
    begun = time.perf_counter()
    if missing:
        pipeline = base.pipeline(base.fresh_unet())
        for start in range(0, len(missing), BATCH):
            _draw(base, pipeline, prompt, missing[start : start + BATCH], found)
    images = [image for image in found.values() if image is not None]
    return ClassImages(images, len(missing), time.perf_counter() - begun if missing else 0.0)


def _draw(
    base: BasePipeline,
    pipeline: StableDiffusionPipeline,
    prompt: str,
    files: list[Path],
    found: dict[Path, Image.Image | None],
) -> None:
    requests = [Request(prompt, prompt, seed_from(f"class image\n{prompt}\n{int(file.stem)}")) for file in files]
    for file, image in zip(files, base.sample(pipeline, requests), strict=True):
        try:
            write_png(file, image)
        except OSError as error:
            raise UserError(
                f"Class images cannot be kept in {file.parent} ({error.strerror}); set FC_BENCH_CACHE to a folder that "
                "can be written."
            ) from None
        found[file] = image


def _folder(base: BasePipeline, prompt: str) -> Path:
    backbone, sampler = base.setting.backbone, asdict(base.setting.sampler)
    decides = [backbone.fingerprint("pipeline"), sampler, base.setting.dtype, prompt]
    cache = Path(os.environ.get("FC_BENCH_CACHE") or "~/.cache/fc-bench").expanduser()
    return cache / "class-images" / f"{backbone.name}-{digest(decides)[:16]}"


def _readable(file: Path) -> Image.Image | None:
    """A class image drawn earlier; None when it is not there or damaged, so that it is drawn again."""
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return None
