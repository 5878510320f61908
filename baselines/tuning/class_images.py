"""Prior preservation's class images: the base model's own idea of a class noun, drawn once and kept for all subjects.

DreamBooth (arXiv 2208.12242, section 3.3) and Custom Diffusion train on them beside the subject's photographs. They lie
in the cache folder of the user (`FC_BENCH_CACHE`, else `~/.cache/fc-bench`) under a name that says what decides them.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from fc_bench.errors import UserError
from fc_bench.model.user_cache import cache_folder
from fc_bench.protocols import Request, seed_from
from fc_bench.run_folder.records import write_png
from fc_bench.suites.suite import digest

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from fc_bench.baselines.base_pipeline import BasePipeline

BATCH = 8
"""Images drawn together; each has its own noise, so the number changes nothing."""


@dataclass(frozen=True)
class ClassImages:
    """The class images of one prompt; drawing them took `seconds`, whenever that was."""

    images: list[Image.Image]
    seconds: float

    @property
    def sha256(self) -> str:
        """Over all pixels (hexadecimal): what a customization was trained on."""
        return hashlib.sha256(b"".join(image.tobytes() for image in self.images)).hexdigest()


def class_images(base: BasePipeline, prompt: str, count: int) -> ClassImages:
    """The first `count` class images of a prompt, from the cache as far as they are there.

    Raises UserError when the cache folder cannot be written.
    """
    folder = _folder(base, prompt)
    files = [folder / f"{number:04}.png" for number in range(count)]
    found = {file: _read(file) for file in files}
    missing = [file for file in files if found[file] is None]
    if missing:
        pipeline = base.pipeline(base.fresh_unet())
        for start in range(0, len(missing), BATCH):
            _draw(base, pipeline, prompt, missing[start : start + BATCH])
    drawn = [found[file] or _read(file) for file in files]
    whole = [image for image in drawn if image is not None]
    if len(whole) != count:
        raise UserError(f"Class images in {folder} changed while they were read; repeat the command.")
    return ClassImages(whole, sum(float(image.info["seconds"]) for image in whole))


def _draw(base: BasePipeline, pipeline: StableDiffusionPipeline, prompt: str, files: list[Path]) -> None:
    """Draw and keep images, each with its share of the batch's seconds."""
    requests = [Request(prompt, prompt, seed_from(f"class image\n{prompt}\n{int(file.stem)}")) for file in files]
    begun = time.perf_counter()
    images = list(base.sample(pipeline, requests))
    seconds = (time.perf_counter() - begun) / len(images)
    for file, image in zip(files, images, strict=True):
        try:
            write_png(file, image, {"prompt": prompt, "seconds": f"{seconds:.4f}"})
        except OSError as error:
            raise UserError(
                f"Class images cannot be kept in {file.parent} ({error.strerror}); set FC_BENCH_CACHE to a folder that "
                "can be written."
            ) from None


def _folder(base: BasePipeline, prompt: str) -> Path:
    """Named by all that decides the pixels, down to the libraries that round."""
    setting = base.setting
    libraries = {name: version(name) for name in ("torch", "diffusers", "transformers")}
    decides = [
        setting.backbone.fingerprint("pipeline"),
        asdict(setting.sampler),
        setting.dtype,
        base.device.type,
        libraries,
        prompt,
    ]
    return cache_folder() / "class-images" / f"{setting.backbone.name}-{digest(decides)[:16]}"


def _read(file: Path) -> Image.Image | None:
    """A class image drawn earlier; None when it is not there or damaged, so that it is drawn again."""
    try:
        with Image.open(file) as image:
            image.load()
            float(image.info["seconds"])
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, KeyError):
        return None
