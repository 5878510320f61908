"""Class images for prior preservation: images of a class noun from the base model, generated once for all subjects.

DreamBooth (arXiv 2208.12242, section 3.3) and Custom Diffusion train on them beside the subject's photographs. The
user's cache folder (`FC_BENCH_CACHE`, else `~/.cache/fc-bench`) keeps them in a folder named by a hash of their inputs.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from fc_bench.errors import UserError
from fc_bench.model.user_cache import cache_folder
from fc_bench.protocols import Request, seed_from
from fc_bench.run_folder.records import write_png
from fc_bench.suites.suite import digest

if TYPE_CHECKING:
    from fc_bench.baselines.base_pipeline import BasePipeline

BATCH = 8
"""Number of images generated together; it does not change them, because each image has its own noise."""


@dataclass(frozen=True)
class ClassImages:
    """The class images of one prompt, and the `seconds` that it took to generate them, now or earlier."""

    images: list[Image.Image]
    seconds: float

    @property
    def sha256(self) -> str:
        """Hash of all pixels (hexadecimal), which identifies the training data."""
        return hashlib.sha256(b"".join(image.tobytes() for image in self.images)).hexdigest()


def class_images(base: BasePipeline, prompt: str, count: int) -> ClassImages:
    """The first `count` class images of a prompt, from the cache where it has them.

    Raises UserError when the cache folder cannot be written or changes meanwhile.
    """
    folder = _folder(base, prompt)
    files = [folder / f"{number:04}.png" for number in range(count)]
    found = {file: _read(file) for file in files}
    missing = [file for file in files if found[file] is None]
    if missing:
        pipeline = base.pipeline(base.fresh_unet())
        for start in range(0, len(missing), BATCH):
            _generate(base, pipeline, prompt, missing[start : start + BATCH])
    images = [image for file in files if (image := found[file] or _read(file)) is not None]
    if len(images) != count:
        raise UserError(f"Class images in {folder} changed while they were read; repeat the command.")
    return ClassImages(images, sum(float(image.info["seconds"]) for image in images))


def _generate(base: BasePipeline, pipeline: Any, prompt: str, files: list[Path]) -> None:
    """Generate images and write each with its share of the batch's seconds."""
    requests = [Request(prompt, prompt, seed_from(f"class image\n{prompt}\n{int(file.stem)}")) for file in files]
    begun = time.perf_counter()
    images = list(base.sample(pipeline, requests))
    seconds = (time.perf_counter() - begun) / len(images)
    for file, image in zip(files, images, strict=True):
        try:
            write_png(file, image, {"prompt": prompt, "seconds": f"{seconds:.4f}"})
        except OSError as error:
            raise UserError(
                f"Class images cannot be written to {file.parent} ({error.strerror}); set FC_BENCH_CACHE to a writable "
                "folder."
            ) from None


def _folder(base: BasePipeline, prompt: str) -> Path:
    """The cache folder of a prompt, named by a hash of everything that affects pixels, library versions included."""
    setting = base.setting
    libraries = {name: version(name) for name in ("torch", "diffusers", "transformers")}
    inputs = [
        setting.backbone.fingerprint("pipeline"),
        asdict(setting.sampler),
        setting.dtype,
        base.device.type,
        libraries,
        prompt,
    ]
    return cache_folder() / "class-images" / f"{setting.backbone.name}-{digest(inputs)[:16]}"


def _read(file: Path) -> Image.Image | None:
    """A cached class image; None if it is missing or damaged and has to be generated again."""
    try:
        with Image.open(file) as image:
            image.load()
            float(image.info["seconds"])
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, KeyError):
        return None
