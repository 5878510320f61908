"""The training data of a customization: the subjects' photographs and, for prior preservation, class images."""

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
from fc_bench.baselines.tuning.latents import Posteriors, encode, framing, pixels, square
from fc_bench.baselines.tuning.loop import PICTURES, Draws
from fc_bench.errors import UserError
from fc_bench.model.articles import with_article
from fc_bench.model.families.condition import Framing
from fc_bench.protocols import Subject
from fc_bench.suites.photographs import read_photograph


def check_photographs(subject: Subject, count: int) -> None:
    """Raise UserError when the subject has fewer photographs."""
    if len(subject.photographs) < count:
        there = len(subject.photographs)
        raise UserError(
            f"The subject {subject.id} has {there} photograph{'s' if there != 1 else ''}, but tuning needs {count}; "
            f"add some or set the option photographs to {there}."
        )


def originals_of(subject: Subject, count: int) -> list[Image.Image]:
    """The subject's first `count` photographs; raises UserError when it has fewer."""
    check_photographs(subject, count)
    return [read_photograph(path) for path in subject.photographs[:count]]


@dataclass(frozen=True)
class Pictures:
    """Encoded pictures, each with its prompt and what it shows of its original."""

    posteriors: Posteriors
    prompts: tuple[str, ...]
    framings: tuple[Framing, ...]

    def __len__(self) -> int:
        return len(self.prompts)


def encode_pictures(base: BasePipeline, parts: Sequence[tuple[Sequence[Image.Image], str]], side: int) -> Pictures:
    """The encoded pictures of several concepts, one concept after the other; each concept has one prompt.

    Their centers are encoded as squares with this side in pixels.
    """
    images = torch.stack([pixels(square(image, side)) for part, _ in parts for image in part])
    prompts = tuple(prompt for part, prompt in parts for _ in part)
    framings = tuple(framing(image, side) for part, _ in parts for image in part)
    return Pictures(encode(base.family, base.vae, images), prompts, framings)


def class_prompt(subject: Subject) -> str:
    """The prompt of the subject's class images; it is the same for all methods, so that they share the images."""
    return f"a photo of {with_article(subject.noun)}"


class ClassPictures:
    """Encoded class images by prompt, prepared at their first use and kept for all subjects of a run."""

    def __init__(self, base: BasePipeline, count: int, side: int) -> None:
        self._base = base
        self._side = side
        self.count = count
        """Number of class images per prompt; 0 for none."""
        self._substitutes: list[Image.Image] | None = None
        self._encoded: dict[str, Pictures] = {}
        self._descriptions: dict[str, dict[str, Any]] = {}
        self.seconds = 0.0
        """Seconds that this object has spent on generating, reading and encoding class images."""

    def of(self, subjects: Sequence[Subject]) -> Pictures | None:
        """The class images of the subjects' class nouns, one noun after the other; None if `count` is 0."""
        if not self.count:
            return None
        found = [self._of(prompt) for prompt in dict.fromkeys(map(class_prompt, subjects))]
        posteriors = Posteriors(
            torch.cat([part.posteriors.mean for part in found]), torch.cat([part.posteriors.std for part in found])
        )
        prompts = tuple(prompt for part in found for prompt in part.prompts)
        return Pictures(posteriors, prompts, tuple(one for part in found for one in part.framings))

    def substitute(self, images: Sequence[Image.Image]) -> None:
        """Use these images, cropped to squares, as the class images of every prompt; none are generated."""
        self._substitutes = [square(image, self._base.setting.sampler.resolution) for image in images]
        self._encoded.clear()

    def describe(self, subjects: Sequence[Subject]) -> dict[str, dict[str, Any]]:
        """For each prompt: number and hash of the class images used, and the seconds that generating them took."""
        known = self._descriptions
        return {prompt: known[prompt] for prompt in map(class_prompt, subjects) if prompt in known}

    def _of(self, prompt: str) -> Pictures:
        if prompt not in self._encoded:
            begun = time.perf_counter()
            if self._substitutes is None:
                own = class_images(self._base, prompt, self.count)
            else:
                own = ClassImages(self._substitutes, 0.0)
            self._encoded[prompt] = encode_pictures(self._base, [(own.images, prompt)], self._side)
            self._descriptions[prompt] = {
                "count": len(own.images),
                "sha256": own.sha256,
                "seconds_to_draw": own.seconds,
            }
            self.seconds += time.perf_counter() - begun
        return self._encoded[prompt]


def paired_rows(
    step: int, batch_size: int, draws: Draws, photographs: int, class_images: int
) -> tuple[list[int], list[int]]:
    """Rows of the photographs and of the class images in one step; each list has `batch_size` entries.

    An epoch goes through the larger of the two sets, and the smaller one repeats. Without class images their list is
    empty.
    """
    items = draws.items(step, batch_size, max(photographs, class_images))
    return [item % photographs for item in items], [item % class_images for item in items] if class_images else []


@dataclass(frozen=True)
class Examples:
    """The photographs of one customization and, with prior preservation, its class images."""

    photographs: Pictures
    class_pictures: Pictures | None

    def rows(self, step: int, batch_size: int, draws: Draws) -> tuple[list[int], list[int]]:
        """Rows of the step's photographs and class images."""
        prior = len(self.class_pictures) if self.class_pictures else 0
        return paired_rows(step, batch_size, draws, len(self.photographs), prior)

    def batch(self, step: int, batch_size: int, draws: Draws) -> tuple[Tensor, list[str], list[Framing], int]:
        """Latents of a step, their prompts and framings, and the number of photographs, which come first."""
        own, prior = self.rows(step, batch_size, draws)
        shape = (len(own) + len(prior), *self.photographs.posteriors.mean.shape[1:])
        noise = torch.randn(shape, generator=draws.torch(PICTURES, step)).to(self.photographs.posteriors.mean.device)
        latents = [self.photographs.posteriors.sample(own, noise[: len(own)])]
        prompts = [self.photographs.prompts[row] for row in own]
        framings = [self.photographs.framings[row] for row in own]
        if self.class_pictures is not None:
            latents.append(self.class_pictures.posteriors.sample(prior, noise[len(own) :]))
            prompts += [self.class_pictures.prompts[row] for row in prior]
            framings += [self.class_pictures.framings[row] for row in prior]
        return torch.cat(latents), prompts, framings, len(own)
