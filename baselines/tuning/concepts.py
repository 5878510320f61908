"""What a customization is trained on: the subjects' photographs and, for prior preservation, class images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.tuning.class_images import ClassImages, class_images
from fc_bench.baselines.tuning.latents import Posteriors, encode, pixels, square
from fc_bench.baselines.tuning.loop import PICTURES, Draws
from fc_bench.errors import UserError
from fc_bench.model.articles import with_article
from fc_bench.protocols import Subject
from fc_bench.suites.photographs import read_photograph


def check_photographs(subject: Subject, count: int) -> None:
    """Raise UserError when the subject has fewer photographs."""
    if len(subject.photographs) < count:
        raise UserError(
            f"The subject {subject.id} has {len(subject.photographs)} photographs, tuning takes {count}; "
            f"add some or set the option photographs to {len(subject.photographs)}."
        )


def originals_of(subject: Subject, count: int) -> list[Image.Image]:
    """The subject's first `count` photographs; raises UserError when it has fewer."""
    check_photographs(subject, count)
    return [read_photograph(path) for path in subject.photographs[:count]]


def photographs_of(subject: Subject, count: int, side: int) -> list[Image.Image]:
    """The subject's first `count` photographs as squares of `side` pixels; raises UserError when it has fewer."""
    return [square(photograph, side) for photograph in originals_of(subject, count)]


@dataclass(frozen=True)
class Pictures:
    """Encoded pictures, each with its prompt."""

    posteriors: Posteriors
    prompts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompts)


def encoded(base: BasePipeline, parts: Sequence[tuple[Sequence[Image.Image], str]]) -> Pictures:
    """Pictures of several concepts, one after the other, each part with its prompt."""
    images = torch.stack([pixels(image) for part, _ in parts for image in part])
    prompts = [prompt for part, prompt in parts for _ in part]
    return Pictures(encode(base.vae, images), tuple(prompts))


def class_prompt(subject: Subject) -> str:
    """What the subject's class images show; the same for all methods, which share them."""
    return f"a photo of {with_article(subject.noun)}"


class ClassPictures:
    """Encoded class images by prompt, made when first needed and kept for all subjects of a run."""

    def __init__(self, base: BasePipeline, count: int) -> None:
        self._base = base
        self.count = count
        """Class images of each prompt; 0 for none."""
        self._stand_ins: list[Image.Image] | None = None
        self._encoded: dict[str, Pictures] = {}
        self._about: dict[str, dict[str, Any]] = {}
        self.seconds = 0.0
        """Seconds spent on drawing, reading and encoding class images since this object exists."""

    def of(self, subjects: Sequence[Subject]) -> Pictures | None:
        """The class images of each of the subjects' class nouns, one after the other; None when none are asked for."""
        if not self.count:
            return None
        found = [self._of(prompt) for prompt in dict.fromkeys(map(class_prompt, subjects))]
        posteriors = Posteriors(
            torch.cat([part.posteriors.mean for part in found]), torch.cat([part.posteriors.std for part in found])
        )
        return Pictures(posteriors, tuple(prompt for part in found for prompt in part.prompts))

    def stand_in(self, images: Sequence[Image.Image]) -> None:
        """Take these, as squares, for the class images of every prompt: what drawing them costs is not to be paid."""
        side = self._base.setting.sampler.resolution
        self._stand_ins = [square(image, side) for image in images]
        self._encoded.clear()

    def about(self, subjects: Sequence[Subject]) -> dict[str, dict[str, Any]]:
        """By prompt: which images the subjects were trained beside, and how long drawing them took once."""
        return {prompt: self._about[prompt] for prompt in map(class_prompt, subjects) if prompt in self._about}

    def _of(self, prompt: str) -> Pictures:
        if prompt not in self._encoded:
            begun = time.perf_counter()
            if self._stand_ins is None:
                drawn = class_images(self._base, prompt, self.count)
            else:
                drawn = ClassImages(self._stand_ins, 0.0)
            self._encoded[prompt] = encoded(self._base, [(drawn.images, prompt)])
            self._about[prompt] = {"count": len(drawn.images), "sha256": drawn.sha256, "seconds_to_draw": drawn.seconds}
            self.seconds += time.perf_counter() - begun
        return self._encoded[prompt]


def paired_rows(
    step: int, batch_size: int, draws: Draws, photographs: int, class_images: int
) -> tuple[list[int], list[int]]:
    """A step's rows of so many photographs and class images: epochs over the larger set, the other one repeats."""
    items = draws.items(step, batch_size, max(photographs, class_images))
    return [item % photographs for item in items], [item % class_images for item in items] if class_images else []


@dataclass(frozen=True)
class Examples:
    """Photographs, and class images beside them, of one customization."""

    photographs: Pictures
    class_pictures: Pictures | None

    def rows(self, step: int, batch_size: int, draws: Draws) -> tuple[list[int], list[int]]:
        """Rows of the step's photographs and of its class images."""
        prior = len(self.class_pictures) if self.class_pictures else 0
        return paired_rows(step, batch_size, draws, len(self.photographs), prior)

    def batch(self, step: int, batch_size: int, draws: Draws) -> tuple[Tensor, list[str], int]:
        """Latents of a step, their prompts, and how many of them are photographs (they come first)."""
        own, prior = self.rows(step, batch_size, draws)
        shape = (len(own) + len(prior), *self.photographs.posteriors.mean.shape[1:])
        noise = torch.randn(shape, generator=draws.torch(PICTURES, step)).to(self.photographs.posteriors.mean.device)
        latents = [self.photographs.posteriors.sample(own, noise[: len(own)])]
        prompts = [self.photographs.prompts[row] for row in own]
        if self.class_pictures is not None:
            latents.append(self.class_pictures.posteriors.sample(prior, noise[len(own) :]))
            prompts += [self.class_pictures.prompts[row] for row in prior]
        return torch.cat(latents), prompts, len(own)
