"""Textual Inversion (arXiv 2208.01618) trains only the embedding of a new token that stands for the subject."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image, ImageOps
from pydantic import BaseModel, Field

from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.tuning.concepts import originals_of
from fc_bench.baselines.tuning.latents import encode, framing, pixels, square
from fc_bench.baselines.tuning.loop import AUGMENTATION, PICTURES, Batch, Draws, TuningResult
from fc_bench.baselines.tuning.method import Photographs, Steps, TunedMethod, TuningOptions
from fc_bench.baselines.tuning.text import single_token
from fc_bench.baselines.tuning.tokens import NewTokens, load_tokens, save_tokens, token_of, vectors_of
from fc_bench.model.settings import GradientNorm
from fc_bench.protocols import Checkpoints, Subject

FILE = "learned_embeds.safetensors"
FLIPPED_SHARE = 0.5
"""Share of the photographs that are mirrored, as in the diffusers example."""
TEMPLATES = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a close-up photo of the {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the small {}",
    "a photo of the weird {}",
    "a photo of the large {}",
    "a photo of a cool {}",
    "a photo of a small {}",
)
"""The training prompts of the paper (appendix E), a subset of CLIP's ImageNet templates."""


class TextualInversionOptions(TuningOptions):
    """Options; the defaults are those of the diffusers example: a learning rate of 5e-4 times the batch size of 4.

    As in the example, weight decay applies to the trained embedding. No other row of the embedding table changes.
    """

    steps: Steps = 3000
    learning_rate: float = Field(default=2e-3, gt=0)
    batch_size: Photographs = 4
    max_grad_norm: GradientNorm = None
    initializer: str | None = None
    """One-token word whose embedding initializes the new ones; None: the subject's class noun."""
    vectors: int = Field(default=1, ge=1, le=16)
    """Number of consecutive embeddings that represent the subject."""


class TextualInversion(TunedMethod):
    """Tunes each subject's embedding separately and loads those of a subject set together."""

    description: ClassVar[str] = "tunes the embedding of a new token; everything else is frozen"
    Options: ClassVar[type[BaseModel]] = TextualInversionOptions
    shared_parts: ClassVar[tuple[str, ...]] = ("vae", "unet", "text")

    @property
    def tunes_apart(self) -> bool:
        """Always true, because embeddings do not depend on each other."""
        return True

    @classmethod
    def words_for(cls, options: TextualInversionOptions, subject: Subject, position: int) -> str:
        """The new token: `<p03>`."""
        return token_of(subject)

    @classmethod
    def new_tokens(cls, options: TextualInversionOptions, subject: Subject) -> list[str]:
        """One token per vector."""
        return vectors_of(token_of(subject), options.vectors)

    @classmethod
    def check_words(
        cls, tokenizers: Sequence[Any], options: TextualInversionOptions, subjects: Sequence[Subject]
    ) -> None:
        """Raise UserError when the initializer, or the class noun that replaces it, is not exactly one token."""
        for subject in subjects:
            initial_token(tokenizers, options, subject)

    def train(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> list[TuningResult]:
        """Train one subject's embedding; write `learned_embeds.safetensors`."""
        (subject,) = subjects
        training = _Embedding(self.base, self.options, subject)
        tuned = self.tune(training, subjects, seed, checkpoints)
        save_tokens(self.base.family, training.tokens.rows, token_of(subject), artefact_folder / FILE)
        return [tuned]

    def load(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> Any:
        """The base model with the tokens of all subjects in its text encoders."""
        pipeline = self.base.pipeline(text=self.base.fresh_text())
        for subject, artefact in zip(subjects, artefacts, strict=True):
            load_tokens(self.base.family, pipeline, token_of(subject), artefact / FILE)
        return pipeline


def initial_token(tokenizers: Sequence[Any], options: TextualInversionOptions, subject: Subject) -> tuple[int, ...]:
    """Id in each tokenizer of the token that initializes a subject's new tokens.

    Raises UserError when its word is not one token.
    """
    if options.initializer is not None:
        return single_token(tokenizers, options.initializer, "The option initializer:")
    remedy = "set the option initializer to a word that is one token"
    return single_token(tokenizers, subject.noun, f"The class noun of {subject.id} as initializer:", remedy)


class _Embedding:
    """The training of new embeddings through the shared, frozen UNet.

    Photographs are mirrored at random, and each has a randomly drawn prompt template.
    """

    def __init__(self, base: BasePipeline, options: TextualInversionOptions, subject: Subject) -> None:
        start = initial_token(base.text.tokenizers, options, subject)
        vectors = vectors_of(token_of(subject), options.vectors)
        self.unet = base.unet
        self.tokens = NewTokens(base, vectors, [start] * len(vectors), options.gradient_checkpointing)
        self._options = options
        self._words = " ".join(vectors)
        originals, side = originals_of(subject, options.photographs), options.side(base.setting)
        photographs = [square(photograph, side) for photograph in originals]
        both: list[Image.Image] = [*photographs, *(ImageOps.mirror(photograph) for photograph in photographs)]
        self._family = base.family
        self._framings = [framing(photograph, side) for photograph in originals]
        self._posteriors = encode(base.family, base.vae, torch.stack([pixels(image) for image in both]))
        self._photographs = len(photographs)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The new embeddings."""
        options = self._options
        return [{"params": self.tokens.rows, "lr": options.learning_rate, "weight_decay": options.weight_decay}]

    def batch(self, step: int, draws: Draws) -> Batch:
        """The step's photographs with their prompts."""
        count = self._options.batch_size
        drawn = draws.numpy(AUGMENTATION, step)
        mirrored = drawn.random(count) < FLIPPED_SHARE
        prompts = [TEMPLATES[number].format(self._words) for number in drawn.integers(len(TEMPLATES), size=count)]
        items = draws.items(step, count, self._photographs)
        rows = [item + self._photographs * int(flip) for item, flip in zip(items, mirrored, strict=True)]
        shape = (count, *self._posteriors.mean.shape[1:])
        noise = torch.randn(shape, generator=draws.torch(PICTURES, step)).to(self._posteriors.mean.device)
        condition = self._family.framed(self.tokens.encode(prompts), [self._framings[item] for item in items])
        return Batch(self._posteriors.sample(rows, noise), condition, count)
