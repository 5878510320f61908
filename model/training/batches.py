"""Training batches from image files, encoded with the frozen models for the training forward pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTokenizer

from fc_bench.model.autoencoder import posterior
from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.condition import Condition, Framing
from fc_bench.model.families.family import Family
from fc_bench.model.families.text import TextEncoders
from fc_bench.model.fastcomposer.forward import TrainingBatch, resize_latent_masks
from fc_bench.model.fastcomposer.localization import attention_masks
from fc_bench.model.fastcomposer.prompts import parse_prompt
from fc_bench.model.training.config import TrainingConfig
from fc_bench.model.training.dataset import (
    Record,
    read_image,
    read_segmentation,
    reference_crop,
    target_framing,
    target_masks,
    target_pixels,
    tokenize,
)
from fc_bench.model.training.draws import NoiseDraw, SampleDraw, SampleDraws, draw_noise


class BatchSource(Protocol):
    """A source of batches for the training loop."""

    def batches(self, start: int) -> Iterator[TrainingBatch]:
        """The endless stream of this process's batches, from number `start` on."""
        ...


@dataclass(frozen=True)
class Stream:
    """This process's share of the stream of samples, divided into batches."""

    draws: SampleDraws
    config: TrainingConfig
    num_timesteps: int
    process: int = 0
    processes: int = 1

    def samples(self, number: int) -> list[SampleDraw]:
        """The samples of batch `number`."""
        size = self.config.batch_size
        first = (number * self.processes + self.process) * size
        return [self.draws.sample(position) for position in range(first, first + size)]

    def noise(self, number: int, latent_shape: Sequence[int]) -> NoiseDraw:
        """The noise of batch `number`: this process's part of the common draw of all processes.

        Several processes therefore train like one process with a correspondingly larger batch. Timesteps are stratified
        over that larger batch.
        """
        size, config = latent_shape[0], self.config
        together = draw_noise(
            [config.seed, number],
            (self.processes * size, *latent_shape[1:]),
            self.num_timesteps,
            config.p_masked_loss,
            config.stratified_timesteps,
        )
        return together.part(self.process * size, size)

    @property
    def max_subjects(self) -> int:
        """Size of the subject axis of a batch."""
        return min(self.config.data.max_subjects, self.draws.table.subjects.shape[1])


class FrozenEncoders:
    """The frozen autoencoder and text encoders of a family, which encode images and captions."""

    def __init__(self, family: Family, vae: Any, text: TextEncoders, device: torch.device, half_vae: bool = False):
        self.family = family
        self.half_vae = half_vae
        """Whether images are encoded in bfloat16, as in the paper; the results are float32."""
        self.vae, self.text = vae, text
        for model in self.models.values():
            nn.Module.to(model.requires_grad_(False).eval(), device)
        self.device = device

    @property
    def models(self) -> dict[str, nn.Module]:
        """The models by the names of their parts."""
        names = [encoder.part for encoder in self.family.encoders]
        return {"vae": self.vae, **dict(zip(names, self.text.encoders, strict=True))}

    @torch.no_grad()
    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the unscaled latents of images [batch, 3, height, width] in -1..1."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half_vae):
            distribution = posterior(self.vae, pixels.to(self.device, self.vae.dtype))
        return distribution.mean.float(), distribution.std.float()

    @torch.no_grad()
    def condition(self, input_ids: Sequence[Tensor], blank: Sequence[bool] = ()) -> Condition:
        """The condition in float32 of token ids [batch, length], given for each encoder; see `Family.encode_tokens`."""
        return self.family.encode_tokens(self.text.encoders, input_ids, blank=blank).to(torch.float32)

    @property
    def scaling_factor(self) -> float:
        """The factor that scales latents for the UNet."""
        return self.family.latent_scale(self.vae)

    def release(self) -> None:
        """Move the models to the CPU, to free the device's memory."""
        for model in self.models.values():
            nn.Module.to(model, "cpu")

    @property
    def latent_channels(self) -> int:
        """Number of channels of the latents."""
        return self.vae.config["latent_channels"]

    def latent_size(self, resolution: int) -> tuple[int, int]:
        """Height and width of the latents of a square image."""
        side = resolution // 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        return side, side


@dataclass(frozen=True)
class RawBatch:
    """A batch as read from files; see TrainingBatch for the common fields."""

    number: int
    pixels: Tensor
    input_ids: tuple[Tensor, ...]
    """Token ids of the captions for each text encoder, [batch, length]."""
    blank: tuple[bool, ...]
    """Whether a caption is dropped, [batch]."""
    framings: tuple[Framing, ...]
    """What the pictures show of their images, [batch]."""
    image_tokens: Tensor
    subject_mask: Tensor
    references: Tensor
    masks: Tensor
    """Subjects' masks at the images' resolution, [batch, subjects, height, width]."""


class ImageFiles(Dataset[RawBatch]):
    """Batches from image files, by number; worker processes may read them."""

    def __init__(self, records: list[Record], tokenizers: Sequence[CLIPTokenizer], stream: Stream, reference_size: int):
        self.records = records
        self.tokenizers = tokenizers
        self.stream = stream
        self.reference_size = reference_size

    def __getitem__(self, number: int) -> RawBatch:
        config, samples = self.stream.config, self.stream.samples(number)
        resolution, slots = config.data.resolution, self.stream.max_subjects
        image_tokens = torch.zeros(len(samples), slots, dtype=torch.long)
        subject_mask = torch.zeros(len(samples), slots, dtype=torch.bool)
        masks = torch.zeros(len(samples), slots, resolution, resolution)
        pixels, input_ids, framings, references = [], [], [], []
        empty = parse_prompt("", self.tokenizers[0])
        for index, draw in enumerate(samples):
            record = self.records[draw.row]
            image = read_image(record)
            pixels.append(target_pixels(image, resolution))
            framings.append(target_framing(image, resolution))
            caption = tokenize(record, self.tokenizers[0])
            shown = empty if draw.unconditional else caption
            input_ids.append([shown.padded_for(tokenizer) for tokenizer in self.tokenizers])
            kept = [
                (slot, crop)
                for slot, crop in zip(draw.kept, draw.references, strict=True)
                if slot < len(caption.image_tokens)
            ]
            if not kept:
                continue
            segmentation = read_segmentation(record, (image.shape[1], image.shape[2]))
            segments = tuple(record.segments[slot] for slot, _ in kept)
            masks[index, : len(kept)] = target_masks(segmentation, segments, resolution)
            subject_mask[index, : len(kept)] = True
            for column, (slot, crop) in enumerate(kept):
                image_tokens[index, column] = caption.image_tokens[slot]
                source = self.records[crop.row]
                same = crop.row == draw.row
                source_image = image if same else read_image(source)
                shape = (source_image.shape[1], source_image.shape[2])
                source_map = segmentation if same else read_segmentation(source, shape)
                references.append(
                    reference_crop(
                        source_image,
                        source_map,
                        source.segments[crop.slot],
                        config.data,
                        self.reference_size,
                        crop.seed(config.seed),
                    )
                )
        size = self.reference_size
        return RawBatch(
            number,
            torch.stack(pixels),
            tuple(map(torch.stack, zip(*input_ids, strict=True))),
            tuple(draw.unconditional for draw in samples),
            tuple(framings),
            image_tokens,
            subject_mask,
            torch.stack(references) if references else torch.zeros(0, 3, size, size, dtype=torch.uint8),
            masks,
        )


class FileBatches:
    """Batches from image files without a cache: each step draws new augmentations and encodes its images."""

    def __init__(self, files: ImageFiles, encoders: FrozenEncoders, map_sizes: set[tuple[int, int]], workers: int):
        self.files = files
        self.encoders = encoders
        self.map_sizes = map_sizes
        self.workers = workers

    def batches(self, start: int) -> Iterator[TrainingBatch]:
        """The endless stream of this process's batches, from number `start` on."""
        return map(self.encode, numbered(self.files, start, self.workers))

    def encode(self, raw: RawBatch) -> TrainingBatch:
        """The training batch of encoded images and captions."""
        mean, std = self.encoders.posterior(raw.pixels)
        draw = self.files.stream.noise(raw.number, mean.shape)
        device = self.encoders.device
        size = (mean.shape[2], mean.shape[3])
        return TrainingBatch(
            latents=(mean + std * draw.posterior.to(device)) * self.encoders.scaling_factor,
            noise=draw.noise,
            timesteps=draw.timesteps,
            condition=self.encoders.family.framed(self.encoders.condition(raw.input_ids, raw.blank), raw.framings),
            image_tokens=raw.image_tokens,
            subject_mask=raw.subject_mask,
            references=raw.references,
            latent_masks=resize_latent_masks(raw.masks, size),
            attention_masks=attention_masks(raw.masks, self.map_sizes),
            masked=draw.masked,
        ).to(device)


def numbered(batches: Dataset[Any], start: int, workers: int) -> Iterator[Any]:
    """The endless stream of batches from number `start` on, prepared in advance by `workers` processes.

    Raises the ModelInputError of a batch that cannot be read.
    """
    loader: Any = DataLoader(
        ErrorsAsItems(batches), batch_size=None, sampler=_Numbers(start), num_workers=workers, collate_fn=_unchanged
    )
    for batch in loader:
        yield unwrap(batch)


class ErrorsAsItems(Dataset[Any]):
    """A dataset that returns ModelInputErrors as items, because worker processes wrap raised errors in tracebacks."""

    def __init__(self, items: Any):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.items[index]
        except ModelInputError as error:
            return error


def unwrap(item: Any) -> Any:
    """An item of ErrorsAsItems; raises the item if it is a ModelInputError."""
    if isinstance(item, ModelInputError):
        raise item
    return item


class _Numbers:
    """The endless sequence of batch numbers from a start on."""

    def __init__(self, start: int):
        self.start = start

    def __iter__(self) -> Iterator[int]:
        number = self.start
        while True:
            yield number
            number += 1


def _unchanged(batch: Any) -> Any:
    return batch
