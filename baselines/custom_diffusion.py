"""Custom Diffusion (arXiv 2212.04488) trains the keys and values of cross-attention and a new token per subject."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from diffusers.models.attention_processor import CustomDiffusionAttnProcessor2_0
from pydantic import BaseModel, Field
from safetensors.torch import load_file, save_file
from torch import Tensor

from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.tuning.augmentation import (
    LARGEST,
    Rescaling,
    draw_rescaling,
    identity,
    rescale,
    rescaled_framing,
    valid_region,
)
from fc_bench.baselines.tuning.concepts import Pictures, originals_of, paired_rows
from fc_bench.baselines.tuning.latents import BATCH, Posteriors, encode, square
from fc_bench.baselines.tuning.loop import AUGMENTATION, PICTURES, Batch, Draws, TuningResult
from fc_bench.baselines.tuning.merge import caption_features, captions, mention_features, merge, whitening
from fc_bench.baselines.tuning.method import ClassImageCount, Photographs, Steps, TunedMethod, TuningOptions
from fc_bench.baselines.tuning.text import FrozenPrompts, single_token
from fc_bench.baselines.tuning.tokens import NewTokens, load_tokens, save_tokens, token_of
from fc_bench.errors import UserError
from fc_bench.model.errors import loading
from fc_bench.model.families.condition import Condition, Framing
from fc_bench.model.families.family import Family
from fc_bench.model.families.text import TextEncoders
from fc_bench.protocols import Checkpoints, Setting, Subject

FILE = "pytorch_custom_diffusion_weights.safetensors"
BEFORE = "photo of a"
"""The words before the mention in a photograph's prompt."""
BLOCK = BATCH
"""Rescaled photographs that are encoded together. A block spans at least one step."""


class CustomDiffusionOptions(TuningOptions):
    """Options; the defaults suit faces. The learning rate is 5e-6 times the four images of a step.

    Each step has two photographs and two class images.
    """

    steps: Steps = 750
    learning_rate: float = Field(default=2e-5, gt=0)
    batch_size: Photographs = 2
    initializers: tuple[str, str] = ("sks", "olis")
    """One-token words whose embeddings initialize the tokens of the first and the second subject. With
    two_subjects=merge, every subject uses the first word."""
    class_images: ClassImageCount = 200
    """Number of class images per class noun for prior preservation; 0 for none."""
    prior_weight: float = Field(default=1.0, ge=0)
    """Weight of the class images in the loss."""
    augmentation: bool = True
    """Whether photographs are randomly rescaled, with prompts that describe their size."""
    two_subjects: Literal["joint", "merge"] = "joint"
    """joint: train both subjects together; merge: train each alone and merge the weights in closed form (section
    3.2 of the paper)."""


class CustomDiffusion(TunedMethod):
    """Tunes cross-attention; mentions are `<p03> man`, prompts of photographs "photo of a <p03> man".

    A rescaled photograph's prompt also describes its size. The class images show "a photo of a man", as for every
    method with prior preservation, so all methods share them.
    """

    description: ClassVar[str] = "tunes the keys and values of cross-attention and a new token"
    Options: ClassVar[type[BaseModel]] = CustomDiffusionOptions

    def __init__(self, setting: Setting, options: CustomDiffusionOptions) -> None:
        super().__init__(setting, options)
        self._root = self._regularization() if options.two_subjects == "merge" else None

    @classmethod
    def remark(cls, options: CustomDiffusionOptions, subjects: int) -> str | None:
        """A remark for merged subjects, because published comparisons train two subjects jointly."""
        if subjects == 1 or options.two_subjects == "joint":
            return None
        return "subjects are tuned separately and merged in closed form; published comparisons train them jointly"

    @property
    def tunes_apart(self) -> bool:
        """True if the subjects' weights are merged."""
        return self.options.two_subjects == "merge"

    @property
    def step_period(self) -> int:
        """Number of steps whose rescaled photographs are encoded together."""
        return block_steps(self.options) if self.options.augmentation else 1

    @classmethod
    def words_for(cls, options: CustomDiffusionOptions, subject: Subject, position: int) -> str:
        """The new token and the class noun: `<p03> man`."""
        return f"{token_of(subject)} {subject.noun}"

    @classmethod
    def new_tokens(cls, options: CustomDiffusionOptions, subject: Subject) -> list[str]:
        """The subject's only new token."""
        return [token_of(subject)]

    @classmethod
    def check_words(
        cls, tokenizers: Sequence[Any], options: CustomDiffusionOptions, subjects: Sequence[Subject]
    ) -> None:
        """Raise UserError when an initializer that these subjects use is not exactly one token."""
        initial_tokens(tokenizers, options, 1 if options.two_subjects == "merge" else len(subjects))

    def train(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> list[TuningResult]:
        """Train on all subjects' photographs; write the keys and values, and one `token-<id>.safetensors` each."""
        training = _KeysAndValues(self.base, self.options, subjects, self.class_pictures.of(subjects))
        tuned = self.tune(training, subjects, seed, checkpoints, self.options.prior_weight)
        training.save(artefact_folder)
        return [tuned]

    def load(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> Any:
        """A pipeline with the tuned or merged keys and values in its UNet, and with the subjects' tokens.

        This equals the attention of training, which differs only in its gradients (it detaches the first token).
        """
        base, unet = self.base, self.base.fresh_unet()
        pipeline = base.pipeline(unet, base.fresh_text())
        homes = artefacts if len(artefacts) > 1 else [artefacts[0]] * len(subjects)
        for subject, artefact in zip(subjects, homes, strict=True):
            load_tokens(base.family, pipeline, token_of(subject), artefact / token_file(subject))
        tuned = [read_keys_and_values(base.family, unet, artefact / FILE) for artefact in artefacts]
        weights = tuned[0]
        if len(tuned) > 1:
            assert self._root is not None
            text = base.family.text_of(pipeline)
            text = TextEncoders(text.tokenizers, tuple(copy.deepcopy(encoder).float() for encoder in text.encoders))
            words = [mention_features(base.family, text, BEFORE, self.mention(s, 0)) for s in subjects]
            weights = merge({name: unet.get_parameter(name) for name in weights}, tuned, words, self._root)
        unet.load_state_dict(weights, strict=False)
        return pipeline

    def _regularization(self) -> Tensor:
        """The merge's regularization, which keeps the base model's behavior; the same for all subjects."""
        base, text = self.base, self.base.fresh_text(torch.float32)
        return whitening(caption_features(base.family, text, captions(base.family.text_features(base.folder))))


def block_steps(options: CustomDiffusionOptions) -> int:
    """Number of steps in a block; blocks start at its multiples, also after a training is resumed."""
    return max(1, BLOCK // options.batch_size)


def initial_tokens(tokenizers: Sequence[Any], options: CustomDiffusionOptions, subjects: int) -> list[tuple[int, ...]]:
    """Ids in each tokenizer of the tokens that initialize so many subjects.

    Raises UserError when a word is not exactly one token.
    """
    return [single_token(tokenizers, word, "The option initializers:") for word in options.initializers[:subjects]]


def token_file(subject: Subject) -> str:
    """Name of a token's file, without brackets, which some file systems do not allow."""
    return f"token-{subject.id}.safetensors"


def read_keys_and_values(family: Family, unet: Any, file: Path) -> dict[str, Tensor]:
    """The cross-attention weights in an artefact, by their names in the UNet.

    Raises UserError when their names or shapes differ from those of this UNet.
    """
    with loading(f"the artefact {file}"):
        stored = {name: tensor for name, tensor in load_file(file).items() if tensor.numel()}
    found = {name.replace(".processor", "").replace("_custom_diffusion", ""): tensor for name, tensor in stored.items()}
    wanted = {f"{name}.{layer}.weight" for name in family.cross_attention(unet) for layer in ("to_k", "to_v")}
    if found.keys() != wanted:
        odd = min(found.keys() ^ wanted)
        problem = "has the unexpected weight" if odd in found else "does not have the weight"
        raise UserError(f"The artefact {file} {problem} {odd}: it belongs to another UNet; customize again.")
    for name, tensor in found.items():
        if tensor.shape != unet.get_parameter(name).shape:
            raise UserError(
                f"The artefact {file} has {name} in another shape: it belongs to another UNet; customize again."
            )
    return found


def install_processors(family: Family, unet: Any) -> dict[str, CustomDiffusionAttnProcessor2_0]:
    """Install diffusers' Custom Diffusion processors in a UNet's cross-attention; returns them by processor name.

    They start from the UNet's own weights, in float32.
    """
    installed: dict[str, Any] = {}
    for name in family.cross_attention(unet):
        layer: Any = unet.get_submodule(name)
        outputs, inputs = layer.to_k.weight.shape
        processor = CustomDiffusionAttnProcessor2_0(True, False, outputs, inputs)
        processor.load_state_dict(
            {f"{own}_custom_diffusion.weight": layer.get_parameter(f"{own}.weight") for own in ("to_k", "to_v")}
        )
        installed[f"{name}.processor"] = processor.to(unet.device)
    unet.set_attn_processor({**unet.attn_processors, **installed})
    return installed


@dataclass(frozen=True)
class _Block:
    """Photographs as a training step sees them, one per row: posteriors of latents, valid regions and so on."""

    posteriors: Posteriors
    masks: Tensor
    prompts: list[str]
    framings: list[Framing]


class _KeysAndValues:
    """The training of a separate UNet's cross-attention keys and values, and of the subjects' tokens."""

    def __init__(
        self,
        base: BasePipeline,
        options: CustomDiffusionOptions,
        subjects: Sequence[Subject],
        class_pictures: Pictures | None,
    ) -> None:
        self._base = base
        self._options = options
        self._subjects = subjects
        self._canvas = options.side(base.setting)
        starts = initial_tokens(base.text.tokenizers, options, len(subjects))
        self.tokens = NewTokens(
            base, [token_of(subject) for subject in subjects], starts, options.gradient_checkpointing
        )
        self.unet = base.fresh_unet()
        self.processors = install_processors(base.family, self.unet)
        originals = [(subject, photo) for subject in subjects for photo in originals_of(subject, options.photographs)]
        largest = int(LARGEST * self._canvas)
        self._originals = [photo for _, photo in originals]
        self._photographs = [square(photo, min(largest, *photo.size)) for photo in self._originals]
        self._prompts = [f"{BEFORE} {token_of(subject)} {subject.noun}" for subject, _ in originals]
        self._class_pictures = class_pictures
        self._class_text = FrozenPrompts(base.family, base.text)
        self._block: tuple[int, _Block] | None = None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Keys and values, and the embeddings of the tokens, with one learning rate.

        The embeddings have no weight decay, because decay toward 0 would move them away from the other words. (In the
        diffusers example, their decay shrinks the whole embedding table.)
        """
        rate = self._options.learning_rate
        weights = [parameter for processor in self.processors.values() for parameter in processor.parameters()]
        return [
            {"params": weights, "lr": rate, "weight_decay": self._options.weight_decay},
            {"params": self.tokens.rows, "lr": rate, "weight_decay": 0.0},
        ]

    def batch(self, step: int, draws: Draws) -> Batch:
        """The step's rescaled photographs and class images with their prompts."""
        own, prior = self._rows(step, draws)
        block, rows = self._photographs_of_step(step, own, draws)
        count = len(rows)
        shape = (count + len(prior), *block.posteriors.mean.shape[1:])
        noise = torch.randn(shape, generator=draws.torch(PICTURES, step)).to(self._base.device)
        latents = [block.posteriors.sample(rows, noise[:count])]
        conditions = [self.tokens.encode([block.prompts[row] for row in rows])]
        framings = [block.framings[row] for row in rows]
        if self._class_pictures is not None:
            latents.append(self._class_pictures.posteriors.sample(prior, noise[count:]))
            conditions.append(self._class_text([self._class_pictures.prompts[row] for row in prior]))
            framings += [self._class_pictures.framings[row] for row in prior]
        condition = self._base.family.framed(Condition.cat(conditions), framings)
        return Batch(torch.cat(latents), condition, count, block.masks[rows])

    def save(self, folder: Path) -> None:
        """Write the artefact in diffusers' format.

        diffusers' `load_attn_procs` needs an entry for self-attention layers, which have no weights. Its own
        `save_attn_procs` omits that entry in safetensors files. Here an empty tensor is written for each layer.
        """
        weights = {
            f"{name}.{key}": value for name, p in self.processors.items() for key, value in p.state_dict().items()
        }
        bare = {name: torch.empty(0) for name in self.unet.attn_processors if name not in self.processors}
        stored = {name: tensor.detach().to("cpu", self._base.dtype).contiguous() for name, tensor in weights.items()}
        save_file({**stored, **bare}, folder / FILE, metadata={"format": "pt"})
        for number, subject in enumerate(self._subjects):
            rows = [own[number] for own in self.tokens.rows]
            save_tokens(self._base.family, rows, token_of(subject), folder / token_file(subject))

    def _rows(self, step: int, draws: Draws) -> tuple[list[int], list[int]]:
        classes = len(self._class_pictures) if self._class_pictures else 0
        return paired_rows(step, self._options.batch_size, draws, len(self._photographs), classes)

    def _photographs_of_step(self, step: int, own: list[int], draws: Draws) -> tuple[_Block, list[int]]:
        """The encoded photographs and the rows that this step uses."""
        if not self._options.augmentation:
            if self._block is None:
                everyone = list(range(len(self._photographs)))
                self._block = (0, self._encode(everyone, [identity(self._canvas)] * len(everyone)))
            return self._block[1], own
        steps = block_steps(self._options)
        index, position = divmod(step, steps)
        if self._block is None or self._block[0] != index:
            self._block = (index, self._rescale(range(index * steps, (index + 1) * steps), draws))
        return self._block[1], list(range(position * len(own), (position + 1) * len(own)))

    def _rescale(self, steps: range, draws: Draws) -> _Block:
        """The photographs of a block of steps, each with its own rescaling."""
        rows, rescalings = [], []
        for step in steps:
            generator = draws.numpy(AUGMENTATION, step)
            for row in self._rows(step, draws)[0]:
                rows.append(row)
                rescalings.append(draw_rescaling(generator, self._canvas))
        return self._encode(rows, rescalings)

    def _encode(self, rows: list[int], rescalings: list[Rescaling]) -> _Block:
        pairs = list(zip(rows, rescalings, strict=True))
        pictures = torch.stack([rescale(self._photographs[row], rescaling, self._canvas) for row, rescaling in pairs])
        posteriors = encode(self._base.family, self._base.vae, pictures)
        cells = posteriors.mean.shape[-1]
        masks = torch.stack([valid_region(rescaling, self._canvas, cells) for rescaling in rescalings])
        prompts = [rescaling.prefix + self._prompts[row] for row, rescaling in pairs]
        framings = [rescaled_framing(self._originals[row], rescaling, self._canvas) for row, rescaling in pairs]
        return _Block(posteriors, masks.to(self._base.device), prompts, framings)
