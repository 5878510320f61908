"""The cache of a training set: the outputs of all frozen models and fixed crops, in memory-mapped arrays.

With the cache, a training step runs only the UNet, the post-fuse module and the trained vision layers, which makes
training on a CPU possible. Latents are stored as mean and standard deviation of their posterior, which is sampled at
every step.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPVisionModelWithProjection

from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.condition import Condition, Framing
from fc_bench.model.fastcomposer.forward import TrainingBatch, resize_latent_masks
from fc_bench.model.fastcomposer.localization import attention_masks
from fc_bench.model.fastcomposer.prompts import parse_prompt
from fc_bench.model.fastcomposer.references import lower_hidden_states, reference_size
from fc_bench.model.training.batches import ErrorsAsItems, FrozenEncoders, Stream, numbered, unwrap
from fc_bench.model.training.config import CacheConfig, TrainingConfig
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
from fc_bench.model.training.draws import Crop, SubjectTable

log = logging.getLogger(__name__)
VERSION = 2


@dataclass(frozen=True)
class Cache:
    """The arrays in a cache folder."""

    latent_mean: np.ndarray
    """Mean of the latents' posterior, [targets, channels, height, width]."""
    latent_std: np.ndarray
    """Standard deviation of the latents' posterior, [targets, channels, height, width]."""
    caption: np.ndarray
    """Row of each target's caption in text_embeds, [targets]; row 0 is the empty caption."""
    text_embeds: np.ndarray
    """`Condition.text` of the captions, [captions, length, features]."""
    pooled: np.ndarray | None
    """`Condition.pooled` of the captions, [captions, features]; None if the family's conditions have none."""
    time_ids: np.ndarray | None
    """`Condition.time_ids` of the targets, [targets, 6]; None if the family's conditions have none."""
    image_tokens: np.ndarray
    """Image token of each segment, -1 without one, [targets, segments]."""
    latent_masks: np.ndarray
    """Segments' masks at the latents' size, [targets, segments, height, width]."""
    attention_masks: dict[int, np.ndarray]
    """Number of pixels -> segments' masks at that size, [targets, segments, pixels]."""
    crop: np.ndarray
    """Row of each segment's crop in references, -1 without one, [images, segments]."""
    references: np.ndarray
    """Crops, uint8 [crops, variants, 3, size, size], or hidden states [crops, variants, tokens, width]."""


class CachedBatches(Dataset[TrainingBatch]):
    """Batches from a cache, by number; worker processes may read them."""

    def __init__(
        self,
        cache: Cache,
        stream: Stream,
        map_sizes: set[tuple[int, int]],
        scaling_factor: float,
        device: torch.device,
        workers: int,
    ):
        self.cache = cache
        self.stream = stream
        self.map_pixels = sorted(height * width for height, width in map_sizes)
        self.scaling_factor = scaling_factor
        self.device = device
        self.workers = workers

    def batches(self, start: int) -> Iterator[TrainingBatch]:
        """The endless stream of this process's batches, from number `start` on."""
        for batch in numbered(self, start, self.workers):
            yield batch.to(self.device)

    def __getitem__(self, number: int) -> TrainingBatch:
        cache, samples = self.cache, self.stream.samples(number)
        rows = np.array([draw.row for draw in samples])
        captions = np.where([draw.unconditional for draw in samples], 0, cache.caption[rows])
        shape = (len(samples), self.stream.max_subjects)
        image_tokens, present = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
        slots = np.zeros(shape, dtype=np.int64)
        references = []
        for index, draw in enumerate(samples):
            column = 0
            for slot, crop in zip(draw.kept, draw.references, strict=True):
                if cache.image_tokens[draw.row, slot] >= 0:
                    slots[index, column], present[index, column] = slot, True
                    image_tokens[index, column] = cache.image_tokens[draw.row, slot]
                    references.append((cache.crop[crop.row, crop.slot], crop.variant))
                    column += 1
        chosen = np.array(references, dtype=np.int64).reshape(-1, 2)
        mean, std = _tensor(cache.latent_mean[rows]), _tensor(cache.latent_std[rows])
        draw_of_batch = self.stream.noise(number, mean.shape)

        def masks(array: np.ndarray) -> Tensor:
            picked = array[rows[:, None], slots]
            return _tensor(np.where(present.reshape(*present.shape, *[1] * (picked.ndim - 2)), picked, 0))

        return TrainingBatch(
            latents=(mean + std * draw_of_batch.posterior) * self.scaling_factor,
            noise=draw_of_batch.noise,
            timesteps=draw_of_batch.timesteps,
            condition=Condition(
                _tensor(cache.text_embeds[captions]),
                None if cache.pooled is None else _tensor(cache.pooled[captions]),
                None if cache.time_ids is None else _tensor(cache.time_ids[rows]).float(),
            ),
            image_tokens=torch.from_numpy(image_tokens),
            subject_mask=torch.from_numpy(present),
            references=_tensor(cache.references[chosen[:, 0], chosen[:, 1]]),
            latent_masks=masks(cache.latent_masks),
            attention_masks={pixels: masks(cache.attention_masks[pixels]) for pixels in self.map_pixels},
            masked=draw_of_batch.masked,
        )


def _tensor(array: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.float() if tensor.is_floating_point() else tensor


class CacheBuilder:
    """Encodes a dataset into a cache folder, or opens an existing folder with the same content."""

    def __init__(
        self,
        config: TrainingConfig,
        cache: CacheConfig,
        records: list[Record],
        table: SubjectTable,
        encoders: FrozenEncoders,
        image_encoder: CLIPVisionModelWithProjection,
        map_sizes: set[tuple[int, int]],
    ):
        self.config = config
        self.cache = cache
        self.records = records
        self.table = table
        self.encoders = encoders
        self.image_encoder = image_encoder
        self.map_sizes = map_sizes
        self.partial = cache.folder.with_name(cache.folder.name + ".partial")

    def build(self) -> None:
        """Encode the dataset unless the folder already exists.

        Raises ModelInputError if the folder belongs to other data, models or settings.
        """
        fingerprint = self.fingerprint()
        if self.cache.folder.exists():
            meta = self.cache.folder / "cache.json"
            found = json.loads(meta.read_text(encoding="utf-8")) if meta.is_file() else None
            if found != fingerprint:
                differing = ", ".join(key for key in fingerprint if found is None or found.get(key) != fingerprint[key])
                raise ModelInputError(
                    f"the cache {self.cache.folder} belongs to other data, models or settings "
                    f"(different: {differing}): delete it or name another folder"
                )
            return
        log.info("encoding %d images into %s", len(self.records), self.cache.folder)
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        self._encode_captions()
        self._encode_images()
        (self.partial / "cache.json").write_text(json.dumps(fingerprint, indent=1), encoding="utf-8")
        self.partial.rename(self.cache.folder)

    def open(self) -> Cache:
        """The memory-mapped arrays of the folder."""

        def array(name: str) -> np.ndarray:
            return np.load(self.cache.folder / f"{name}.npy", mmap_mode="r")

        def optional(name: str) -> np.ndarray | None:
            return array(name) if (self.cache.folder / f"{name}.npy").is_file() else None

        return Cache(
            latent_mean=array("latent_mean"),
            latent_std=array("latent_std"),
            caption=array("caption"),
            text_embeds=array("text_embeds"),
            pooled=optional("pooled"),
            time_ids=optional("time_ids"),
            image_tokens=array("image_tokens"),
            latent_masks=array("latent_masks"),
            attention_masks={h * w: array(f"attention_masks_{h * w}") for h, w in self.map_sizes},
            crop=array("crop"),
            references=array("references"),
        )

    def fingerprint(self) -> dict[str, object]:
        """Everything that the arrays depend on; ids stand for the images and segmentation maps."""
        data = self.config.data
        content = [[r.id, r.caption, [[s.id, s.start, s.end, s.subject] for s in r.segments]] for r in self.records]
        models = {name: _digest(model) for name, model in self.encoders.models.items()}
        if self.cache.vision:
            trained = {name for name, weight in self.image_encoder.named_parameters() if weight.requires_grad}
            models["image_encoder"] = _digest(self.image_encoder, without=trained)
        return {
            "version": VERSION,
            "records": hashlib.sha256(json.dumps(content).encode()).hexdigest(),
            "targets": self.table.targets,
            "data": json.loads(data.model_dump_json(include={"resolution", "background", "augmentation", "variants"})),
            "other_images_only": data.reference_split is not None,
            "seed": self.config.seed,
            "dtype": self.cache.dtype,
            "vision": self.config.vision_layers if self.cache.vision else False,
            "reference_size": reference_size(self.image_encoder),
            "map_sizes": sorted(list(size) for size in self.map_sizes),
            "models": models,
        }

    def _array(self, name: str, shape: tuple[int, ...], dtype: str | None = None) -> np.ndarray:
        file = self.partial / f"{name}.npy"
        return np.lib.format.open_memmap(file, mode="w+", dtype=dtype or self.cache.dtype, shape=shape)

    def _encode_captions(self) -> None:
        targets, slots = self.table.targets, self.table.subjects.shape[1]
        caption, tokens = (
            self._array("caption", (targets,), "int64"),
            self._array("image_tokens", (targets, slots), "int16"),
        )
        tokens[:] = -1
        tokenizers = self.encoders.text.tokenizers
        empty = parse_prompt("", tokenizers[0])
        distinct, unique = [empty], {tuple(empty.input_ids.tolist()): 0}
        for row, record in enumerate(self.records[:targets]):
            tokenized = tokenize(record, tokenizers[0])
            caption[row] = unique.setdefault(tuple(tokenized.input_ids.tolist()), len(distinct))
            if caption[row] == len(distinct):
                distinct.append(tokenized)
            tokens[row, : len(tokenized.image_tokens)] = tokenized.image_tokens
        ids = [torch.stack([prompt.padded_for(tokenizer) for prompt in distinct]) for tokenizer in tokenizers]
        arrays: dict[str, np.ndarray] = {}
        for first in range(0, len(distinct), 256):
            part = slice(first, first + 256)
            blank = [row == 0 for row in range(len(distinct))[part]]
            condition = self.encoders.condition([own[part] for own in ids], blank)
            for name, found in (("text_embeds", condition.text), ("pooled", condition.pooled)):
                if found is not None:
                    if name not in arrays:
                        arrays[name] = self._array(name, (len(distinct), *found.shape[1:]))
                    arrays[name][part] = found.cpu().numpy()

    def _encode_images(self) -> None:
        table, data, size = self.table, self.config.data, reference_size(self.image_encoder)
        targets, slots = table.targets, table.subjects.shape[1]
        channels, (height, width) = self.encoders.latent_channels, self.encoders.latent_size(data.resolution)
        mean = self._array("latent_mean", (targets, channels, height, width))
        std = self._array("latent_std", (targets, channels, height, width))
        latent_masks = self._array("latent_masks", (targets, slots, height, width))
        map_masks = {h * w: self._array(f"attention_masks_{h * w}", (targets, slots, h * w)) for h, w in self.map_sizes}
        crop_rows = self._array("crop", (len(self.records), slots), "int64")
        crop_rows[:] = -1
        first_crop = targets if data.reference_split is not None else 0
        has_crop = (np.arange(len(self.records)) >= first_crop)[:, None] & (np.arange(slots) < table.counts[:, None])
        crop_rows[has_crop] = np.arange(has_crop.sum())
        variants = data.variants or 1
        references = self._reference_array((int(has_crop.sum()), variants), size)
        time_ids: np.ndarray | None = None
        reader = _Encodable(self.records, self.config, targets, has_crop, slots, size)
        loader: Any = DataLoader(
            ErrorsAsItems(reader),
            batch_size=self.cache.batch_size,
            num_workers=data.workers,
            collate_fn=_listed,
            shuffle=False,
        )
        for done, items in enumerate(loader):
            examples: list[_Example] = [unwrap(item) for item in items]
            rows = [example.row for example in examples if example.row < targets]
            if rows:
                masks = torch.stack([example.masks for example in examples if example.row < targets])
                pixels = torch.stack([example.pixels for example in examples if example.row < targets])
                batch_mean, batch_std = self.encoders.posterior(pixels)
                mean[rows], std[rows] = batch_mean.cpu().numpy(), batch_std.cpu().numpy()
                framings = [example.framing for example in examples if example.row < targets]
                if (found := self.encoders.family.time_ids(framings)) is not None:
                    if time_ids is None:
                        time_ids = self._array("time_ids", (targets, found.shape[1]), "int64")
                    time_ids[rows] = found.numpy()
                latent_masks[rows] = resize_latent_masks(masks, (height, width)).numpy()
                for pixels_of_map, resized in attention_masks(masks, self.map_sizes).items():
                    map_masks[pixels_of_map][rows] = resized.numpy()
            crops = [(crop_rows[e.row, slot], pictures) for e in examples for slot, pictures in e.crops.items()]
            if crops:
                stacked = torch.stack([pictures for _, pictures in crops])
                references[[row for row, _ in crops]] = self._encode_references(stacked)
            if done % 50 == 0:
                log.info("encoded %d of %d images", examples[-1].row + 1, len(self.records))

    def _reference_array(self, shape: tuple[int, int], size: int) -> np.ndarray:
        if not self.cache.vision:
            return self._array("references", (*shape, 3, size, size), "uint8")
        vision: Any = self.image_encoder.config
        tokens = (vision.image_size // vision.patch_size) ** 2 + 1
        return self._array("references", (*shape, tokens, vision.hidden_size))

    @torch.no_grad()
    def _encode_references(self, pictures: Tensor) -> np.ndarray:
        if not self.cache.vision:
            return pictures.numpy()
        upper = self.config.vision_layers
        assert upper != "all"  # excluded by the configuration
        pixels = pictures.flatten(0, 1).to(self.encoders.device).float() / 255
        hidden = lower_hidden_states(self.image_encoder, pixels, upper)
        return hidden.unflatten(0, pictures.shape[:2]).float().cpu().numpy()


@dataclass(frozen=True)
class _Example:
    row: int
    pixels: Tensor
    framing: Framing
    masks: Tensor
    crops: dict[int, Tensor]


class _Encodable(Dataset[_Example]):
    """The parts of each image that are to be encoded; worker processes may read them."""

    def __init__(
        self, records: list[Record], config: TrainingConfig, targets: int, has_crop: np.ndarray, slots: int, size: int
    ):
        self.records = records
        self.config = config
        self.targets = targets
        self.has_crop = has_crop
        self.slots = slots
        self.size = size

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, row: int) -> _Example:
        record, data = self.records[row], self.config.data
        image = read_image(record)
        segmentation = read_segmentation(record, (image.shape[1], image.shape[2]))
        masks = torch.zeros(self.slots, data.resolution, data.resolution)
        masks[: len(record.segments)] = target_masks(segmentation, record.segments, data.resolution)
        crops = {
            slot: torch.stack(
                [
                    reference_crop(
                        image, segmentation, segment, data, self.size, Crop(row, slot, variant).seed(self.config.seed)
                    )
                    for variant in range(data.variants or 1)
                ]
            )
            for slot, segment in enumerate(record.segments)
            if self.has_crop[row, slot]
        }
        framing = target_framing(image, data.resolution)
        return _Example(row, target_pixels(image, data.resolution), framing, masks, crops)


def _listed(items: list[Any]) -> list[Any]:
    return items


def _digest(model: torch.nn.Module, without: Collection[str] = ()) -> str:
    """sha256 of a model's weights, except those named in `without`."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if name in without:
            continue
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
