"""All random draws of training, as functions of the seed and the position in the stream of samples.

No generator has a state that a checkpoint must restore. Sample 1,000 is the same with or without an interruption or a
cache, and with any number of worker processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from fc_bench.model.errors import ModelInputError
from fc_bench.model.training.config import DataConfig
from fc_bench.model.training.dataset import Record

ORDER, SAMPLE, NOISE, CROP = range(4)
"""Identifiers of the kinds of draws, which separate their random streams."""


@dataclass(frozen=True)
class SubjectTable:
    """The subjects in each image, as needed for drawing samples."""

    counts: np.ndarray
    """Number of segments in each image, [images]."""
    subjects: np.ndarray
    """Identity of each segment as a number, -1 if it is missing or unknown, [images, segments]."""
    targets: int
    """Number of training targets, which are the first images; the other images are only references."""


def subject_table(targets: Sequence[Record], references: Sequence[Record]) -> SubjectTable:
    """The table of the training targets, followed by the images that are only references."""
    records = [*targets, *references]
    names = sorted({s.subject for record in records for s in record.segments if s.subject is not None})
    numbers = {name: number for number, name in enumerate(names)}
    counts = np.array([len(record.segments) for record in records])
    subjects = np.full((len(records), max(1, counts.max())), -1, dtype=np.int64)
    for row, record in enumerate(records):
        for slot, segment in enumerate(record.segments):
            subjects[row, slot] = numbers.get(segment.subject, -1) if segment.subject is not None else -1
    return SubjectTable(counts, subjects, len(targets))


@dataclass(frozen=True)
class Crop:
    """A reference crop, given by its image, its segment, and its draw of background and augmentation."""

    row: int
    slot: int
    variant: int

    def seed(self, seed: int) -> list[int]:
        """The seed of the crop's own generator."""
        return [seed, CROP, self.row, self.slot, self.variant]


@dataclass(frozen=True)
class SampleDraw:
    """One training sample: an image, its kept subjects (in caption order) and their references."""

    row: int
    unconditional: bool
    kept: tuple[int, ...]
    references: tuple[Crop, ...]


class SampleDraws:
    """The endless stream of training samples, in shuffled epochs, with the paper's random omissions.

    Raises ModelInputError if references come from other images, but an identity is unknown or is not in the reference
    split.
    """

    def __init__(self, table: SubjectTable, data: DataConfig, seed: int):
        self.table = table
        self.data = data
        self.seed = seed
        self._order = lru_cache(maxsize=2)(self._epoch_order)
        self._crops: dict[int, list[tuple[int, int]]] = {}
        if data.reference == "other-image":
            self._collect_crops()

    def _collect_crops(self) -> None:
        first = self.table.targets if self.data.reference_split is not None else 0
        for row in range(first, len(self.table.counts)):
            for slot in range(self.table.counts[row]):
                self._crops.setdefault(int(self.table.subjects[row, slot]), []).append((row, slot))
        for row in range(self.table.targets):
            for slot in range(self.table.counts[row]):
                subject = int(self.table.subjects[row, slot])
                if subject < 0 or subject not in self._crops:
                    raise ModelInputError(
                        f"{self.data.root}: image {row + 1} of the split {self.data.split!r} has a segment "
                        + (
                            'without "subject"'
                            if subject < 0
                            else f"whose subject is not in {self.data.reference_split!r}"
                        )
                        + ", which references from other images need; add it or set data.reference to same-image"
                    )

    def _epoch_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, ORDER, epoch]).permutation(self.table.targets)

    def sample(self, position: int) -> SampleDraw:
        """The sample at a position of the stream, counted from 0."""
        epoch, index = divmod(position, self.table.targets)
        row = int(self._order(epoch)[index])
        rng = np.random.default_rng([self.seed, SAMPLE, position])
        fate = rng.random()
        unconditional = fate < self.data.p_unconditional
        kept: list[int] = []
        if not unconditional and fate >= self.data.p_unconditional + self.data.p_text_only:
            kept = np.flatnonzero(rng.random(self.table.counts[row]) < self.data.p_keep_subject).tolist()
            if len(kept) > self.data.max_subjects:
                kept = sorted(rng.choice(kept, self.data.max_subjects, replace=False).tolist())
        return SampleDraw(row, unconditional, tuple(kept), tuple(self._reference(row, slot, rng) for slot in kept))

    def _reference(self, row: int, slot: int, rng: np.random.Generator) -> Crop:
        variant = int(rng.integers(self.data.variants or 2**31))
        if self.data.reference == "same-image":
            return Crop(row, slot, variant)
        crops = self._crops[int(self.table.subjects[row, slot])]
        others = [crop for crop in crops if crop[0] != row] or crops
        return Crop(*others[rng.integers(len(others))], variant)


@dataclass(frozen=True)
class NoiseDraw:
    """The draws of the diffusion process for one batch."""

    posterior: Tensor
    """Standard normal noise for sampling the VAE posterior, [batch, channels, height, width]."""
    noise: Tensor
    """Standard normal noise of the diffusion, with the shape of `posterior`."""
    timesteps: Tensor
    """Diffusion timesteps, [batch]."""
    masked: Tensor
    """True for samples with a masked denoising loss, [batch]."""

    def part(self, first: int, size: int) -> "NoiseDraw":
        """The draws of `size` samples in the batch, from index `first` on."""
        return NoiseDraw(*(getattr(self, field.name)[first : first + size] for field in fields(self)))


def draw_noise(
    seed: list[int], latent_shape: Sequence[int], num_timesteps: int, p_masked: float, stratified: bool
) -> NoiseDraw:
    """The draws of one batch with latents of shape `latent_shape` [batch, channels, height, width], on the CPU."""
    state = np.random.SeedSequence([seed[0], NOISE, *seed[1:]]).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))
    batch = latent_shape[0]
    posterior = torch.randn(*latent_shape, generator=generator)
    noise = torch.randn(*latent_shape, generator=generator)
    uniform = torch.rand(batch, generator=generator, dtype=torch.float64)
    if stratified:
        uniform = (torch.randperm(batch, generator=generator) + uniform) / batch
    timesteps = (uniform * num_timesteps).long().clamp(max=num_timesteps - 1)
    masked = torch.rand(batch, generator=generator) < p_masked
    return NoiseDraw(posterior, noise, timesteps, masked)
